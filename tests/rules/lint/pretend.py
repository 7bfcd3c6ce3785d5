"""A machine that is only said to be, the one of docs/lint.md."""

from __future__ import annotations

import stat

from gpa.rules.lint.machine import Group, Program, Writer

USERS = {"root": 0, "backup": 34, "alice": 1000}
GROUPS = {
    "readers": Group(100, frozenset({1000})),
    "empty": Group(101, frozenset()),
    "staff": Group(50, frozenset({34})),
}
PLAIN = stat.S_IFREG | 0o755
PROGRAMS = {
    "/usr/bin/restic": Program(mode=PLAIN),
    "/usr/bin/python3.11": Program(mode=PLAIN),
    "/usr/bin/sudo": Program(mode=PLAIN),
    "/usr/bin/editor": Program(mode=PLAIN, link="/usr/bin/editor", real="/usr/bin/vim.basic"),
    "/usr/bin/run": Program(mode=PLAIN, link="/usr/bin/run", real="/usr/bin/perl5.36"),
    "/usr/bin/passwd": Program(mode=PLAIN | stat.S_ISUID),
    "/usr/local/bin/report": Program(mode=PLAIN, script=True),
    "/mnt/share/tool": Program(foreign="nfs4"),
    "/home/alice/tool": Program(mode=PLAIN, writers=(Writer("/home/alice/tool", uid=1000),)),
    "/opt/team/tool": Program(mode=PLAIN, writers=(Writer("/opt/team", gid=50),)),
    "/opt/open/tool": Program(mode=PLAIN, writers=(Writer("/opt/open"),)),
    "/root/tool": Program(hidden="Permission denied"),
}


class PretendMachine:
    """A `machine.Machine` from the tables above."""

    def user(self, name: str) -> int | None:
        return USERS.get(name)

    def user_name(self, uid: int) -> str:
        return next(name for name, number in USERS.items() if number == uid)

    def group(self, name: str) -> Group | None:
        return GROUPS.get(name)

    def members(self, gid: int) -> frozenset[int]:
        return next(group.members for group in GROUPS.values() if group.gid == gid)

    def program(self, path: str) -> Program:
        found = PROGRAMS.get(path, Program(trouble="there is no such file"))
        return found if found.real else found._replace(real=path)

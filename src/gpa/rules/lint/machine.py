"""The machine on which rules are to hold, as far as checks ask: users, groups, programs.

This machine, or the root folder of an image, whose links are followed within it. Nothing is opened
but the first bytes of a program; nothing is touched on a file system that may hang.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from gpa.rules.executables import mount_over, read_mounts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpa.rules.executables import Mount

MAX_LINKS: Final = 40
"""As many as the kernel follows."""

MAX_DATABASE: Final = 4 << 20
"""Bytes of an image's passwd or group that are read."""


class Group(NamedTuple):
    """A group: its id, and the uids that are in it."""

    gid: int
    members: frozenset[int]


class Writer(NamedTuple):
    """Who can change a file or what is in a folder.

    Attributes:
        path: the file or folder.
        uid: its owner.
        gid: or its group.
    Both are None where anybody can.
    """

    path: str
    uid: int | None = None
    gid: int | None = None


class Program(NamedTuple):
    """What is at a path.

    Attributes:
        trouble: why there is no program; empty when there is one.
        hidden: why it cannot be seen from here; empty when it can.
        foreign: kind of the file system, if rules on executables do not hold on it.
        link: first part of the path that is a link; empty without one.
        real: the path without links; empty when nothing is there.
        script: it begins with `#!`.
        mode: type and permissions.
        writers: who can change it, root aside.
    """

    trouble: str = ""
    hidden: str = ""
    foreign: str = ""
    link: str = ""
    real: str = ""
    script: bool = False
    mode: int = 0
    writers: tuple[Writer, ...] = ()


class Machine(Protocol):
    """What checks ask."""

    def user(self, name: str) -> int | None:
        """The uid of exactly this name."""

    def user_name(self, uid: int) -> str:
        """A name for a message."""

    def group(self, name: str) -> Group | None:
        """The group of exactly this name."""

    def members(self, gid: int) -> frozenset[int]:
        """Uids in a group, by its id."""

    def program(self, path: str) -> Program:
        """What is at a full path."""


class _Files:
    """Programs below a root folder."""

    def __init__(self, root: str, mounts: list[Mount]) -> None:
        self._root = root
        self._mounts = mounts
        self._known: dict[str, Program] = {}

    def program(self, path: str) -> Program:
        """See `Machine`."""
        if path not in self._known:
            self._known[path] = self._look(path)
        return self._known[path]

    def _look(self, path: str) -> Program:
        if not path.startswith("/") or "\0" in path:
            return Program(trouble="not the full path of a file")
        if (mount := mount_over(path, self._mounts)) and mount.foreign:
            return Program(foreign=mount.kind, real=path)
        try:
            real, link = self._resolve(path)
            if (mount := mount_over(real, self._mounts)) and mount.foreign:
                return Program(foreign=mount.kind, link=link, real=real)
            info = os.lstat(self._root + real)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM):
                return Program(hidden=os.strerror(error.errno))
            return Program(trouble="there is no such file")
        except UnicodeEncodeError:
            return Program(trouble="no file has such a name")
        mode = info.st_mode
        trouble = ""
        if not stat.S_ISREG(mode):
            trouble = "it is not a plain file"
        elif not mode & 0o111:
            trouble = "it is not executable"
        script = not trouble and self._begins(real) == b"#!"
        writers = tuple(self._writers(real, info))
        return Program(trouble, "", "", link, real, script, mode, writers)

    def _resolve(self, path: str) -> tuple[str, str]:
        """The path without links, and the first link that was met."""
        first, links = "", 0
        done: list[str] = []
        ahead = [part for part in reversed(path.split("/")) if part not in ("", ".")]
        while ahead:
            part = ahead.pop()
            if part == "..":
                del done[-1:]
                continue
            here = "/".join(("", *done, part))
            if (mount := mount_over(here, self._mounts)) and mount.foreign:
                return "/".join(("", *done, part, *reversed(ahead))), first
            if not stat.S_ISLNK(os.lstat(self._root + here).st_mode):
                done.append(part)
                continue
            first, links = first or here, links + 1
            if links > MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            target = os.readlink(self._root + here)  # noqa: PTH115 - a Path would tidy it
            if target.startswith("/"):
                done.clear()
            ahead += [part for part in reversed(target.split("/")) if part not in ("", ".")]
        return "/".join(("", *done)), first

    def _begins(self, real: str) -> bytes:
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
        try:
            fd = os.open(self._root + real, flags)
        except OSError:
            return b""  # executable, and not to be read by us
        try:
            return os.read(fd, 2)
        finally:
            os.close(fd)

    def _writers(self, real: str, info: os.stat_result) -> Iterator[Writer]:
        yield from _who_writes(real, info)
        folder = real
        while folder != "/":
            folder = folder.rpartition("/")[0] or "/"
            yield from _who_writes(folder, os.lstat(self._root + folder))


def _who_writes(path: str, info: os.stat_result) -> Iterator[Writer]:
    if info.st_uid != 0:
        yield Writer(path, uid=info.st_uid)
    if info.st_mode & stat.S_ISVTX and stat.S_ISDIR(info.st_mode):
        return  # in it nobody can replace what another owns
    if info.st_mode & stat.S_IWOTH:
        yield Writer(path)
    elif info.st_mode & stat.S_IWGRP and info.st_gid != 0:
        yield Writer(path, gid=info.st_gid)


class ThisMachine(_Files):
    """Where we run."""

    def __init__(self) -> None:
        try:
            mounts = read_mounts(Path("/proc/self/mountinfo").read_text(errors="surrogateescape"))
        except OSError:
            mounts = []
        super().__init__("", mounts)

    def user(self, name: str) -> int | None:
        """See `Machine`."""
        try:
            entry = pwd.getpwnam(name)
        except (KeyError, ValueError):
            return None
        return entry.pw_uid if entry.pw_name == name else None

    def user_name(self, uid: int) -> str:
        """See `Machine`."""
        try:
            return pwd.getpwuid(uid).pw_name
        except KeyError:
            return f"uid {uid}"

    def group(self, name: str) -> Group | None:
        """See `Machine`."""
        try:
            entry = grp.getgrnam(name)
        except (KeyError, ValueError):
            return None
        return Group(entry.gr_gid, self._members(entry)) if entry.gr_name == name else None

    def members(self, gid: int) -> frozenset[int]:
        """See `Machine`."""
        try:
            return self._members(grp.getgrgid(gid))
        except KeyError:
            return frozenset()

    def _members(self, entry: grp.struct_group) -> frozenset[int]:
        listed = {uid for name in entry.gr_mem if (uid := self.user(name)) is not None}
        return frozenset(listed | {u.pw_uid for u in pwd.getpwall() if u.pw_gid == entry.gr_gid})


class Image(_Files):
    """A root folder: of an image that is mounted, or of a container."""

    def __init__(self, root: Path) -> None:
        super().__init__(str(root).rstrip("/"), [])

    @cached_property
    def _users(self) -> dict[str, tuple[int, int]]:
        """Uid and primary group by name."""
        return {f[0]: (int(f[2]), int(f[3])) for f in self._rows("/etc/passwd", 4)}

    @cached_property
    def _groups(self) -> dict[str, tuple[int, tuple[str, ...]]]:
        """Id and listed members by name."""
        rows = self._rows("/etc/group", 4)
        return {f[0]: (int(f[2]), tuple(filter(None, f[3].split(",")))) for f in rows}

    def user(self, name: str) -> int | None:
        """See `Machine`."""
        found = self._users.get(name)
        return found[0] if found else None

    def user_name(self, uid: int) -> str:
        """See `Machine`."""
        names = [name for name, (number, _) in self._users.items() if number == uid]
        return names[0] if names else f"uid {uid}"

    def group(self, name: str) -> Group | None:
        """See `Machine`."""
        found = self._groups.get(name)
        return Group(found[0], self.members(found[0])) if found else None

    def members(self, gid: int) -> frozenset[int]:
        """See `Machine`."""
        listed = {
            self._users[name][0]
            for number, names in self._groups.values()
            if number == gid
            for name in names
            if name in self._users
        }
        return frozenset(listed | {uid for uid, primary in self._users.values() if primary == gid})

    def _rows(self, path: str, columns: int) -> list[list[str]]:
        """Rows of a database below the root whose ids are numbers; none where it is missing."""
        try:
            real, _ = self._resolve(path)
            with Path(self._root + real).open("rb") as file:
                text = file.read(MAX_DATABASE).decode(errors="surrogateescape")
        except OSError:
            return []
        rows = [line.split(":") for line in text.splitlines()]
        return [
            row
            for row in rows
            if len(row) >= columns
            and row[2].isdecimal()
            and (row[3].isdecimal() or path == "/etc/group")
        ]

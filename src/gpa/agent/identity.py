"""Names for numbers in records: users, groups, programs, units. For people; nothing here decides.

Blocking (NSS may ask the network), so it is called in a worker thread. Every cache is bounded.
A process is looked at only while the start time that the kernel captured still holds, so that a
reused pid is never described as another's.
"""

from __future__ import annotations

import grp
import os
import pwd
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gpa.agent import redact
from gpa.agent.cgroup import Paths
from gpa.rules import units

USERS_KEPT: Final = 1024
PROCESSES_KEPT: Final = 1024
UNITS_KEPT: Final = 1024
"""Entries in memory; some 300 bytes each."""

USER_SECONDS: Final = 300.0
"""How long a user's name is believed; rules are resolved elsewhere."""

Exe = tuple[int, int, int, int]
"""Device, inode number, change time in s and ns, as in `CallerFields`."""

NS_PER_TICK: Final = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class User:
    """A user as the user database knows it.

    Attributes:
        groups: None where they cannot be told.
    """

    name: str
    groups: tuple[str, ...] | None


@dataclass(frozen=True)
class Program:
    """What /proc tells of a process."""

    path: str
    command_line: str


class Names:
    """The caches."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._cgroups = Paths()
        self._units: OrderedDict[int, units.Unit] = OrderedDict()
        self._users: OrderedDict[int, tuple[float, User | None]] = OrderedDict()
        self._programs: OrderedDict[tuple[int, int], Program | None] = OrderedDict()

    def user(self, uid: int) -> User | None:
        """Name and groups of a uid; None where the user database does not know it."""
        now = time.monotonic()
        cached = self._users.get(uid)
        if cached is not None and now - cached[0] < USER_SECONDS:
            return cached[1]
        user = _look_up(uid)
        self._users[uid] = (now, user)
        self._users.move_to_end(uid)
        if len(self._users) > USERS_KEPT:
            self._users.popitem(last=False)
        return user

    def unit(self, cgroup_id: int) -> units.Unit:
        """Unit and container of a cgroup, once: its id is never another's, and it never moves."""
        cached = self._units.get(cgroup_id)
        if cached is not None:
            self._units.move_to_end(cgroup_id)
            return cached
        unit = units.parse(self._cgroups.path(cgroup_id))
        self._units[cgroup_id] = unit
        if len(self._units) > UNITS_KEPT:
            self._units.popitem(last=False)
        return unit

    def program(self, tgid: int, start_boottime: int, exe: Exe | None = None) -> Program | None:
        """Path and redacted command line of the process, once for its life; None where it has gone
        before it was looked at.

        Args:
            exe: what the kernel saw it run. Another program by now is not named: the pid is
                another's within the same tick of its start, or the process has executed it since.
        """
        key = (tgid, start_boottime)
        if key in self._programs:
            self._programs.move_to_end(key)
            return self._programs[key]
        program = self._read(tgid, start_boottime, exe)
        self._programs[key] = program
        if len(self._programs) > PROCESSES_KEPT:
            self._programs.popitem(last=False)
        return program

    def seen(self, tgid: int, start_boottime: int) -> bool:
        """True when the process has been described before."""
        return (tgid, start_boottime) in self._programs

    def _read(self, tgid: int, start_boottime: int, exe: Exe | None) -> Program | None:
        folder = self._proc / str(tgid)
        try:
            if not is_same(folder, start_boottime):
                return None
            path = str((folder / "exe").readlink())
            if exe is not None and _ctime(folder / "exe") != exe[2:]:
                return None
            raw = _read_bounded(folder / "cmdline", 4 * redact.CMDLINE_LIMIT)
            # The pid could have been given to another between the two looks.
            if not is_same(folder, start_boottime):
                return None
        except OSError:
            return None
        words = raw.decode("utf-8", "backslashreplace").replace("\0", " ").rstrip()
        return Program(path[: redact.CMDLINE_LIMIT], redact.command_line(words))


def is_same(folder: Path, start_boottime: int) -> bool:
    """Whether the process in this folder of /proc is the one that started then."""
    stat = _read_bounded(folder / "stat", 4096)
    # The name in parentheses may hold anything, spaces and parentheses too.
    fields = stat[stat.rindex(b")") + 2 :].split() if b")" in stat else []
    if len(fields) < 20:
        return False
    return int(fields[19]) == start_boottime // NS_PER_TICK


def _ctime(path: Path) -> tuple[int, int]:
    """Of the file: on overlayfs and btrfs device and inode number are not what the kernel saw."""
    return divmod(path.stat().st_ctime_ns, 1_000_000_000)


def _look_up(uid: int) -> User | None:
    try:
        entry = pwd.getpwuid(uid)
    except (KeyError, OSError):
        return None
    return User(entry.pw_name, _groups(entry.pw_name, entry.pw_gid))


def _groups(name: str, gid: int) -> tuple[str, ...] | None:
    try:
        gids = os.getgrouplist(name, gid)[:64]
    except OSError:
        return None
    return tuple(_group(one) for one in gids)


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except (KeyError, OSError):
        return str(gid)


def _read_bounded(path: Path, limit: int) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, limit)
    finally:
        os.close(fd)

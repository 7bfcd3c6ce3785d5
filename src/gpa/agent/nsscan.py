"""Which network namespaces exist beside our own, and by which path one gets there.

A namespace that nothing names is found by its processes, one that has no process yet by its mount
(`ip netns add`, container runtimes). /proc/self/mountinfo says by itself when mounts have changed,
whatever folder a runtime keeps them in.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

INITIAL_PIDNS: Final = 0xEFFFFFFC
"""Inode number of the initial pid namespace (`PROC_PID_INIT_INO`, Linux 3.8)."""

_NSFS: Final = re.compile(r"^\S+ \S+ \S+ net:\[(\d+)\] (\S+) .* - nsfs ")
_OCTAL: Final = re.compile(r"\\([0-7]{3})")


class Home(NamedTuple):
    """One namespace.

    Attributes:
        path: a file of nsfs that leads into it.
        uid: whose it is: root's where it has a name, else of a process in it.
        wanted: somebody there may be seen by our programs.
    """

    path: str
    uid: int
    wanted: bool


class Scope(NamedTuple):
    """What our programs see.

    Attributes:
        cgroup: path of `cgroupRoot` in its hierarchy, "/" for all of it.
        everything: it is the root of the machine's hierarchy, so that a namespace without a
            process will be seen as well.
    """

    cgroup: str
    everything: bool


def scan(own: int, scope: Scope, proc: Path = Path("/proc")) -> dict[int, Home]:
    """The namespaces that a process or a mount keeps alive, by inode number. Blocking.

    Args:
        own: inode number of ours, which is left out.
        scope: decides what is wanted.
        proc: where procfs is.
    """
    homes: dict[int, Home] = {}
    for inum, path in _named(proc):
        if inum != own:
            homes[inum] = Home(path, 0, scope.everything)
    for process in _processes(proc):
        with contextlib.suppress(OSError):  # it has ended
            path = f"{process}/ns/net"
            inum = inum_of(path)
            known = homes.get(inum)
            if inum == own or (known is not None and known.wanted):
                continue
            folder = Path(process)
            if _is_below(folder, scope.cgroup):
                homes[inum] = Home(path, _real_uid(folder), wanted=True)
            elif known is None:
                homes[inum] = Home(path, 0, wanted=False)
    return homes


def tables(inum: int, proc: Path = Path("/proc")) -> Path:
    """`/proc/PID/net` of a process in that namespace; a path to nothing where there is none."""
    for process in _processes(proc):
        with contextlib.suppress(OSError):
            if inum_of(f"{process}/ns/net") == inum:
                return Path(process) / "net"
    return proc / "none"


def inum_of(path: str) -> int:
    """Inode number of a namespace.

    Raises:
        OSError: its process has ended.
    """
    return os.stat(path).st_ino  # noqa: PTH116 - a thousand of them in a moment


def pids_are_the_kernels(proc: Path = Path("/proc")) -> bool:
    """False in a container: the numbers that the kernel half tells mean nothing here."""
    return inum_of(f"{proc}/self/ns/pid") == INITIAL_PIDNS


def _processes(proc: Path) -> list[str]:
    return [f"{proc}/{name}" for name in os.listdir(proc) if name.isdecimal()]  # noqa: PTH208 - fast


def _named(proc: Path) -> Iterator[tuple[int, str]]:
    text = (proc / "self/mountinfo").read_text("utf-8", "surrogateescape")
    for line in text.splitlines():
        if found := _NSFS.match(line):
            yield int(found[1]), _OCTAL.sub(lambda code: chr(int(code[1], 8)), found[2])


def _is_below(process: Path, cgroup: str) -> bool:
    for line in (process / "cgroup").read_text("utf-8", "surrogateescape").splitlines():
        if line.startswith("0::"):
            return f"{line[3:]}/".startswith(f"{cgroup.rstrip('/')}/")
    return False


def _real_uid(process: Path) -> int:
    """Not the owner of its folder, which is root for a process that hides its memory."""
    for line in (process / "status").read_text("utf-8", "backslashreplace").splitlines():
        if line.startswith("Uid:"):
            return int(line.split()[1])
    return 0


class MountWatch:
    """Readable when a mount has come or gone in our mount namespace (proc(5))."""

    def __init__(self, path: Path = Path("/proc/self/mountinfo")) -> None:
        self._file = path.open("rb")
        self._poll = select.epoll()
        # A change is EPOLLPRI and an error; readable it always is.
        self._poll.register(self._file.fileno(), select.EPOLLPRI)
        self.clear()

    def fileno(self) -> int:
        """For `wait_readable`."""
        return self._poll.fileno()

    def clear(self) -> None:
        """What happened so far is known."""
        self._poll.poll(0)

    def close(self) -> None:
        """Harmless when repeated."""
        self._poll.close()
        self._file.close()

"""Cgroups of a laboratory: one folder below the mount of cgroup v2.

It also tells which processes are the laboratory's, whatever they became and whoever their
parent is.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING, Final

from gpa.demo.machine import mounts
from gpa.errors import CannotCreateError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DEATH_SECONDS: Final = 5.0
"""After SIGKILL a process may still be busy in the kernel for so long."""


def hierarchy() -> Path:
    """The mount of cgroup v2, alone or beside v1 (hybrid).

    Raises:
        UnavailableError: there is none that can be written.
    """
    found = [m for m in mounts() if m.kind == "cgroup2"]
    for mount in found:
        if mount.writable and os.access(mount.point, os.W_OK):
            return mount.point
    raise UnavailableError(
        "cgroup v2 is mounted read-only: is this a container? It must own a part of the hierarchy"
        if found
        else "cgroup v2 is not mounted: boot with systemd.unified_cgroup_hierarchy=1, or"
        " mount -t cgroup2 none /sys/fs/cgroup/unified"
    )


def make(folder: Path) -> Path:
    """Make the cgroup and those above it.

    Raises:
        CannotCreateError: the kernel refuses it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotCreateError(f"cannot make the cgroup {folder}: {error.strerror}") from error
    return folder


def members(folder: Path) -> set[int]:
    """Every process in the cgroup and below it, by pid."""
    pids: set[int] = set()
    for inner in _folders(folder):
        with contextlib.suppress(OSError):
            pids.update(int(word) for word in (inner / "cgroup.procs").read_text().split())
    return pids


def kill(folder: Path) -> None:
    """SIGKILL every process in the cgroup and below it, and wait until they are gone.

    Zombies are not waited for: who started them may still want to know how they ended.

    Raises:
        CannotCreateError: one does not die.
    """
    deadline = time.monotonic() + DEATH_SECONDS
    while pids := {pid for pid in members(folder) if not _is_zombie(pid)}:
        if time.monotonic() > deadline:
            raise CannotCreateError(f"processes {sorted(pids)} in {folder} do not die")
        for pid in pids:
            _kill_member(pid, folder)
        time.sleep(0.002)


def remove(folder: Path) -> None:
    """Kill what runs there and remove the cgroup with all below it.

    Raises:
        CannotCreateError: it cannot be removed.
    """
    if not folder.is_dir():
        return
    kill(folder)
    deadline = time.monotonic() + DEATH_SECONDS
    while folder.is_dir():
        trouble = ""
        for inner in reversed(list(_folders(folder))):
            try:
                inner.rmdir()
            except OSError as error:  # a process that has just died leaves a moment later
                trouble = f"cannot remove the cgroup {inner}: {error.strerror}"
        if trouble and time.monotonic() > deadline:
            raise CannotCreateError(trouble)
        if trouble:
            time.sleep(0.005)


def _folders(folder: Path) -> Iterator[Path]:
    """The folder and all below it, from the top down."""
    yield folder
    with contextlib.suppress(OSError):
        for inner in sorted(folder.iterdir()):
            if inner.is_dir() and not inner.is_symlink():
                yield from _folders(inner)


def _kill_member(pid: int, folder: Path) -> None:
    """Kill the process if it still is a member: the number may be somebody else's by now."""
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return
    try:
        if pid in members(folder):
            signal.pidfd_send_signal(fd, signal.SIGKILL)
    except ProcessLookupError:
        return
    finally:
        os.close(fd)


def _is_zombie(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:  # noqa: PTH123
            return stat.read().rpartition(")")[2].split()[0] in ("Z", "X")
    except OSError:
        return True

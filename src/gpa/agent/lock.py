"""One agent a run folder: a locked file that says who holds it. The kernel drops it with us."""

from __future__ import annotations

import fcntl
import os
import time
from typing import TYPE_CHECKING, Final

from gpa.errors import AlreadyRunningError, CannotCreateError

if TYPE_CHECKING:
    from pathlib import Path

NAME: Final = "agent.lock"


class AgentLock:
    """The held lock.

    The file is never removed: between unlink and lock two agents could hold one each.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @classmethod
    def take(cls, run_folder: Path) -> AgentLock:
        """Take it.

        Raises:
            AlreadyRunningError: another agent has it; the message names its pid.
            CannotCreateError: the file cannot be made.
        """
        path = run_folder / NAME
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(path, flags, 0o600)
        except OSError as error:
            raise CannotCreateError(f"cannot open {path}: {error.strerror}") from error
        try:
            _lock(fd)
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        except BlockingIOError:
            holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
            os.close(fd)
            who = f"pid {holder}" if holder.isdecimal() else "another process"
            raise AlreadyRunningError(
                f"an agent is running already ({who}): stop it first, or give this one another"
                " runFolder, pinFolder and cgroupRoot"
            ) from None
        except OSError as error:
            os.close(fd)
            raise CannotCreateError(f"cannot write {path}: {error.strerror}") from error
        return cls(fd)

    def release(self) -> None:
        """Give it up; harmless when repeated."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _lock(fd: int) -> None:
    # `holder_pid` of another process holds it for a moment; an agent holds it for good.
    for _ in range(2):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.05)
        else:
            return
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def holder_pid(run_folder: Path) -> int | None:
    """The agent that holds the lock, None when nobody does."""
    try:
        fd = os.open(run_folder / NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
        return int(text) if text.isdecimal() else 0
    finally:
        os.close(fd)
    return None

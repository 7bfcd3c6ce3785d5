"""Which laboratories there are: each is a folder, and who holds its lock is alive.

The folder's name is also that of the cgroup, and all mounts lie below it, so that the name is all
that must survive a SIGKILL: `sweep` finds the processes, cgroups, mounts and files of a laboratory
whose lock is free, and takes them away.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gpa.demo import cgroups
from gpa.demo.machine import mounts, unmount_below
from gpa.errors import CannotCreateError, GpaError, UntrustedPathError

if TYPE_CHECKING:
    from collections.abc import Iterator

HOME: Final = Path("/var/lib/gpa-lab")
"""A local filesystem that programs can be run from, which /run and /tmp need not be."""


@dataclass(frozen=True)
class Claim:
    """A laboratory that is ours.

    Attributes:
        folder: everything on disk.
        cgroup: every process.
        lock: descriptor that says we are alive; close-on-exec, so that no child holds it.
    """

    folder: Path
    cgroup: Path
    lock: int


def claim(home: Path = HOME) -> Claim:
    """Make the folder and the cgroup of a new laboratory.

    Raises:
        CannotCreateError: a folder cannot be made.
        UnavailableError: there is no cgroup v2.
        UntrustedPathError: `home` is not root's.
    """
    hierarchy = cgroups.hierarchy()
    with _locked(home, create=True):
        folder = home / f"gpa-{secrets.token_hex(4)}"
        try:
            folder.mkdir(mode=0o755)
            folder.chmod(0o755)
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise CannotCreateError(f"cannot make {folder}: {error.strerror}") from error
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # nobody else: the home is locked
    mine = Claim(folder, hierarchy / folder.name, lock)
    try:
        cgroups.make(mine.cgroup)
    except BaseException:
        release(mine, home)
        raise
    return mine


def release(mine: Claim, home: Path = HOME) -> None:
    """Take the laboratory away; the home, too, when it was the last.

    Raises:
        CannotCreateError: something could not be removed; a later `sweep` tries again.
    """
    try:
        _remove(mine.folder)
    finally:
        os.close(mine.lock)
    with _locked(home, create=False):
        _remove_home(home)


def sweep(home: Path = HOME) -> list[str]:
    """Take away every laboratory whose owner is gone.

    Returns:
        Names of those that were removed.

    Raises:
        CannotCreateError: something could not be removed.
        UntrustedPathError: `home` is not root's.
    """
    removed = []
    with _locked(home, create=False) as there:
        for folder in sorted(home.glob("gpa-*")) if there else ():
            with _try_lock(folder) as free:
                if free:
                    _remove(folder)
                    removed.append(folder.name)
        if there:
            _remove_home(home)
    return removed


def _remove(folder: Path) -> None:
    """Processes first, since they hold what comes after; every step is tried."""
    troubles = []
    try:
        cgroups.remove(cgroups.hierarchy() / folder.name)
    except GpaError as error:
        troubles.append(str(error))
    try:
        unmount_below(folder)
        if any(mount.point.is_relative_to(folder) for mount in mounts()):
            # rmtree would reach into what is mounted.
            raise CannotCreateError(f"something is mounted below {folder}")
        shutil.rmtree(folder)
    except FileNotFoundError:
        pass
    except OSError as error:
        troubles.append(f"cannot remove {folder}: {error}")
    except GpaError as error:
        troubles.append(str(error))
    if troubles:
        raise CannotCreateError("; ".join(troubles))


def _remove_home(home: Path) -> None:
    with contextlib.suppress(OSError):  # others live there
        home.rmdir()


@contextlib.contextmanager
def _try_lock(folder: Path) -> Iterator[bool]:
    """True when nobody alive holds the folder; held meanwhile."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        yield False
        return
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(fd)


@contextlib.contextmanager
def _locked(home: Path, *, create: bool) -> Iterator[bool]:
    """Hold the home; False when it is not there and need not be made.

    It may be removed between open and lock by the last one to leave: then again.
    """
    while True:
        if create:
            try:
                home.mkdir(mode=0o755, parents=True, exist_ok=True)
            except OSError as error:
                raise CannotCreateError(f"cannot make {home}: {error.strerror}") from error
        try:
            fd = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            if create:
                continue
            yield False
            return
        except OSError as error:
            raise CannotCreateError(f"cannot open {home}: {error.strerror}") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            if not _is_still_at(fd, home):
                continue
            _check_ours(fd, home)
            yield True
        finally:
            os.close(fd)
        return


def _is_still_at(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.lstat())
    except FileNotFoundError:
        return False


def _check_ours(fd: int, home: Path) -> None:
    """What is written there is killed, unmounted and deleted by root: nobody else may write it."""
    info = os.fstat(fd)
    if info.st_uid != os.geteuid() or info.st_mode & 0o022:
        raise UntrustedPathError(f"{home} can be written by others than root: remove it")

"""The folders that the agent writes to: there or to be made, ours alone, with room."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Final

from gpa import trust
from gpa.agent.files import LOG_BYTES, LOG_FILES
from gpa.doctor.finding import Finding, failure, ok, warning
from gpa.errors import GpaError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gpa.config import Config
    from gpa.doctor.machine import Machine

LOGS: Final = 3
"""ProxyAgent.log, ProxyAgent.Connection.log and audit.jsonl, each with its older parts."""

SMALL: Final = 1 << 20
"""Bytes that should be free for a few small files."""


def check_folders(machine: Machine, config: Config) -> Iterator[Finding]:
    """One after the other."""
    del machine
    logs = LOGS * LOG_BYTES * LOG_FILES
    yield check_folder("folder log", config.log_folder, logs)
    yield check_folder("folder key", config.latch_key_folder, SMALL, secret=True)
    yield check_folder("folder rules", config.rules_folder, SMALL)
    yield check_folder("folder run", config.run_folder, SMALL)


def check_folder(name: str, folder: Path, room: int, *, secret: bool = False) -> Finding:
    """Can the agent use it as it is, or make it.

    Args:
        name: of the finding.
        folder: it need not be there.
        room: bytes that should be free.
        secret: nobody else may look into it.
    """
    try:
        there = next(p for p in (folder, *folder.parents) if _is_there(p))
        if there == folder:
            trust.check_folder(folder)
        else:
            trust.check_parents(there / folder.relative_to(there).parts[0])
        mode = stat.S_IMODE(there.stat().st_mode)
    except GpaError as error:
        # Its words say what to do.
        what, colon, remedy = str(error).rpartition(": ")
        if not colon:
            what, remedy = remedy, "name another folder in the configuration"
        return failure(name, what, remedy)
    except OSError as error:
        return failure(
            name, f"{folder}: {error.strerror}", f"look at {folder} and what is above it"
        )
    if trouble := _write(there):
        return failure(name, f"{there} cannot be written: {trouble[0]}", trouble[1])
    if secret and there == folder and mode & 0o077:
        return warning(name, f"{folder} is open to others (mode {mode:04o})", f"chmod 700 {folder}")
    space = os.statvfs(there)
    free = space.f_bavail * space.f_frsize
    if free < room:
        return warning(
            name,
            f"{there} has {free >> 20} MiB free, and {max(1, room >> 20)} MiB may be needed",
            "make room, or name another folder in the configuration",
        )
    return ok(name, f"{folder}" if there == folder else f"{folder} will be made")


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _write(folder: Path) -> tuple[str, str] | None:
    """Write to a file without a name, which nobody sees and which ends with its descriptor."""
    try:
        fd = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:  # a filesystem without such files
            return None if os.access(folder, os.W_OK) else ("no right to", f"chmod u+w {folder}")
        return _words(error, folder)
    try:
        os.write(fd, bytes(4096))
    except OSError as error:
        return _words(error, folder)
    finally:
        os.close(fd)
    return None


def _words(error: OSError, folder: Path) -> tuple[str, str]:
    words = error.strerror or str(error)
    match error.errno:
        case errno.EROFS:
            return words, "mount a writable /var, or name another folder in the configuration"
        case errno.ENOSPC | errno.EDQUOT:
            return words, "make room, or name another folder in the configuration"
        case errno.EACCES | errno.EPERM:
            return words, f"see lsattr -d {folder}, and what a sandbox or container takes away"
    return words, "name another folder in the configuration"

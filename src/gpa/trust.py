"""Is this file or folder ours? What is read as configuration, key or rule must not be writable by
anybody else.

Owner root or the agent's own user, no write bit for group (unless root's) or others, not a link;
every folder above it the same, where a sticky folder such as /tmp is good enough, since in it
nobody can replace what another owns.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from gpa.errors import CannotCreateError, UntrustedPathError

if TYPE_CHECKING:
    from pathlib import Path


def check_folder(path: Path) -> None:
    """Raise `UntrustedPathError` unless `path` is a folder that only root or we can change.

    Raises:
        UntrustedPathError: a link, not a folder, another owner, or writable by others.
        FileNotFoundError: nothing is there.
    """
    info = path.lstat()
    if stat.S_ISLNK(info.st_mode):
        raise UntrustedPathError(f"{path} is a link: name the folder itself")
    if not stat.S_ISDIR(info.st_mode):
        raise UntrustedPathError(f"{path} is not a folder")
    _check_bits(path, info)
    check_parents(path)


def check_file(path: Path, info: os.stat_result) -> None:
    """The same for an open file, `info` from fstat(2) of a descriptor opened with O_NOFOLLOW."""
    if not stat.S_ISREG(info.st_mode):
        raise UntrustedPathError(f"{path} is not a plain file")
    _check_bits(path, info)
    check_parents(path)


def make_folder(path: Path, mode: int) -> None:
    """Make the folder with exactly `mode` when it is missing, then `check_folder` it.

    Raises:
        CannotCreateError: it cannot be made (read-only, disk full, no right).
        UntrustedPathError: it is there and not ours.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        try:
            path.mkdir(mode=mode)
        except FileExistsError:
            pass
        else:
            path.chmod(mode)  # mkdir(2) leaves the bits of the umask out
        check_folder(path)
    except OSError as error:
        raise CannotCreateError(f"cannot make {path}: {error.strerror}") from error


def _check_bits(path: Path, info: os.stat_result, *, sticky_is_enough: bool = False) -> None:
    if info.st_uid not in (0, os.geteuid()):
        raise UntrustedPathError(
            f"{path} belongs to uid {info.st_uid}: make it root's (chown root {path})"
        )
    if sticky_is_enough and info.st_mode & stat.S_ISVTX:
        return
    group_may = info.st_mode & stat.S_IWGRP and info.st_gid not in (0, os.getegid())
    if group_may or info.st_mode & stat.S_IWOTH:
        raise UntrustedPathError(
            f"{path} can be written by others: take that away (chmod go-w {path})"
        )


def check_parents(path: Path) -> None:
    """Raise `UntrustedPathError` unless only root or we can replace what is, or will be, at `path`.

    Raises:
        UntrustedPathError: a folder above it can be written by others, and is not sticky.
        FileNotFoundError: the folder that it is to be in is not there.
    """
    for parent in path.parent.resolve(strict=True).joinpath("x").parents:
        _check_bits(parent, parent.stat(), sticky_is_enough=True)

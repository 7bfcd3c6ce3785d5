"""Files that others read: replaced as a whole, bounded, never through a link, with exact modes.

A full or broken disk is no reason to stop serving: the calls raise `OSError`, and their callers
say so once and go on.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import re
    from pathlib import Path

LOG_BYTES: Final = 10 << 20
LOG_FILES: Final = 5
"""A log and its older parts: 50 MiB at most, as operators know it from the vendor's agent."""


def write_atomically(path: Path, data: bytes, mode: int, *, durable: bool = False) -> None:
    """Replace `path` by a file of exactly `mode`; a reader sees the old or the new one.

    A link lying in the place of `path` is replaced, not followed.

    Args:
        path: the file.
        data: all of its content.
        mode: its permission bits.
        durable: have it on the disk before returning, through a power loss.

    Raises:
        OSError: disk full, read-only, no right; the old file stays.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()  # ours, from a run that died with the same pid
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(temporary, flags, 0o600)
    try:
        try:
            _write_all(fd, data)
            os.fchmod(fd, mode)
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    if durable:
        sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Have the folder's entries on the disk."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def read_small(path: Path, limit: int) -> bytes | None:
    """The file's content, None where there is none.

    Raises:
        OSError: unreadable, a link, not a plain file, or larger than `limit` bytes.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(f"{path} is not a plain file")
        data = os.read(fd, limit + 1)
        if len(data) > limit:
            raise OSError(f"{path} is larger than {limit} bytes")
        return data
    finally:
        os.close(fd)


def keep_newest(folder: Path, pattern: re.Pattern[str], count: int) -> None:
    """Remove all but the `count` files that sort last among those that match; best effort."""
    with contextlib.suppress(OSError):
        names = sorted(name for name in os.listdir(folder) if pattern.fullmatch(name))  # noqa: PTH208 - names are compared
        for name in names[:-count]:
            (folder / name).unlink()


class RotatingFile:
    """An appended log: `name`, then `name.1` … `name.4`, oldest last.

    Writing never follows a link and never blocks longer than the disk does. After a failure the
    file is opened anew at the next write, so that it goes on once the disk has room again.
    """

    def __init__(
        self, path: Path, *, mode: int = 0o640, size: int = LOG_BYTES, files: int = LOG_FILES
    ) -> None:
        self.path = path
        self._mode = mode
        self._size = size
        self._files = files
        self._fd = -1
        self._used = 0

    def write(self, data: bytes) -> None:
        """Append whole lines.

        Raises:
            OSError: they are lost; nothing else is.
        """
        try:
            if self._fd < 0:
                self._open()
            if self._used and self._used + len(data) > self._size:
                self._rotate()
            _write_all(self._fd, data)
            self._used += len(data)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Close the descriptor; a later write opens it anew."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(self.path, flags | os.O_NONBLOCK, self._mode)
        except OSError:
            if not self.path.is_symlink():
                raise
            self.path.unlink()  # a link in our place is not ours
            fd = os.open(self.path, flags | os.O_NONBLOCK, self._mode)
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode) or info.st_nlink > 1:
            os.close(fd)
            self.path.unlink()  # a fifo, or a second name of somebody's file
            fd = os.open(self.path, flags | os.O_EXCL, self._mode)
            info = os.fstat(fd)
        os.fchmod(fd, self._mode)
        self._fd, self._used = fd, info.st_size

    def _rotate(self) -> None:
        self.close()
        for number in range(self._files - 1, 0, -1):
            older = self.path.with_name(f"{self.path.name}.{number}")
            newer = (
                self.path.with_name(f"{self.path.name}.{number - 1}") if number > 1 else self.path
            )
            with contextlib.suppress(FileNotFoundError):
                newer.replace(older)
        self._open()


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]

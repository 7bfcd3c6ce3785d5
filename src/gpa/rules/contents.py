"""What is in executables: their SHA-256 and fs-verity's, for rules that name a program by it.

A digest is kept for a file as the kernel tells it apart, so it must be sure that the same device,
inode and change time mean the same bytes. They do on file systems that change the ctime with every
change, through a mapping, too, and whose inode numbers are unique (docs/extensions.md has what each
of the others lacks), and once the ctime is old enough not to be given a second time.
"""

from __future__ import annotations

import fcntl
import os
import stat
import struct
import time
from typing import TYPE_CHECKING, Final

from gpa import _native
from gpa.rules.executables import identify
from gpa.rules.shares import Shares

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from gpa.rules.compile import ExeId
    from gpa.rules.executables import Mount

TRUSTED: Final = frozenset({"erofs", "ext2", "ext3", "ext4", "f2fs", "squashfs", "xfs"})
"""File systems of which that is known."""

MIN_AGE: Final = 2.0
"""Seconds since the last change: some file systems keep whole seconds, and a change within the one
that was looked at would leave no mark."""

MAX_BYTES: Final = 256 << 20
"""Few programs are larger, and who is not root can make us read them."""

HASH_SECONDS: Final = 2.0
"""For one file; a disk that takes longer is not waited for."""

WINDOW: Final = 60.0
MAX_BYTES_OF_ONE: Final = 512 << 20
"""Bytes that are read for one user who is not root, in that many seconds."""


FS_IOC_MEASURE_VERITY: Final = 0xC004_6686
"""linux/fsverity.h: _IOWR('f', 134, struct fsverity_digest)."""
SHA256: Final = 1
"""FS_VERITY_HASH_ALG_SHA256."""

UNKNOWN: Final[frozenset[str]] = frozenset()
"""What is in it no rule can name."""


def fs_verity(fd: int) -> str:
    """The SHA-256 digest that fs-verity holds the file to (Linux 5.4); empty where it does not."""
    answer = bytearray(struct.pack("=HH", 0, 64) + bytes(64))
    try:
        fcntl.ioctl(fd, FS_IOC_MEASURE_VERITY, answer)
    except OSError:  # no such file system, or not this file
        return ""
    algorithm, size = struct.unpack_from("=HH", answer)
    return answer[4 : 4 + size].hex() if algorithm == SHA256 else ""


class NotNowError(Exception):
    """The content cannot be told yet; worth another look."""


class Contents:
    """Digests of files that were looked at: of the content, and fs-verity's where the file has one.

    Args:
        clock: unix time.
        hash_file: descriptor, most bytes and seconds to a digest; raises `OSError`.
        measure: descriptor to the digest that the kernel holds it to; empty for none.
        trusted: kinds of file systems whose ctime can be relied on.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.time,
        hash_file: Callable[[int, int, float], str] = _native.sha256,
        measure: Callable[[int], str] = fs_verity,
        trusted: frozenset[str] = TRUSTED,
    ) -> None:
        self._clock = clock
        self._hash = hash_file
        self._measure = measure
        self._trusted = trusted
        self._known: Shares[ExeId, frozenset[str]] = Shares()
        self._read: dict[int, int] = {}
        self._window = 0.0

    def known(self) -> Mapping[ExeId, frozenset[str]]:
        """Digests by file."""
        return self._known.all()

    def clear(self) -> None:
        """Forget all."""
        self._known.clear()

    def look(self, fd: int, mounts: Iterable[Mount], uid: int, wanted: ExeId | None = None) -> None:
        """Learn what is in a file; blocking.

        Args:
            fd: the file, opened by any means, also O_PATH.
            mounts: of the process that sees it.
            uid: for whom: each has a share of what is kept and read.
            wanted: who it must be.

        Raises:
            NotNowError: it is another file, was changed a moment ago or meanwhile, cannot be read,
                or has taken too long.
        """
        try:
            found = identify(fd, mounts)
            if found is None:
                if wanted is not None:
                    self._known.put(uid, wanted, UNKNOWN)
                return
            file, kind = found
            if wanted is not None and file != wanted:
                raise NotNowError("it is another file by now")
            if self._known.get(uid, file) is not None:
                return
            info = os.fstat(fd)
            digests = UNKNOWN
            if kind in self._trusted and stat.S_ISREG(info.st_mode):
                digests = self._digests(fd, info, uid)
        except OSError as error:
            raise NotNowError(f"it cannot be read: {error.strerror or error}") from error
        self._known.put(uid, file, digests)

    def _digests(self, fd: int, info: os.stat_result, uid: int) -> frozenset[str]:
        reading = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            sealed = self._measure(reading)
            # A clock that was set back makes files of the future, which are as young.
            if not sealed and self._clock() - info.st_ctime_ns / 1e9 < MIN_AGE:
                raise NotNowError("it was changed a moment ago")
            digests = frozenset({sealed} if sealed else ())
            if info.st_size > MAX_BYTES:
                return digests
            self._spend(uid, info.st_size)
            digests |= {self._hash(reading, MAX_BYTES, HASH_SECONDS)}
            if _version(os.fstat(reading)) != _version(info):
                raise NotNowError("it was changed while it was read")
        finally:
            os.close(reading)
        return digests

    def _spend(self, uid: int, size: int) -> None:
        if uid == 0:
            return
        now = time.monotonic()
        if now - self._window > WINDOW:
            self._window, self._read = now, {}
        read = self._read.get(uid, 0) + size
        if read > MAX_BYTES_OF_ONE:
            raise NotNowError("too much was read for this user within a minute")
        self._read[uid] = read


def _version(info: os.stat_result) -> tuple[int, ...]:
    return info.st_dev, info.st_ino, info.st_size, info.st_ctime_ns, info.st_mtime_ns

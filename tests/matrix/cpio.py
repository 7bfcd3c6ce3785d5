"""Write an initramfs: archives in cpio's "newc" format, unpacked one behind the other.

Everything in them is root's, whoever writes them, so that no root is needed here.
Documentation/driver-api/early-userspace/buffer-format.rst of the kernel tells the format.
"""

from __future__ import annotations

import stat
from typing import IO, TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from pathlib import Path

ALIGNMENT: Final = 4
TRAILER: Final = "TRAILER!!!"


class Archive:
    """One archive, in the order of the calls: a folder before what lies in it."""

    def __init__(self, to: IO[bytes]) -> None:
        self._to = to
        self._inode = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._entry(TRAILER, 0, b"")

    def folder(self, name: str, mode: int = 0o755) -> None:
        self._entry(name, stat.S_IFDIR | mode, b"")

    def link(self, name: str, target: str) -> None:
        self._entry(name, stat.S_IFLNK | 0o777, target.encode())

    def text(self, name: str, content: str, mode: int = 0o644) -> None:
        self.data(name, content.encode(), mode)

    def data(self, name: str, content: bytes, mode: int = 0o644, mtime: int = 0) -> None:
        self._entry(name, stat.S_IFREG | mode, content, mtime)

    def copy(self, name: str, source: Path) -> None:
        """The file as it is, but readable for everybody; its time is what a .pyc is judged by."""
        told = source.stat()
        mode = 0o755 if told.st_mode & 0o111 else 0o644
        self.data(name, source.read_bytes(), mode, int(told.st_mtime))

    def _entry(self, name: str, mode: int, content: bytes, mtime: int = 0) -> None:
        self._inode += 1
        path = name.lstrip("/").encode() + b"\0"
        links = 2 if stat.S_ISDIR(mode) else 1
        # inode, mode, uid, gid, links, mtime, size, device, device of a node, length of name, sum
        fields = (self._inode, mode, 0, 0, links, mtime, len(content), 0, 0, 0, 0, len(path), 0)
        header = b"070701" + b"".join(b"%08x" % field for field in fields)
        self._to.write(_padded(header + path) + _padded(content))


def _padded(part: bytes) -> bytes:
    return part + bytes(-len(part) % ALIGNMENT)

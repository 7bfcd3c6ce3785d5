"""bpf(2) itself, for what the agent has no door to: programs of other tools, and statistics.

The numbers are those of linux/bpf.h, and stand for good.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import platform
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

SYS_BPF: Final = {"x86_64": 321, "aarch64": 280}[platform.machine()]

MAP_CREATE, PROG_LOAD, OBJ_GET, PROG_ATTACH, PROG_DETACH = 0, 5, 7, 8, 9
PROG_GET_FD_BY_ID, ENABLE_STATS = 13, 32

MAP_TYPE_ARRAY: Final = 2
F_MMAPABLE: Final = 1 << 10

EXCLUSIVE, OVERRIDE, MULTI = 0, 1, 2
"""How a program is attached: nothing, BPF_F_ALLOW_OVERRIDE, BPF_F_ALLOW_MULTI."""

_libc = ctypes.CDLL(None, use_errno=True)


def call(command: int, attributes: bytes) -> int:
    """One call; what it returns."""
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    result: int = _libc.syscall(SYS_BPF, command, buffer, len(attributes))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


class Counter:
    """A u64 that a program adds to and we read: an array map of one row, seen through mmap."""

    def __init__(self) -> None:
        attributes = struct.pack("=5I", MAP_TYPE_ARRAY, 4, 8, 1, F_MMAPABLE)
        self.fd = call(MAP_CREATE, attributes)
        self._page = mmap.mmap(self.fd, mmap.PAGESIZE, mmap.MAP_SHARED, mmap.PROT_READ)

    @property
    def value(self) -> int:
        value: int = struct.unpack_from("=Q", self._page)[0]
        return value

    def close(self) -> None:
        self._page.close()
        os.close(self.fd)


def load(kind: int, attach_type: int, code: bytes, name: str) -> int:
    """Load a program; what the verifier said is in the error."""
    log = ctypes.create_string_buffer(1 << 16)
    instructions, licence = ctypes.create_string_buffer(code), ctypes.c_char_p(b"GPL")
    attributes = struct.pack(
        "=IIQQIIQII16sII",
        kind,
        len(code) // 8,
        ctypes.addressof(instructions),
        ctypes.cast(licence, ctypes.c_void_p).value,
        1,
        len(log),
        ctypes.addressof(log),
        0,
        0,
        name.encode(),
        0,
        attach_type,
    )
    try:
        return call(PROG_LOAD, attributes)
    except OSError as error:
        error.add_note(log.value.decode())
        raise


def attach(program: int, cgroup: Path, attach_type: int, flags: int) -> None:
    _on_cgroup(PROG_ATTACH, program, cgroup, attach_type, flags)


def detach(program: int, cgroup: Path, attach_type: int) -> None:
    """Harmless when it is not attached, or its cgroup has gone."""
    try:
        _on_cgroup(PROG_DETACH, program, cgroup, attach_type, 0)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EINVAL):
            raise


def _on_cgroup(command: int, program: int, cgroup: Path, attach_type: int, flags: int) -> None:
    fd = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
    try:
        call(command, struct.pack("=4I", fd, program, attach_type, flags))
    finally:
        os.close(fd)


def told(fd: int) -> dict[str, int]:
    """The numbers that the kernel tells about a program or map (/proc/PID/fdinfo)."""
    pairs = (
        line.split(":", 1) for line in Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines()
    )
    return {key: int(value) for key, value in pairs if value.strip().isdigit()}


def program(number: int) -> int:
    """A descriptor of the program with that id."""
    return call(PROG_GET_FD_BY_ID, struct.pack("=3I", number, 0, 0))


def pinned(path: Path) -> int:
    """A descriptor of what is pinned there."""
    name = ctypes.create_string_buffer(os.fsencode(path))
    return call(OBJ_GET, struct.pack("=QII", ctypes.addressof(name), 0, 0))


@contextlib.contextmanager
def run_time_counted() -> Iterator[None]:
    """Meanwhile the kernel counts how often each program runs and for how long (Linux 5.8)."""
    fd = call(ENABLE_STATS, struct.pack("=I", 0))
    try:
        yield
    finally:
        os.close(fd)

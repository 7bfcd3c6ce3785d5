"""A program of somebody else on a cgroup, attached as old tools do it: without a link, and with
flags of its own. By bpf(2) itself: the agent needs neither call.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

SYS_BPF: Final = {"x86_64": 321, "aarch64": 280}[platform.machine()]
PROG_LOAD, PROG_ATTACH = 5, 8
TYPE_CGROUP_SOCK_ADDR: Final = 18
INET4_CONNECT: Final = 10
EXCLUSIVE, OVERRIDE, MULTI = 0, 1, 2


def _code(verdict: int) -> bytes:
    """r0 = verdict; exit"""
    return struct.pack("=BBhiBBhi", 0xB7, 0, 0, verdict, 0x95, 0, 0, 0)


def _bpf(command: int, attributes: bytes) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(attributes.ljust(128, b"\0"), 128)
    result: int = libc.syscall(SYS_BPF, command, buffer, 128)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def attach(cgroup: Path, flags: int, verdict: int = 1) -> None:
    """Attach a connect4 program that lets everybody pass, or with 0 nobody; it ends with the
    cgroup."""
    code = ctypes.create_string_buffer(_code(verdict))
    licence = ctypes.create_string_buffer(b"GPL")
    program = _bpf(
        PROG_LOAD,
        struct.pack("=IIQQIIQII16sII", TYPE_CGROUP_SOCK_ADDR, 2, ctypes.addressof(code),
                    ctypes.addressof(licence), 0, 0, 0, 0, 0, b"foreign", 0, INET4_CONNECT),
    )  # fmt: skip
    folder = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _bpf(PROG_ATTACH, struct.pack("=IIII", folder, program, INET4_CONNECT, flags))
    finally:
        os.close(folder)
        os.close(program)

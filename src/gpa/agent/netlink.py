"""Netlink, as much of it as we need: one question, then its answers, in bounded time.

Everything raises `OSError`: what the kernel refused, and `TimeoutError` when it did not answer.
"""

from __future__ import annotations

import itertools
import os
import socket
import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

NETLINK_ROUTE: Final = 0
NETLINK_SOCK_DIAG: Final = 4
"""include/uapi/linux/netlink.h."""

ACK: Final = 0x5
"""NLM_F_REQUEST | NLM_F_ACK: do it, and say how it went."""

DUMP: Final = 0x301
"""NLM_F_REQUEST | NLM_F_DUMP: list all that there is."""

ANSWER_SECONDS: Final = 2.0
"""The kernel answers at once or not at all."""

_ERROR, _DONE = 2, 3
_HEADER: Final = struct.Struct("=IHHII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_CHUNK: Final = 1 << 16
"""The kernel fills at most 32 KiB at a time."""

_numbers = itertools.count(1)


def connect(protocol: int, descriptor: int | None = None) -> socket.socket:
    """A socket that speaks to the kernel about the network namespace that this thread is in.

    Args:
        protocol: `NETLINK_*`.
        descriptor: of one that was made elsewhere; owned here then.
    """
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol, descriptor)
    made.settimeout(ANSWER_SECONDS)
    return made


def pack(kind: int, flags: int, number: int, body: bytes) -> bytes:
    """A message."""
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, number, 0) + body


def attribute(kind: int, value: bytes) -> bytes:
    """An attribute; the next one starts at a multiple of four."""
    size = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(size, kind) + value + b"\0" * (-size % 4)


def unpack(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Kind, number and body of each message; one that is cut ends it."""
    at = 0
    while at + _HEADER.size <= len(data):
        size, kind, _, number, _ = _HEADER.unpack_from(data, at)
        if size < _HEADER.size or at + size > len(data):
            return
        yield kind, number, data[at + _HEADER.size : at + size]
        at += -(-size // 4) * 4


def ask(to: socket.socket, kind: int, flags: int, body: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and body of each answer, until the kernel says that this was all.

    Raises:
        OSError: the kernel's error, or its silence.
    """
    mine = next(_numbers)
    to.sendall(pack(kind, flags, mine, body))
    while True:
        for answer, number, content in unpack(to.recv(_CHUNK)):
            if number != mine:
                continue  # the rest of a question that was given up
            if answer in (_ERROR, _DONE):
                # A dump that ends well may carry no number.
                trouble = struct.unpack_from("=i", content)[0] if len(content) >= 4 else 0
                if trouble < 0:
                    raise OSError(-trouble, os.strerror(-trouble))
                return
            yield answer, content

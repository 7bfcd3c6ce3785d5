"""What an attacker's program is made of; standard library only, runs as anybody with `-I -S`."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import signal
import socket
import struct
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

IMDS = ("169.254.169.254", 80)
WIRESERVER = ("168.63.129.16", 80)
LISTENER = ("127.0.0.1", 3080)
SECONDS = 12.0
"""Longer than the agent holds a request."""

libc = ctypes.CDLL(None, use_errno=True)


def tell(told: object) -> None:
    """Hand the outcome to the test."""
    print(json.dumps(told), flush=True)


def tcp(family: int = socket.AF_INET, protocol: int = 0) -> socket.socket:
    """A new socket."""
    made = socket.socket(family, socket.SOCK_STREAM, protocol)
    made.settimeout(SECONDS)
    return made


def connected(to: tuple[str, int] = IMDS) -> socket.socket:
    """A connection, made the plain way."""
    made = tcp()
    made.connect(to)
    return made


def head(target: str, host: str = IMDS[0], *fields: str) -> bytes:
    """A request without a body."""
    lines = [f"GET {target} HTTP/1.1", f"Host: {host}", "Metadata: true", *fields]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1")


def hear(connection: socket.socket) -> int:
    """The status of the answer, 0 for none; reads to the end."""
    data = b""
    with contextlib.suppress(ConnectionError):
        while more := connection.recv(65536):
            data += more
    return int(data[9:12]) if data.startswith(b"HTTP/1.1 ") else 0


def ask(connection: socket.socket, target: str, host: str = IMDS[0], *fields: str) -> int:
    """The status for one request on this connection, 0 when it was reset; closes it."""
    with connection, contextlib.suppress(ConnectionError):
        connection.sendall(head(target, host, *fields))
        return hear(connection)
    return 0


def attempt(target: str, to: tuple[str, int] = IMDS) -> int | str:
    """The status of a plain request, or the name of the error of connect()."""
    try:
        connection = connected(to)
    except OSError as trouble:
        return errno.errorcode.get(trouble.errno or 0, str(trouble))
    return ask(connection, target, to[0])


def become(uid: int, gid: int | None = None) -> None:
    """Give up root for good."""
    os.setgroups([])
    os.setresgid(*[uid if gid is None else gid] * 3)
    os.setresuid(uid, uid, uid)


def reset(connection: socket.socket) -> None:
    """Close with RST (SO_LINGER 0, socket(7))."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def disconnect(used: socket.socket) -> None:
    """connect() with AF_UNSPEC: the socket is as new (connect(2))."""
    if libc.connect(used.fileno(), (ctypes.c_char * 16)(), 16):
        raise OSError(ctypes.get_errno(), "disconnect")


def check(result: int) -> int:
    """The result of a C function, or its error."""
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def fork_as(pid: int) -> int:
    """fork() that gets a pid of our choice, which must be free: clone3 with set_tid, for root."""
    wanted = (ctypes.c_int * 1)(pid)
    # flags, pidfd, child_tid, parent_tid, exit_signal, stack, its size, tls, set_tid, its size
    words = (0, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, ctypes.addressof(wanted), 1)
    return check(libc.syscall(435, struct.pack("=10Q", *words), 80))


def until(seconds: float) -> Iterator[float]:
    """Ticks of 1 ms until the time is over."""
    end = time.monotonic() + seconds
    while (now := time.monotonic()) < end:
        yield now
        time.sleep(0.001)


ARGUMENTS = sys.argv[1:]

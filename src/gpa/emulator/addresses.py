"""Where the emulator may listen.

The protected addresses belong to the real host. In the network namespace that a machine starts
with, an emulator on anything but loopback would stand in for it, so there only loopback is allowed.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from gpa.errors import CannotCreateError, NotRootError, PortTakenError, UsageError

BACKLOG: Final = 1024

_INITIAL_INODES: Final = (0xEFFFFFF9, 0xF0000000)
"""The initial network namespace: since Linux 6.18, and mostly before."""

_INITIAL_SYSCTL: Final = Path("/proc/sys/net/core/netdev_max_backlog")
"""The kernel shows it in the initial network namespace only."""


@dataclass(frozen=True, slots=True)
class Address:
    """An IPv4 address and a TCP port; port 0 lets the kernel choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """127.0.0.0/8."""
        return ipaddress.IPv4Address(self.host).is_loopback


def parse(text: str) -> Address:
    """`ADDRESS:PORT`.

    Raises:
        UsageError: something else.
    """
    host, colon, port = text.rpartition(":")
    try:
        address = ipaddress.IPv4Address(host)
        number = int(port) if port.isascii() and port.isdecimal() else -1
    except ValueError:
        number, address = -1, ipaddress.IPv4Address(0)
    if not colon or not 0 <= number <= 65535 or address.is_multicast:
        raise UsageError(f"{text!r} is not ADDRESS:PORT, as in 127.0.0.1:8080")
    return Address(str(address), number)


def is_initial_namespace(proc: Path = Path("/proc"), sysctl: Path = _INITIAL_SYSCTL) -> bool:
    """Is this the machine's own network? Any sign of it counts; when in doubt, yes."""
    try:
        ours = (proc / "self/ns/net").stat().st_ino
    except OSError:
        return True
    if ours in _INITIAL_INODES or sysctl.exists():
        return True
    try:
        return (proc / "1/ns/net").stat().st_ino == ours
    except OSError:  # not ours to see; the signs above have said no
        return False


def check(address: Address, *, initial: bool) -> None:
    """May the emulator listen there?

    Raises:
        UsageError: not in the initial network namespace.
    """
    if initial and not address.is_loopback:
        raise UsageError(
            f"{address} is not loopback: run the emulator in a network namespace of its own"
            " (ip netns add host; ip netns exec host gpa emulate …)"
        )


def open_listener(address: Address) -> trio.SocketListener:
    """A listening socket.

    Raises:
        PortTakenError, CannotCreateError, NotRootError: it cannot be had; what to do stands in it.
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address.host, address.port))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise PortTakenError(
                f"{address} is taken: end who listens there (ss -ltnp) or choose another port"
            ) from error
        if error.errno == errno.EADDRNOTAVAIL:
            raise CannotCreateError(
                f"{address.host} is no address of this network namespace:"
                f" ip address add {address.host}/32 dev lo"
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM):
            raise NotRootError(
                f"may not listen on {address}: choose a port above 1023, or be root"
            ) from error
        raise CannotCreateError(f"cannot listen on {address}: {error.strerror}") from error
    return trio.SocketListener(trio.socket.from_stdlib_socket(sock))


def address_of(listener: trio.SocketListener) -> Address:
    """Where it listens, with the port that the kernel chose."""
    host, port = listener.socket.getsockname()
    return Address(host, port)

"""The agent's listening socket, and who holds the port when it cannot be had.

The service manager keeps a copy of it, so that connections which are made while the agent restarts
wait, whatever ended it, and are served with their identity afterwards.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gpa.agent.log import one_line
from gpa.endpoints import LISTEN_ADDRESS
from gpa.errors import CannotCreateError, PortTakenError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gpa.agent.systemd import Notifier

BACKLOG: Final = 4096
"""Connections that may wait while the agent restarts or is busy; clients see no refusal."""

LISTEN_STATE: Final = "0A"
"""TCP_LISTEN in /proc/net/tcp."""

SO_NETNS_COOKIE: Final = 71
"""Of <asm-generic/socket.h>, on every architecture that we know."""

NAME: Final = "gpa-listener"
"""Of the copy with the service manager."""


class Door:
    """The listening socket of one life of the agent, and its copy with the service manager.

    Attributes:
        socket: the open one; None before `open` and after `close`.
    """

    def __init__(self, make: Callable[[], socket.socket], manager: Notifier) -> None:
        self.socket: socket.socket | None = None
        self._make = make
        self._manager = manager

    def open(self) -> socket.socket:
        """Take over or make the socket.

        Raises:
            PortTakenError, CannotCreateError: as `open_listener`.
        """
        self.close()
        self.socket = self._make()
        return self.socket

    def keep(self) -> None:
        """Have it outlive us."""
        if self.socket is not None:
            self._manager.store(NAME, self.socket)

    def close(self, *, forget: bool = False) -> None:
        """Close our descriptor; `forget` the copy, too: connects are refused then."""
        if forget:
            self._manager.forget(NAME)
        if self.socket is not None:
            self.socket.close()
            self.socket = None


def take_over(
    kept: Iterable[tuple[str, socket.socket]], address: tuple[str, int] = LISTEN_ADDRESS
) -> socket.socket | None:
    """The first of the kept sockets that listens on that address here; all others are closed."""
    found = None
    for _, sock in kept:
        if found is None and listens_on(sock, address) and _is_of_this_namespace(sock):
            found = sock
        else:
            sock.close()
    return found


def listens_on(sock: socket.socket, address: tuple[str, int] = LISTEN_ADDRESS) -> bool:
    """Whether the socket, of whatever network namespace, could be a listener of ours."""
    try:
        return (
            sock.family == socket.AF_INET
            and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
            and sock.getsockname() == address
        )
    except OSError:
        return False


def _is_of_this_namespace(sock: socket.socket) -> bool:
    with socket.socket() as own:
        try:
            cookies = [s.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8) for s in (sock, own)]
        except OSError:  # before Linux 5.14; nobody moves a service there
            return True
    return cookies[0] == cookies[1]


def open_listener(address: tuple[str, int] = LISTEN_ADDRESS) -> socket.socket:
    """A bound and listening socket, made in the cgroup that this process is in.

    Raises:
        PortTakenError: somebody else has the port; the message names them.
        CannotCreateError: it cannot be made for another reason.
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        own_port(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


def own_port(
    sock: socket.socket,
    address: tuple[str, int],
    tables: Callable[[], Path] = lambda: Path("/proc/net"),
) -> None:
    """Bind a socket and listen on it.

    Args:
        sock: new.
        address: where to.
        tables: finds `/proc/PID/net` of a process in the socket's network namespace.

    Raises:
        PortTakenError: somebody else has the port; the message names them.
        CannotCreateError: it cannot be had for another reason.
    """
    try:
        # Connections of the run before, in TIME_WAIT, must not keep the port.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        where = f"{address[0]}:{address[1]}"
        if error.errno != errno.EADDRINUSE:
            raise CannotCreateError(f"cannot listen on {where}: {error.strerror}") from error
        raise PortTakenError(f"{where} is taken by {port_holder(address[1], tables())}") from error


def port_holder(port: int, tables: Path = Path("/proc/net"), proc: Path = Path("/proc")) -> str:
    """Who listens on the port there, in words; best effort."""
    inodes = _listening_inodes(tables, port)
    if not inodes:
        return "somebody outside of what this process can see"
    wanted = _as_links(inodes)
    for folder in proc.iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            if _holds_one(folder, wanted):
                name = (folder / "comm").read_text(errors="backslashreplace").strip()
                return f"pid {folder.name} ({one_line(name, 64)})"
        except OSError:
            continue  # gone, or not ours to see
    return "a process that cannot be seen from here"


def is_listening(port: int, pid: int | None = None, proc: Path = Path("/proc")) -> bool:
    """Whether somebody, or that process, listens on the port here, at whatever address."""
    inodes = _listening_inodes(proc / "net", port)
    if pid is None or not inodes:
        return bool(inodes)
    try:
        return _holds_one(proc / str(pid), _as_links(inodes))
    except OSError:
        return False


def _as_links(inodes: set[str]) -> set[str]:
    return {f"socket:[{inode}]" for inode in inodes}


def _holds_one(process: Path, links: set[str]) -> bool:
    for fd in (process / "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            if str(fd.readlink()) in links:
                return True
    return False


def _listening_inodes(tables: Path, port: int) -> set[str]:
    inodes = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = (tables / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == LISTEN_STATE and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(fields[9])
    return inodes

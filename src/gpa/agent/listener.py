"""The agent's listening socket, and who holds the port when it cannot be had."""

from __future__ import annotations

import errno
import socket
from pathlib import Path
from typing import Final

from gpa.agent.log import one_line
from gpa.endpoints import LISTEN_ADDRESS
from gpa.errors import CannotCreateError, PortTakenError

BACKLOG: Final = 4096
"""Connections that may wait while the agent restarts or is busy; clients see no refusal."""

LISTEN_STATE: Final = "0A"
"""TCP_LISTEN in /proc/net/tcp."""


def open_listener(address: tuple[str, int] = LISTEN_ADDRESS) -> socket.socket:
    """A bound and listening socket, made in the cgroup that this process is in.

    Raises:
        PortTakenError: somebody else has the port; the message names them.
        CannotCreateError: it cannot be made for another reason.
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        # Connections of the run before, in TIME_WAIT, must not keep the port.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        where = f"{address[0]}:{address[1]}"
        if error.errno != errno.EADDRINUSE:
            raise CannotCreateError(f"cannot listen on {where}: {error.strerror}") from error
        raise PortTakenError(f"{where} is taken by {port_holder(address[1])}") from error
    return sock


def port_holder(port: int, proc: Path = Path("/proc")) -> str:
    """Who listens on the port here, in words; best effort."""
    inodes = _listening_inodes(proc, port)
    if not inodes:
        return "somebody outside of what this process can see"
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for folder in proc.iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            held = any(str(fd.readlink()) in wanted for fd in (folder / "fd").iterdir())
            if held:
                name = (folder / "comm").read_text(errors="backslashreplace").strip()
                return f"pid {folder.name} ({one_line(name, 64)})"
        except OSError:
            continue  # gone, or not ours to see
    return "a process that cannot be seen from here"


def _listening_inodes(proc: Path, port: int) -> set[str]:
    inodes = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = (proc / "net" / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == LISTEN_STATE and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(fields[9])
    return inodes

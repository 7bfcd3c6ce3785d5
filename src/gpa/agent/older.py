"""Connections to the host that are older than the interception, and so go around it: found, reset.

They are listed by the kernel (sock_diag(7)) and destroyed one by one, by address, ports and cookie,
so that no other connection is ever meant. The agent's own are left alone: they are known by the
inode of their socket. A redirected connection has the agent as its peer and is not in the list.
Where an endpoint is audited or disabled, going to the host directly is legitimate.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from gpa.agent import netlink
from gpa.endpoints import Endpoint, Mode

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from gpa.agent.log import Log

    Make = Callable[[int], socket.socket]
    """Gives a netlink socket of the protocol; its network namespace is the one that is looked
    at."""

    Elsewhere = Callable[[], Iterable[Make]]
    """Other network namespaces; what it gives raises `OSError` for one that has gone."""

MOST: Final = 4096
"""Connections reset at one time, and `SECONDS` for all of them: nobody has so many by right."""

SECONDS: Final = 5.0

NAMED: Final = 16
"""Connections named in the log; more are counted."""

_BY_FAMILY, _DESTROY = 20, 21
"""SOCK_DIAG_BY_FAMILY and SOCK_DESTROY of linux/sock_diag.h."""

_BYTECODE, _JMP, _D_COND = 1, 1, 8
"""INET_DIAG_REQ_BYTECODE, INET_DIAG_BC_JMP and INET_DIAG_BC_D_COND of linux/inet_diag.h."""

_ESTABLISHED, _SYN_SENT, _FIN_WAIT1, _FIN_WAIT2, _CLOSE_WAIT = 1, 2, 4, 5, 8
STATES: Final = sum(1 << s for s in (_ESTABLISHED, _SYN_SENT, _FIN_WAIT1, _FIN_WAIT2, _CLOSE_WAIT))
"""Those in which a request can still be sent or an answer received."""

_REQUEST: Final = struct.Struct("=BBBxI48s")
"""`struct inet_diag_req_v2`: family, protocol, extensions, states, socket id."""

_STEP: Final = struct.Struct("=BBH")
"""`struct inet_diag_bc_op`: code, and how far to go on yes and on no."""

_HOST: Final = struct.Struct("=BBxxi4s")
"""`struct inet_diag_hostcond`: family, prefix, port, address."""

_PEER: Final = struct.Struct("!2xH16x16s")
"""`struct inet_diag_sockid`: of it the remote port and address."""

_SOCKET: Final = struct.Struct("=BBxx48s12xII")
"""`struct inet_diag_msg`: family, state, socket id, then uid and inode."""


@dataclass(frozen=True)
class Connection:
    """A TCP connection to a protected address.

    Attributes:
        family: of its socket; AF_INET6 for a v4-mapped address.
        identity: `struct inet_diag_sockid`: addresses, ports, device and cookie.
        uid: who made the socket.
        inode: of the socket, as in `/proc/PID/fd`; 0 when no process holds it any more.
    """

    endpoint: Endpoint
    family: int
    identity: bytes
    uid: int
    inode: int

    def __str__(self) -> str:
        address, port = self.endpoint.address
        return f"uid {self.uid} inode {self.inode} to {address}:{port}"


@dataclass
class Outcome:
    """What became of the connections that were found.

    Attributes:
        reset: those that are gone.
        stay: how many could not be reset.
        why: what the kernel said to one of them, or to the search.
    """

    reset: list[Connection] = field(default_factory=list)
    stay: int = 0
    why: str = ""

    def words(self) -> tuple[str, str]:
        """What was done, and what is wrong: a line each for the log, empty when there is none."""
        done = wrong = ""
        if self.reset:
            named = [str(connection) for connection in self.reset[:NAMED]]
            if len(self.reset) > NAMED:
                named.append(f"{len(self.reset) - NAMED} more")
            done = f"{len(self.reset)} older connections reset: {', '.join(named)}"
        if self.why:
            count = f"{self.stay} older connections stay" if self.stay else "none can be looked for"
            wrong = (
                f"connections older than the interception: {count} ({self.why}); what they send"
                " is unsigned, which the host refuses and the guard (docs/guard.md) stops"
            )
        return done, wrong


def pack_search(family: int, endpoints: Collection[Endpoint]) -> bytes:
    """Ask for the TCP connections of this family to any of these; v4-mapped ones are of AF_INET6.

    One question for all, since the kernel looks through its whole table for each.
    """
    size = _STEP.size + _HOST.size
    program = b""
    for place, endpoint in enumerate(endpoints, 1):
        left, (address, port) = len(endpoints) - place, endpoint.address
        # On to the next step; else behind it, or behind the end, which is how a socket is passed
        # over.
        program += _STEP.pack(_D_COND, size, size + _STEP.size)
        program += _HOST.pack(socket.AF_INET, 32, port, ipaddress.IPv4Address(address).packed)
        if left:  # to the end: found
            program += _STEP.pack(_JMP, _STEP.size, left * (size + _STEP.size))
    request = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, STATES, b"")
    return request + netlink.attribute(_BYTECODE, program)


def pack_destroy(connection: Connection) -> bytes:
    """Ask for the end of exactly this connection."""
    return _REQUEST.pack(connection.family, socket.IPPROTO_TCP, 0, 0xFFFFFFFF, connection.identity)


def unpack_connection(body: bytes) -> Connection | None:
    """A connection of the list; None for what is none to an endpoint."""
    if len(body) < _SOCKET.size:
        return None
    family, _, identity, uid, inode = _SOCKET.unpack_from(body)
    port, to = _PEER.unpack_from(identity)
    to = to[:4] if family == socket.AF_INET else to[12:]
    for endpoint in Endpoint:
        if endpoint.address == (str(ipaddress.IPv4Address(to)), port):
            return Connection(endpoint, family, identity, uid, inode)
    return None


def find(diag: socket.socket, endpoints: Collection[Endpoint]) -> Iterator[Connection]:
    """The connections to these endpoints.

    Raises:
        OSError: the kernel does not list them.
    """
    for family in (socket.AF_INET, socket.AF_INET6):
        search = pack_search(family, endpoints)
        try:
            for _, body in netlink.ask(diag, _BY_FAMILY, netlink.DUMP, search):
                found = unpack_connection(body)
                # Without a holder nobody sends on it or reads its answer.
                if found is not None and found.inode:
                    yield found
        except FileNotFoundError:
            if family == socket.AF_INET:  # a kernel without IPv6 has none of the other
                raise


def own_sockets(proc: Path = Path("/proc/self/fd")) -> set[int]:
    """The inodes of all sockets of this process."""
    inodes = set()
    for entry in proc.iterdir():
        try:
            target = str(entry.readlink())
        except OSError:
            continue  # the descriptor by which we list
        if target.startswith("socket:["):
            inodes.add(int(target[8:-1]))
    return inodes


def reset(endpoints: Collection[Endpoint], make: Make = netlink.connect) -> Outcome:
    """Reset every connection to these endpoints that is not the agent's. Blocking.

    Args:
        endpoints: where nobody may go directly.
        make: says in which network namespace.
    """
    outcome = Outcome()
    deadline = time.monotonic() + SECONDS
    try:
        with make(netlink.NETLINK_SOCK_DIAG) as diag:
            found = list(find(diag, endpoints))
            # In this order: each of ours that was found was open then, and is seen now.
            ours = own_sockets()
            for connection in found:
                if connection.inode in ours:
                    continue
                if len(outcome.reset) >= MOST or time.monotonic() > deadline:
                    outcome.stay += 1
                    outcome.why = f"more than {MOST}, or more than {SECONDS:.0f} s of work"
                    continue
                _destroy(diag, connection, outcome)
    except OSError as error:
        outcome.why = error.strerror or str(error)
    return outcome


def reset_everywhere(endpoints: Collection[Endpoint], elsewhere: Elsewhere) -> Outcome:
    """`reset`, here and in other network namespaces, `SECONDS` for all of those. Blocking."""
    outcome = reset(endpoints)
    deadline = time.monotonic() + SECONDS
    for make in elsewhere():
        if time.monotonic() > deadline:
            outcome.why = f"more than {SECONDS:.0f} s of work in other network namespaces"
            break
        there = reset(endpoints, make)
        outcome.reset += there.reset
        outcome.stay += there.stay
        if there.stay:  # else it may have gone while we looked
            outcome.why = there.why
    return outcome


def _destroy(diag: socket.socket, connection: Connection, outcome: Outcome) -> None:
    try:
        for _ in netlink.ask(diag, _DESTROY, netlink.ACK, pack_destroy(connection)):
            pass
    except OSError as error:
        if error.errno == errno.ENOENT:
            return  # ended by itself
        outcome.stay += 1
        outcome.why = "the kernel has no CONFIG_INET_DIAG_DESTROY"
        if error.errno != errno.EOPNOTSUPP:
            outcome.why = error.strerror or os.strerror(error.errno or 0)
    else:
        outcome.reset.append(connection)


class Older:
    """Ends older connections when an endpoint becomes enforced: after attaching, and later.

    Attributes:
        elsewhere: other network namespaces to look at; none at first.
    """

    def __init__(self, end: Callable[[Collection[Endpoint], Elsewhere], Outcome], log: Log) -> None:
        self.elsewhere: Elsewhere = tuple
        self._end = end
        self._log = log
        self._enforced: frozenset[Endpoint] = frozenset()

    async def end(self, modes: Mapping[Endpoint, Mode]) -> None:
        """Reset those to endpoints that were not enforced before, and say how many."""
        now = frozenset(endpoint for endpoint, mode in modes.items() if mode is Mode.ENFORCE)
        began, self._enforced = now - self._enforced, now
        if not began:
            return
        outcome = await trio.to_thread.run_sync(self._end, began, self.elsewhere)
        done, wrong = outcome.words()
        if done:
            self._log.info(done)
        if wrong:
            self._log.warn(wrong)

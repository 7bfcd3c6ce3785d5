"""What the agent's life needs from outside, as types: the real ones come from `start.py`, tests
bring fakes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from gpa.agent.identity import Names

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping

    import trio

    from gpa._native.records import CallerFields
    from gpa.agent.audit import Pieces, RuleWords
    from gpa.agent.guard import InterfaceGuard
    from gpa.agent.host import KeyStore
    from gpa.agent.netns import Opened, Report
    from gpa.agent.nsscan import Home
    from gpa.agent.older import Elsewhere, Make, Outcome
    from gpa.agent.relay import Relay
    from gpa.agent.rules import Policy
    from gpa.agent.systemd import Kept
    from gpa.endpoints import Endpoint, Mode


class NamespaceDoor(Protocol):
    """Other network namespaces; `gpa.agent.netns` is the real one.

    Attributes:
        own: cookie of our own.
    """

    own: int

    def watch(self, what: int) -> None:
        """What is reported from now on."""

    def reports_fd(self) -> int:
        """Readable while there are reports."""

    def reports(self) -> list[Report]:
        """The oldest, a few."""

    def mounts_fd(self) -> int:
        """Readable when mounts have changed since `mounts_seen`."""

    def mounts_seen(self) -> None:
        """Changes so far are known."""

    def scan(self) -> dict[int, Home]:
        """Those that there are, by inode number; blocking."""

    def knows_pids(self) -> bool:
        """Whether process ids in reports mean something here."""

    def inum(self, path: str) -> int:
        """Inode number of the namespace behind a path; 0 for our own."""

    def open(self, path: str) -> Opened:
        """A listening socket there."""

    def netlink_elsewhere(self) -> Iterable[Make]:
        """What gives netlink sockets of those with intercepted callers; blocking."""

    def mark(self, listener: socket.socket) -> None:
        """Have the kernel half take the socket for a listener of ours."""

    def lead(self, cookie: int, port: int) -> None:
        """Connects there go to that port from now on."""

    def forget(self, cookie: int) -> None:
        """They do no more."""

    def led(self) -> list[int]:
        """Those whose connects are led somewhere, ours left out."""


class Interception(Protocol):
    """The kernel half while the agent lives; `gpa.agent.interception` is the real one."""

    @property
    def guard(self) -> InterfaceGuard | None:
        """The guard at the interfaces, to be run while the agent lives."""

    @property
    def netns(self) -> NamespaceDoor:
        """Other network namespaces."""

    def set_modes(self, modes: Mapping[Endpoint, Mode]) -> None:
        """Tell connect() what holds for each endpoint."""

    def counters(self) -> dict[str, int]:
        """Counts of the kernel half."""

    @property
    def records_map(self) -> int:
        """Descriptor of the map that holds the records of sockets."""

    def is_attached(self) -> bool:
        """Whether all programs are still where they were attached."""

    def release(self) -> None:
        """Detach and remove everything."""

    def leave(self) -> None:
        """Close our descriptors; what is pinned stays."""


@dataclass(frozen=True)
class Tools:
    """All that the agent's life needs from outside.

    Attributes:
        relay: the native relay, made after this process entered its leaf cgroup.
        snapshot: (epoch, table, key) to a native snapshot.
        attach: blocking; enters the leaf, loads, owns the listener that it is given, redirects.
        listener: makes the listening socket; raises `PortTakenError`.
        connect: an exempted connection to WireServer.
        keys: where keys are stored.
        policy: compiles rules.
        split: audit rows of the relay as the auditor takes them.
        decode_caller: a caller's record.
        reset_older: blocking; ends the connections to these endpoints that are not the agent's.
        names: resolves users and programs for records.
        kept_elsewhere: listeners in other network namespaces that the service manager kept.
    """

    relay: Relay
    snapshot: Callable[[int, bytes, Any], Any]
    attach: Callable[[Callable[[], socket.socket]], Interception]
    listener: Callable[[], socket.socket]
    connect: Callable[[], Awaitable[trio.abc.Stream]]
    keys: KeyStore
    policy: Policy
    split: Callable[[bytes, RuleWords | None], Pieces]
    decode_caller: Callable[[bytes], CallerFields]
    reset_older: Callable[[Collection[Endpoint], Elsewhere], Outcome]
    names: Names = field(default_factory=Names)
    kept_elsewhere: Kept = ()

"""The kernel half's door for other network namespaces: its reports, our sockets there, which port
connects go to. What is opened and when stands in `namespaces.py`.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import socket
import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from gpa import _native
from gpa.agent import netlink, nsscan
from gpa.agent.libbpf import BpfError
from gpa.agent.listener import own_port
from gpa.endpoints import LISTEN_ADDRESS

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpa.agent.libbpf import Map, Object
    from gpa.agent.nsscan import Home, Scope

REPORT: Final = struct.Struct("=QIIII16s")
"""`struct gpa_report`."""

COOKIE: Final = struct.Struct("=Q")
"""Key of `netns_port`."""

AT_ONCE: Final = 16
"""Reports taken in one go: each may mean a listener, a third of a millisecond."""

SEEN, REFUSED, PASSED, WAITS = 0, 1, 2, 3
"""`enum gpa_report_kind`."""

WATCH_NOTHING, WATCH_CONNECTS, WATCH_SOCKETS = 0, 1, 2
"""`GPA_WATCH_*`."""

WATCH: Final = struct.Struct("=II")
"""`struct gpa_watch`."""

TCP_MD5SIG: Final = 14
"""Socket option of include/uapi/linux/tcp.h; its value has 216 bytes."""


class Report(NamedTuple):
    """Somebody in a namespace where we have no listener; `struct gpa_report`."""

    cookie: int
    kind: int
    tgid: int
    tid: int
    uid: int
    comm: str


class Opened(NamedTuple):
    """A listening socket of ours in another namespace, which nobody is led to yet."""

    cookie: int
    socket: socket.socket


class Netns:
    """What `namespaces.Namespaces` needs of the system, on a loaded eBPF object.

    Attributes:
        own: cookie of our own namespace, where the first listener is; known once that stands.
    """

    def __init__(
        self,
        obj: Object,
        mark: Callable[[socket.socket], None],
        bound: Callable[[], int],
        scope: Scope,
    ) -> None:
        """Open the maps.

        Args:
            obj: loaded.
            mark: makes a socket known as a listener of ours.
            bound: cookie of the namespace of the socket that we bound last.
            scope: what the programs see.
        """
        self.own = 0
        self._mark = mark
        self._bound = bound
        self._scope = scope
        self._inum = nsscan.inum_of("/proc/self/ns/net")
        self._netns_port: Map = obj.map("netns_port", 8, 4)
        self._watch: Map = obj.map("watch", 4, WATCH.size)
        self._reports = obj.ring("reports", REPORT.size)
        self._mounts = nsscan.MountWatch()

    # What happens.

    def watch(self, what: int) -> None:
        """What the kernel half reports from now on: `WATCH_*`."""
        port = LISTEN_ADDRESS[1] if what == WATCH_SOCKETS and _connects_can_wait() else 0
        self._watch.set(bytes(4), WATCH.pack(what, port))

    def reports_fd(self) -> int:
        """Readable while there are reports."""
        return self._reports.fileno()

    def reports(self) -> list[Report]:
        """The oldest reports, a few."""
        return [_report(record) for record in self._reports.take(AT_ONCE)]

    def mounts_fd(self) -> int:
        """Readable when mounts have changed since `mounts_seen`."""
        return self._mounts.fileno()

    def mounts_seen(self) -> None:
        """Changes so far are known."""
        self._mounts.clear()

    def scan(self) -> dict[int, Home]:
        """Other namespaces by inode number; blocking."""
        return nsscan.scan(self._inum, self._scope)

    def knows_pids(self) -> bool:
        """Whether the process ids in reports mean something here."""
        return nsscan.pids_are_the_kernels()

    # What we do.

    def inum(self, path: str) -> int:
        """Inode number of the namespace that the path leads to; 0 for our own.

        Raises:
            OSError: the process has ended.
        """
        inum = nsscan.inum_of(path)
        return 0 if inum == self._inum else inum

    def open(self, path: str) -> Opened:
        """Listen in that namespace. The kernel half tells the cookie: that of the socket itself,
        whatever the process behind the path has done meanwhile.

        Raises:
            OSError: it cannot be entered, or the process has ended.
            PortTakenError: somebody there has the port.
            CannotCreateError: the kernel refuses the socket.
        """
        family, kind = socket.AF_INET, socket.SOCK_STREAM
        namespace = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            inum = os.fstat(namespace).st_ino
            made = socket.socket(family, kind, 0, _native.socket_in(namespace, family, kind, 0))
        finally:
            os.close(namespace)
        try:
            # First: a connect that finds it listening must know whose it is.
            self.mark(made)
            own_port(made, LISTEN_ADDRESS, lambda: nsscan.tables(inum))
            return Opened(self._bound(), made)
        except BaseException:
            made.close()
            raise

    def netlink_elsewhere(self) -> list[Callable[[int], socket.socket]]:
        """For each of the others in which somebody is intercepted: what gives a netlink socket
        there, and `OSError` when it has gone; blocking."""
        homes = self.scan().values()
        return [functools.partial(_netlink_in, home.path) for home in homes if home.wanted]

    def mark(self, listener: socket.socket) -> None:
        """Have the kernel half take the socket for a listener of ours."""
        self._mark(listener)

    def lead(self, cookie: int, port: int) -> None:
        """Connects of that namespace go to this port from now on.

        Raises:
            BpfError: the map is full.
        """
        self._netns_port.set(COOKIE.pack(cookie), struct.pack("=I", port))

    def forget(self, cookie: int) -> None:
        """They do no more."""
        self._netns_port.remove(COOKIE.pack(cookie))

    def led(self) -> list[int]:
        """Cookies of the namespaces whose connects are led somewhere, ours left out."""
        keys = list(self._netns_port.keys())
        return [key for (key,) in map(COOKIE.unpack, keys) if key != self.own]

    def close(self) -> None:
        """Report nothing more, close our descriptors."""
        with contextlib.suppress(BpfError):
            self.watch(WATCH_NOTHING)
        self._netns_port.close()
        self._watch.close()
        self._reports.close()
        self._mounts.close()


def _netlink_in(path: str, protocol: int) -> socket.socket:
    namespace = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        family, kind = socket.AF_NETLINK, socket.SOCK_RAW
        made = _native.socket_in(namespace, family, kind, protocol)
    finally:
        os.close(namespace)
    return netlink.connect(protocol, made)


def _connects_can_wait() -> bool:
    """Whether this kernel knows the option that holds a SYN back (bpf/hold.h)."""
    key = struct.pack("=H214x", socket.AF_INET)
    with socket.socket() as probe:
        try:
            probe.setsockopt(socket.IPPROTO_TCP, TCP_MD5SIG, key)
        except OSError as error:
            # What is taken away here was never there; a kernel without it has no such option.
            return error.errno == errno.ENOENT
    return True


def _report(record: bytes) -> Report:
    cookie, kind, tgid, tid, uid, comm = REPORT.unpack(record)
    return Report(cookie, kind, tgid, tid, uid, comm.split(b"\0")[0].decode("utf-8", "replace"))

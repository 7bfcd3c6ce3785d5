"""What is said to the service manager (sd_notify(3)), and the sockets that it kept for us
(sd_listen_fds(3)). Two small protocols, spoken here themselves.

A socket that was stored outlives the agent, also after kill -9, and comes back at the next start.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from gpa.agent.log import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

Kept = Sequence[tuple[str, socket.socket]]
"""Stored sockets with their names."""

FIRST_DESCRIPTOR: Final = 3
"""`SD_LISTEN_FDS_START`."""

MOST_DESCRIPTORS: Final = 1024
"""More than the agent ever stores; a larger number is not ours."""


def kept_sockets(environment: MutableMapping[str, str] = os.environ) -> Kept:
    """The stored sockets with their names, as they came; "unknown" where there is no name.

    To be called once, before this process opens anything: the variables are removed, and what is
    no socket is closed.
    """
    count = environment.pop("LISTEN_FDS", "")
    pid = environment.pop("LISTEN_PID", "")
    names = environment.pop("LISTEN_FDNAMES", "").split(":")
    if pid != str(os.getpid()) or not count.isdecimal() or int(count) > MOST_DESCRIPTORS:
        return []
    kept = []
    for number in range(int(count)):
        descriptor = FIRST_DESCRIPTOR + number
        name = names[number] if number < len(names) and names[number] else "unknown"
        try:
            os.set_inheritable(descriptor, False)
            if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                kept.append((name, socket.socket(fileno=descriptor)))
            else:
                os.close(descriptor)
        except OSError:  # there is no such descriptor
            continue
    return kept


class Notifier:
    """Sends states; does nothing where no service manager listens.

    Attributes:
        watchdog: seconds between two signs of life that the manager asks for, None for no watchdog.
        keeps: it is known to keep sockets: it has said how many (systemd 254), or has kept some.
    """

    def __init__(
        self, environment: Mapping[str, str] = os.environ, *, has_kept: bool = False
    ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        if self._address[:1] not in ("/", "@"):
            self._address = ""
        room = environment.get("FDSTORE", "")
        self.keeps = bool(self._address) and (has_kept or (room.isdecimal() and int(room) > 0))
        self.watchdog = self._watchdog_seconds(environment) if self._address else None

    def ready(self, status: str) -> None:
        """Listeners are owned and the interception is attached."""
        self._send("READY=1", f"STATUS={one_line(status)}")

    def status(self, status: str) -> None:
        """One line for `systemctl status`."""
        self._send(f"STATUS={one_line(status)}")

    def stopping(self) -> None:
        """The stop has begun."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """A sign of life for the watchdog."""
        self._send("WATCHDOG=1")

    def store(self, name: str, kept: socket.socket) -> None:
        """Have a copy of the socket kept until `forget`, and given to the next start.

        The manager does so where the service has room for it (`FileDescriptorStoreMax=`), and does
        not answer.
        """
        self._send("FDSTORE=1", f"FDNAME={name}", "FDPOLL=0", descriptors=(kept.fileno(),))

    def forget(self, name: str) -> None:
        """Have every copy of that name closed."""
        self._send("FDSTOREREMOVE=1", f"FDNAME={name}")

    def _send(self, *lines: str, descriptors: tuple[int, ...] = ()) -> None:
        if not self._address:
            return
        address = self._address
        if address.startswith("@"):
            address = "\0" + address[1:]
        flags = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        try:
            with socket.socket(socket.AF_UNIX, flags) as sock:
                sock.connect(address)
                data = "\n".join(lines).encode("utf-8", "backslashreplace")
                socket.send_fds(sock, [data], descriptors)
        except OSError:
            # A manager that is gone or busy must not stop the service; without WATCHDOG=1 it
            # restarts us by itself.
            return

    @staticmethod
    def _watchdog_seconds(environment: Mapping[str, str]) -> float | None:
        usec = environment.get("WATCHDOG_USEC", "")
        pid = environment.get("WATCHDOG_PID", "")
        if not usec.isdecimal() or int(usec) == 0 or pid not in ("", str(os.getpid())):
            return None
        return int(usec) / 1_000_000

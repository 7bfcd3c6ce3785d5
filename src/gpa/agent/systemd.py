"""sd_notify(3): what the service manager is told. A small datagram protocol, spoken here itself."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

from gpa.agent.log import one_line


class Notifier:
    """Sends states; does nothing where no service manager listens.

    Attributes:
        watchdog: seconds between two signs of life that the manager asks for, None for no watchdog.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        if self._address[:1] not in ("/", "@"):
            self._address = ""
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

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        address = self._address
        if address.startswith("@"):
            address = "\0" + address[1:]
        flags = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        try:
            with socket.socket(socket.AF_UNIX, flags) as sock:
                sock.sendto("\n".join(lines).encode("utf-8", "backslashreplace"), address)
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

"""The service manager of a laboratory: hears what its service says (sd_notify(3)), and keeps the
sockets that it stores, as systemd does with `FileDescriptorStoreMax=`."""

from __future__ import annotations

import os
import select
import socket
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

MESSAGE_BYTES: Final = 1 << 16
MESSAGE_DESCRIPTORS: Final = 16
"""At most in one message; further ones the kernel closes."""


class Manager:
    """One service's manager.

    Attributes:
        notified: what the latest start of the service has said, line by line.
        kept: name to descriptor of what it stored.
        keeps: False has no room for sockets, as most units have none.
    """

    def __init__(self, address: Path, *, keeps: bool = False) -> None:
        self.address = address
        self.notified: list[str] = []
        self.kept: dict[str, int] = {}
        self.keeps = keeps
        self._socket: socket.socket | None = None

    def listen(self) -> None:
        """Before each start of the service."""
        self._hang_up()
        self.address.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(str(self.address))
        self.notified.clear()

    def hear(self, seconds: float = 0.0) -> None:
        """Take what was said, and wait at most so long for the first word."""
        while self._socket is not None and select.select([self._socket], [], [], seconds)[0]:
            data, descriptors, _, _ = socket.recv_fds(
                self._socket, MESSAGE_BYTES, MESSAGE_DESCRIPTORS
            )
            lines = data.decode().splitlines()
            self.notified += lines
            self._obey(dict(line.split("=", 1) for line in lines), descriptors)
            seconds = 0.0

    def _obey(self, said: dict[str, str], descriptors: list[int]) -> None:
        name = said.get("FDNAME", "stored")
        if said.get("FDSTOREREMOVE") == "1":
            self._drop(name)
        for descriptor in descriptors:
            if said.get("FDSTORE") == "1" and self.keeps:
                self._drop(name)
                self.kept[name] = descriptor
            else:
                os.close(descriptor)

    def _drop(self, name: str) -> None:
        if name in self.kept:
            os.close(self.kept.pop(name))

    def _hang_up(self) -> None:
        self.hear()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def close(self) -> None:
        """The service is removed: nothing is kept any more."""
        self._hang_up()
        for name in tuple(self.kept):
            self._drop(name)

"""The service manager of a laboratory: hears what its service says (sd_notify(3)), and keeps the
sockets that it stores, as systemd does with `FileDescriptorStoreMax=`."""

from __future__ import annotations

import os
import socket
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

MESSAGE_BYTES: Final = 1 << 16
MESSAGE_DESCRIPTORS: Final = 16
"""At most in one message; further ones the kernel closes."""


class Manager:
    """One service's manager. A thread of its own listens: a descriptor in a message that nobody
    has read is open.

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
        self._heard = threading.Condition()
        self._socket: socket.socket | None = None
        self._listener: threading.Thread | None = None

    def listen(self) -> None:
        """Before each start of the service."""
        self._hang_up()
        self.address.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.address))
        self.notified.clear()
        self._listener = threading.Thread(target=self._listen, args=(self._socket,), daemon=True)
        self._listener.start()

    @property
    def environment(self) -> dict[str, str]:
        """For the service: where we listen, and how many sockets we keep."""
        return {"NOTIFY_SOCKET": str(self.address), "FDSTORE": "1024" if self.keeps else "0"}

    def has_heard(self, line: str, seconds: float) -> bool:
        """Whether the service has said so, or does within that time."""
        with self._heard:
            return self._heard.wait_for(lambda: line in self.notified, seconds)

    def _listen(self, sock: socket.socket) -> None:
        while True:
            data, descriptors, _, _ = socket.recv_fds(sock, MESSAGE_BYTES, MESSAGE_DESCRIPTORS)
            if not data:  # hung up
                return
            lines = data.decode().splitlines()
            with self._heard:
                self.notified += lines
                self._obey(dict(line.split("=", 1) for line in lines), descriptors)
                self._heard.notify_all()

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
        if self._socket is None or self._listener is None:
            return
        # What was said before is heard first.
        self._socket.shutdown(socket.SHUT_RD)
        self._listener.join()
        self._socket.close()
        self._socket = None

    def close(self) -> None:
        """The service is removed: nothing is kept any more."""
        self._hang_up()
        for name in tuple(self.kept):
            self._drop(name)

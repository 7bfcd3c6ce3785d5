"""The emulated host in a laboratory (docs/emulator.md)."""

from __future__ import annotations

import http.client
import json
import socket
from typing import TYPE_CHECKING, Any, Final

from gpa.demo.services import START_SECONDS, Service, read_lines, wait_until
from gpa.errors import UnavailableError

if TYPE_CHECKING:
    from pathlib import Path

    from gpa.demo.lab import Lab, Place

PLACES: Final = {
    "imds": "169.254.169.254:80",
    "wireserver": "168.63.129.16:80",
    "hostga": "168.63.129.16:32526",
}
"""Endpoint to where the host serves it (docs/protocol.md, "Endpoints")."""

CONTROL_SECONDS: Final = 65.0
"""The longest a control call takes is a minute: waiting for a record."""


class EmulatorProcess(Service):
    """`gpa emulate`, on the host's addresses.

    Attributes:
        scenario: the file; empty is a host that enforces everything.
    """

    def __init__(self, lab: Lab, place: Place, scenario: str) -> None:
        super().__init__(lab, "emulator", place)
        self.scenario = self.folder / "scenario.toml"
        self.scenario.write_text(scenario)
        self._socket = self.folder / "control"
        self._record = self.folder / "record.jsonl"

    def start(self, *, wait: bool = True) -> None:
        """Start it, by default until it listens.

        Raises:
            UnavailableError: it ended, or did not listen within `START_SECONDS`.
        """
        said = self._said_so_far()
        flags = [word for name, at in PLACES.items() for word in (f"--{name}", at)]
        flags += ["--scenario", str(self.scenario), "--control", str(self._socket)]
        flags += ["--record", str(self._record), "--key-file", str(self.folder / "latched.key")]
        self._spawn("emulate", *flags, env={})
        if wait:

            def listens() -> bool:
                self._check_alive()
                return '"ready": true' in self.output.read_text()[said:]

            wait_until(listens, START_SECONDS, "the start of the emulator")

    def control(self, method: str, path: str, document: object = None) -> Any:
        """One call of the control API, for example `control("PUT", "/mode", {"imds": "audit"})`.

        Raises:
            UnavailableError: it refuses; its words say why.
        """
        connection = _UnixConnection(self._socket)
        try:
            body = None if document is None else json.dumps(document)
            connection.request(method, path, body)
            answer = connection.getresponse()
            result = json.loads(answer.read())
        except (OSError, http.client.HTTPException) as error:
            raise UnavailableError(f"the emulator does not answer: {error}") from error
        finally:
            connection.close()
        if answer.status != 200:
            raise UnavailableError(f"the emulator refuses {method} {path}: {result['error']}")
        return result

    def records(self) -> list[dict[str, Any]]:
        """What arrived so far, in the order in which the requests ended."""
        return read_lines(self._record)

    def arrival(self, target: str) -> dict[str, Any] | None:
        """The record of the first request for exactly this target; None when none arrived."""
        return next((r for r in self.records() if r["target"] == target), None)

    def _said_so_far(self) -> int:
        return len(self.output.read_text()) if self.output.exists() else 0


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=CONTROL_SECONDS)
        self._path = path

    def connect(self) -> None:
        """Connect to the path instead of an address."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))

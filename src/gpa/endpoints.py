"""The services that the host offers and how each is protected: the words that all planes share."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Endpoint(StrEnum):
    """A protected service (docs/protocol.md, "Endpoints"); the value is its word in tables and
    records."""

    IMDS = "imds"
    WIRESERVER = "wireserver"
    HOSTGA = "hostga"

    @property
    def address(self) -> tuple[str, int]:
        """Address and port on which the host offers it."""
        return _ADDRESSES[self]

    @property
    def label(self) -> str:
        """Name in the state string that operators read."""
        return _LABELS[self]


class Mode(StrEnum):
    """What happens to requests of an endpoint; `UNKNOWN` is enforced, and waits in the agent."""

    UNKNOWN = "unknown"
    DISABLED = "disabled"
    AUDIT = "audit"
    ENFORCE = "enforce"


_ADDRESSES: Final = {
    Endpoint.IMDS: ("169.254.169.254", 80),
    Endpoint.WIRESERVER: ("168.63.129.16", 80),
    Endpoint.HOSTGA: ("168.63.129.16", 32526),
}
_LABELS: Final = {
    Endpoint.IMDS: "IMDS",
    Endpoint.WIRESERVER: "WireServer",
    Endpoint.HOSTGA: "HostGA",
}

LISTEN_ADDRESS: Final = ("127.0.0.1", 3080)
"""Where the agent listens, and nowhere else."""

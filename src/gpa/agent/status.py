"""The aggregate status: what operators and the platform read. Pure; docs/protocol.md, "Aggregate
status".

Never a key, signature or token: it is built from names and counts alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from gpa.agent.log import one_line, timestamp
from gpa.endpoints import Endpoint

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpa.agent.latch import Latch
    from gpa.agent.summary import Summary

RUNNING: Final = "RUNNING"
STOPPED: Final = "STOPPED"
UNKNOWN: Final = "UNKNOWN"

MESSAGE_LIMIT: Final = 1024
"""Characters; the platform cuts longer ones."""


@dataclass
class Part:
    """How one part of the agent stands."""

    status: str = UNKNOWN
    message: str = ""

    def run(self, message: str = "") -> None:
        """It works."""
        self.status, self.message = RUNNING, message

    def stop(self, message: str) -> None:
        """It does not, and why."""
        self.status, self.message = STOPPED, message

    def shown(self, states: Mapping[str, str] | None = None) -> dict[str, Any]:
        """As JSON."""
        shown: dict[str, Any] = {
            "status": self.status,
            "message": one_line(self.message, MESSAGE_LIMIT),
        }
        if states is not None:
            shown["states"] = dict(states)
        return shown


@dataclass
class Parts:
    """All parts that the status tells of."""

    monitor: Part = field(default_factory=Part)
    latch: Part = field(default_factory=Part)
    ebpf: Part = field(default_factory=Part)
    listener: Part = field(default_factory=Part)
    telemetry: Part = field(default_factory=lambda: Part(UNKNOWN, "no telemetry is sent"))

    def troubles(self) -> list[str]:
        """What is not running of the parts that serve requests; empty when all are."""
        parts = {
            "key latch": self.latch,
            "eBPF": self.ebpf,
            "listener": self.listener,
        }
        return [
            f"{name}: {one_line(part.message or 'not ready', MESSAGE_LIMIT)}"
            for name, part in parts.items()
            if part.status != RUNNING
        ]


def aggregate(
    version: str, parts: Parts, latch: Latch, rule_ids: Mapping[Endpoint, str], summary: Summary
) -> dict[str, Any]:
    """The whole status as JSON."""
    states = {
        "secureChannelState": latch.state,
        "keyGuid": latch.key.guid if latch.key else "",
        "wireServerRuleId": rule_ids.get(Endpoint.WIRESERVER, ""),
        "imdsRuleId": rule_ids.get(Endpoint.IMDS, ""),
        "hostGARuleId": rule_ids.get(Endpoint.HOSTGA, ""),
        "keyIncarnationId": _incarnation(latch),
    }
    unknown = any(part.status == UNKNOWN for part in (parts.latch, parts.ebpf, parts.listener))
    overall = "ERROR" if parts.troubles() else "SUCCESS"
    return {
        "timestamp": timestamp(),
        "proxyAgentStatus": {
            "version": version,
            "status": UNKNOWN if unknown else overall,
            "monitorStatus": parts.monitor.shown(),
            "keyLatchStatus": parts.latch.shown(states),
            "ebpfProgramStatus": parts.ebpf.shown(),
            "proxyListenerStatus": parts.listener.shown(),
            "telemetryLoggerStatus": parts.telemetry.shown(),
            "proxyConnectionsCount": summary.total,
        },
        "proxyConnectionSummary": summary.rows(),
        "failedAuthenticateSummary": summary.failed_rows(),
    }


def _incarnation(latch: Latch) -> str:
    if latch.key is None or latch.key.incarnation is None:
        return ""
    return str(latch.key.incarnation)

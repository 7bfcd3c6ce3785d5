"""Statuses of the secure channel, each wrong in one way: what an agent must not believe."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from gpa.emulator.message import Answer

if TYPE_CHECKING:
    from gpa.emulator.faults import Garbled

_HUGE = 64 << 20


def garbled(document: dict[str, object], variant: Garbled) -> Answer:
    """The status that this host would answer, spoiled."""
    version = document.get("version")
    body: bytes | None = None
    match variant:
        case "not_json":
            body = b"<html><body>It works!</body></html>"
        case "empty":
            body = b""
        case "truncated":
            body = json.dumps(document).encode()[:-20]
        case "not_an_object":
            body = json.dumps([document]).encode()
        case "huge":
            return Answer(200, size=_HUGE, content_type="application/json")
        case "wrong_types":
            document |= {"keyGuid": 17, "version": 2.0, "keyIncarnationId": "one"}
        case "no_version":
            document.pop("version", None)
        case "unknown_version":
            document["version"] = "9.9"
        case "no_state":
            document.pop("secureChannelState", None)
            document.pop("secureChannelEnabled", None)
        case "unknown_state":
            document |= {"version": "1.0", "secureChannelState": "Sometimes"}
        case "unknown_mode":
            item = {"mode": "sometimes", "defaultAccess": "allow", "id": "x", "rules": None}
            document |= {
                "version": "2.0",
                "secureChannelEnabled": True,
                "authorizationRules": {"imds": item, "wireserver": item, "hostga": None},
            }
        case "bad_guid":
            document |= {"keyGuid": "../../etc/passwd", "version": version}
    if body is None:
        body = json.dumps(document).encode()
    return Answer(200, body, "application/json; charset=utf-8")

"""Assignments of local rules that do not hold now, for `gpa status`: from the newest
AuthorizationRules file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from gpa.agent.files import read_small

if TYPE_CHECKING:
    from pathlib import Path

MAX_BYTES: Final = 64 << 20
"""The agent writes no larger one: a host's rules have 1 MiB, and what is computed is bounded."""


class _Grant(msgspec.Struct):
    role: str
    why: str


class _Rules(msgspec.Struct, rename={"grants": "assignmentsNotInForce"}):
    grants: list[_Grant] = []


class _Document(msgspec.Struct, rename={"endpoints": "computedRules"}):
    endpoints: dict[str, _Rules | None] = {}


def grants(folder: Path) -> list[str]:
    """One line each; none where the file cannot be read."""
    newest = max(folder.glob("AuthorizationRules_*.json"), default=None)
    try:
        data = read_small(newest, MAX_BYTES) if newest is not None else None
        document = msgspec.json.decode(data, type=_Document) if data else _Document()
    except (OSError, msgspec.MsgspecError):
        return []
    return [
        f"{name}: role {grant.role}: {grant.why}"
        for name, rules in document.endpoints.items()
        for grant in (rules.grants if rules is not None else ())
    ]

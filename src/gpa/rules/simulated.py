"""A simulation in words and as JSON. Foreign text is left as it is: who prints it escapes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gpa.rules import phrases
from gpa.rules.extensions import moment_words
from gpa.rules.simulate import Change

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime
    from pathlib import Path

    from gpa.rules.records import Reading
    from gpa.rules.replay import Log, Seen
    from gpa.rules.simulate import Line, Simulation
    from gpa.rules.validity import Outside

REASONS: Final = {
    "default_allow": "no privilege matches, and the default is to allow",
    "default_deny": "no privilege matches, and the default is to deny",
    "no_rules": "there are no rules for this endpoint",
    "rules_broken": "the rules are broken",
    "not_root": "this endpoint is for root only",
    "ambiguous_query": "a parameter that a rule names is there twice, with different values",
    "exempt": "telemetry of root is exempt from the rules",
}
"""For reasons that name no rule."""

MAX_OUTSIDE: Final = 20
"""Assignments printed that do not hold; the others, too, are in the JSON."""

UNKNOWN_WORDS: Final = {
    "userName": "the user's name",
    "groupName": "the user's groups",
    "exePath": "the program's path",
    "processName": "the program's name",
    "uid": "the user",
    "exeSha256": "what is in the program's file",
    "systemdUnit": "the unit",
    "cgroup": "the cgroup",
    "containerId": "the container",
    "target": "the rest of the target",
}


def words(line: Line, seen: Seen) -> list[str]:
    """Two lines: what was asked, by whom, and why it comes out so."""
    who = line.user or ("nobody known" if line.uid is None else f"uid {line.uid}")
    who += f" running {line.program}" if line.program else ""
    target = phrases.path(line.path)
    if line.query:
        target += "?" + "&".join(f"{n}={'…' if v is None else v}" for n, v in line.query)
    when = f", {phrases.span(seen.first, seen.last)}" if seen.first else ""
    head = f"{seen.count:>7,} x {who}: {line.method} {target}{when}"
    why = ""
    if line.change is Change.DEPENDS:
        why = "on " + ", ".join(_unknown(one) for one in line.unknown) + ", not in the record"
    elif line.identity is not None:
        why = f"by privilege {line.privilege!r}, role {line.role!r}, identity {line.identity!r}"
    elif line.privilege is not None:
        why = f"privilege {line.privilege!r} is not granted to this caller"
    else:
        why = REASONS.get(line.reason or "", line.reason or "")
    if line.audited and line.change is Change.NEWLY_REFUSED:
        why += "; audit mode let it through"
    return [head, f"          {why}"]


def _unknown(one: str) -> str:
    if one.startswith("query "):
        return f"the value of {one.removeprefix('query ')!r}"
    return UNKNOWN_WORDS.get(one, one)


def outside_words(path: Path, at: datetime, those: tuple[Outside, ...]) -> Iterator[str]:
    """Which assignments of a file were left out of the judging."""
    if those:
        yield f"note: at {moment_words(at)} these of {path} do not hold, and are left out:"
    for one in those[:MAX_OUTSIDE]:
        yield f"  {one}"
    if len(those) > MAX_OUTSIDE:
        yield f"  and {phrases.count(len(those) - MAX_OUTSIDE, 'more assignment')}: see --json"


def document(simulation: Simulation, log: Log, reading: Reading) -> dict[str, Any]:
    """docs/rules-tools.md says what its members mean."""

    def lines(change: Change) -> list[dict[str, Any]]:
        return [
            {
                "uid": line.uid,
                "user": line.user or None,
                "program": line.program or None,
                "method": line.method,
                "path": phrases.path(line.path),
                "query": [list(pair) for pair in line.query],
                "privilege": line.privilege,
                "role": line.role,
                "identity": line.identity,
                "reason": line.reason,
                "unknown": list(line.unknown),
                "audited": line.audited,
                "count": seen.count,
                "first": seen.first or None,
                "last": seen.last or None,
            }
            for line, seen in simulation.lines.items()
            if line.change is change
        ]

    return {
        "changes": {str(change): lines(change) for change in Change},
        "counts": {str(change): simulation.count(change) for change in Change},
        "unjudged": log.unjudged + simulation.unread,
        "leftOut": log.forgotten,
        "unreadable": reading.unreadable + reading.torn,
        "guessed": dict(sorted(log.known.guessed.items())),
    }


def not_in_force(those: Iterable[Outside]) -> list[dict[str, Any]]:
    """Assignments that do not hold, for machines."""
    return [
        {
            "role": one.assignment.role,
            "identities": list(one.assignment.identities),
            "why": one.why,
        }
        for one in those
    ]

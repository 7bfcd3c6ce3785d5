"""Requests that were made, judged by rules that are not in force yet: what would change, for whom.

Judged as in enforce mode: what audit mode let through and the candidate refuses would be refused.
Where the record does not say what the candidate asks, it depends, and on what is told.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from gpa.endpoints import Mode
from gpa.rules.effect import Effect, Universe
from gpa.rules.judge import ALLOW, DEPENDS, Judge
from gpa.rules.replay import Seen, request_of, without_volatile

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpa.rules.facts import Caller, Request
    from gpa.rules.judge import Judgement
    from gpa.rules.model import EffectiveRules
    from gpa.rules.replay import Kind, Log


class Change(enum.StrEnum):
    """What becomes of a request."""

    NEWLY_REFUSED = "newly refused"
    NEWLY_ALLOWED = "newly allowed"
    DEPENDS = "depends"
    ALLOWED = "allowed"
    REFUSED = "refused"
    STILL_ALLOWED = "still allowed"
    STILL_REFUSED = "still refused"


class Line(NamedTuple):
    """Requests that are told together.

    Attributes:
        uid: of the callers.
        user: its name, where it is known.
        program: path, or name where that is all that is known; empty when nothing is.
        path: segments in canonical form.
        query: of the parameters that the rules name; None: the record does not tell the value.
        privilege, role, identity: of the candidate, as its record would have them.
        reason: of the candidate, as its record would have it; None where it depends.
        unknown: on what it depends (`gpa.rules.judge.Judgement`).
        audited: only audit mode let them through.
        through: what was recorded, or is expected; None where nobody says.
    """

    change: Change
    uid: int | None
    user: str
    program: str
    method: str
    path: tuple[str, ...]
    query: tuple[tuple[str, str | None], ...]
    privilege: str | None
    role: str | None
    identity: str | None
    reason: str | None
    unknown: tuple[str, ...]
    audited: bool
    through: bool | None


@dataclass(slots=True)
class Simulation:
    """What came of it.

    Attributes:
        lines: with how often and when, the most frequent of a change first.
        unread: requests whose target cannot be read: the agent refuses them whatever the rules.
    """

    lines: Mapping[Line, Seen] = field(default_factory=dict)
    unread: int = 0

    def count(self, change: Change) -> int:
        """Requests with that change."""
        return sum(seen.count for line, seen in self.lines.items() if line.change is change)

    @property
    def for_the_worse(self) -> bool:
        """True when something that was let through would be refused."""
        return any(line.change is Change.NEWLY_REFUSED for line in self.lines)

    @property
    def as_expected(self) -> bool:
        """True when all that was expected came out, and nothing of it depends."""
        others = {Change.NEWLY_REFUSED, Change.NEWLY_ALLOWED, Change.DEPENDS}
        return not any(line.through is not None and line.change in others for line in self.lines)


def simulate(
    log: Log, candidate: EffectiveRules | None, against: Judge | None = None
) -> Simulation:
    """Judge all requests by the candidate.

    Args:
        log: the requests.
        candidate: the rules; None as where the host sends none.
        against: judges by the rules that are compared with; None: with what was recorded.

    Raises:
        RulesError: a path that no request can have.
    """
    judge = Judge(log.endpoint, Mode.ENFORCE, candidate)
    named = Effect(candidate, Universe()).named
    if against is not None:
        named |= Effect(against.effective, Universe()).named
    found: dict[Line, Seen] = {}
    unread = 0
    answers: dict[tuple[Caller, Request, bool | None], tuple[Change, Judgement]] = {}
    for kind, seen in log.kinds.items():
        request = request_of(log.endpoint, kind)
        if request is None:
            unread += seen.count
            continue
        request = without_volatile(request, named)
        caller = log.known.caller(kind.asker)
        key = (caller, request, kind.through)
        if key not in answers:
            before = None if against is None else against.judge(caller, request)
            answers[key] = _change(judge.judge(caller, request), before, through=kind.through)
        line = _line(log, kind, request, *answers[key])
        found.setdefault(line, Seen()).join(seen)
    order = list(Change)
    lines = sorted(found.items(), key=lambda item: (order.index(item[0].change), -item[1].count))
    return Simulation(dict(lines), unread)


def _change(
    judgement: Judgement, before: Judgement | None, *, through: bool | None
) -> tuple[Change, Judgement]:
    """What changes, and the judgement that says on what it depends."""
    if judgement.decision == DEPENDS:
        return Change.DEPENDS, judgement
    allows = judgement.decision == ALLOW
    if before is not None:
        if before.decision == DEPENDS:
            return Change.DEPENDS, before
        through = before.decision == ALLOW
    if through is None:
        return (Change.ALLOWED if allows else Change.REFUSED), judgement
    if allows:
        return (Change.STILL_ALLOWED if through else Change.NEWLY_ALLOWED), judgement
    return (Change.NEWLY_REFUSED if through else Change.STILL_REFUSED), judgement


def _line(log: Log, kind: Kind, request: Request, change: Change, judgement: Judgement) -> Line:
    asker, known = kind.asker, log.known
    return Line(
        change=change,
        uid=asker.uid,
        user=", ".join(sorted(known.users(asker).values)),
        program=known.path(asker) or asker.program or "",
        method=kind.method,
        path=request.segments,
        query=request.query,
        privilege=judgement.privilege,
        role=judgement.role,
        identity=judgement.identity,
        reason=judgement.reason,
        unknown=judgement.unknown,
        audited=kind.audited,
        through=kind.through,
    )

"""When assignments hold: `notBefore` and `notAfter` of local rules.

The engine has no clock. Rules are compiled for a moment, without the assignments that do not hold
then, and compiled anew at the next boundary, which is found here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from gpa.rules.extensions import moment_words

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from gpa.rules.model import Assignment, EffectiveRules


class Outside(NamedTuple):
    """An assignment that does not hold now, and why: `not before 2026-01-31T08:00:00Z`."""

    assignment: Assignment
    why: str

    def __str__(self) -> str:
        identities = ", ".join(ascii(name)[1:-1] for name in self.assignment.identities[:4])
        if len(self.assignment.identities) > 4:
            identities += ", ..."
        return f"role {self.assignment.role!a} of {identities}: {self.why}"


def why_not(assignment: Assignment, now: datetime) -> str:
    """Why the assignment does not hold; empty when it does."""
    if assignment.not_before is not None and now < assignment.not_before:
        return f"not in force before {moment_words(assignment.not_before)}"
    if assignment.not_after is not None and now >= assignment.not_after:
        return f"no longer in force since {moment_words(assignment.not_after)}"
    return ""


def split(rules: EffectiveRules, now: datetime) -> tuple[EffectiveRules, tuple[Outside, ...]]:
    """The rules with the assignments that hold now, and the others."""
    outside = tuple(
        Outside(assignment, why)
        for assignment in rules.rules.assignments
        if (why := why_not(assignment, now))
    )
    if not outside:
        return rules, ()
    left = tuple(a for a in rules.rules.assignments if not why_not(a, now))
    return replace(rules, rules=replace(rules.rules, assignments=left)), outside


def next_boundary(endpoints: Iterable[EffectiveRules | None], now: datetime) -> datetime | None:
    """When what holds changes next; None when it never does."""
    moments = (
        moment
        for effective in endpoints
        if effective is not None
        for assignment in effective.rules.assignments
        for moment in (assignment.not_before, assignment.not_after)
        if moment is not None and moment > now
    )
    return min(moments, default=None)

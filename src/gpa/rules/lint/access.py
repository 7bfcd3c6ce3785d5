"""What happens where no privilege matches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpa.rules.lint import codes
from gpa.rules.lint.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpa.rules.lint.subject import Subject


def open_elsewhere(subject: Subject) -> Iterator[Finding]:
    """Privileges do not close what they do not name."""
    if subject.default_allowed and subject.rules.privileges:
        yield Finding(
            codes.OPEN_ELSEWHERE,
            "defaultAccess",
            "what no privilege names is open to everybody; the rules close only their own paths",
            "say deny, and grant what is needed",
        )


def all_closed(subject: Subject) -> Iterator[Finding]:
    """Deny, and nothing granted."""
    if subject.default_allowed is False and not any(subject.holders.values()):
        yield Finding(
            codes.ALL_CLOSED,
            "defaultAccess",
            "everything is refused to everybody, to root as well: nothing is granted"
            + ("" if subject.host else ", unless the host's rules do"),
            "grant what the machine needs, its own agents first",
        )


def overrides_host(subject: Subject) -> Iterator[Finding]:
    """A local file that opens what the host may have closed."""
    if not subject.host and subject.default_allowed is not None:
        what = (
            "what the host's rules close by default is open"
            if subject.default_allowed
            else "what the host's rules leave open is refused, also to the machine's own agents"
        )
        yield Finding(
            codes.OVERRIDES_HOST,
            "defaultAccess",
            f"a local defaultAccess replaces the host's: {what}",
            "leave it out, unless that is meant",
        )

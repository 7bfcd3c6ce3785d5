"""One thing that a check found, and how grave it is."""

from __future__ import annotations

import enum
import re
from typing import NamedTuple


class Severity(enum.StrEnum):
    """How grave: an error is refused or ignored by the agent, a warning means something else than
    it seems to say, a note is only untidy."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"

    def reaches(self, other: Severity) -> bool:
        """Whether this is at least as grave."""
        order = list(Severity)
        return order.index(self) <= order.index(other)


class Code(NamedTuple):
    """A kind of finding.

    Attributes:
        number: stable, as `R201`.
        severity: how grave.
        title: a few words, the heading of its section.
    """

    number: str
    severity: Severity
    title: str

    @property
    def heading(self) -> str:
        """Of its section in docs/lint.md."""
        return f"{self.number} {self.title}"

    @property
    def page(self) -> str:
        """Where it is explained."""
        slug = re.sub(r"[^\w -]", "", self.heading.lower()).replace(" ", "-")
        return f"docs/lint.md#{slug}"


class Finding(NamedTuple):
    """What was found.

    Attributes:
        code: its kind.
        place: where, as `validate` writes it.
        words: what is so, one line.
        remedy: what to do, one line.
        on_key: the member's name is meant, not its value.
    """

    code: Code
    place: str
    words: str
    remedy: str
    on_key: bool = False

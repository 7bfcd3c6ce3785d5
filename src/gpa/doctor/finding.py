"""What a check says: one thing, how it stands, in words, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """How it stands."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        name: the check, and after a space what it is about where there are several.
        state: failure when interception cannot work so; warning when something is worse than it
            should be.
        words: what was seen.
        remedy: what to do; empty only for what is ok.
    """

    name: str
    state: State
    words: str
    remedy: str = ""

    def __post_init__(self) -> None:
        if bool(self.remedy) == (self.state is State.OK):
            raise ValueError(f"{self.name}: a remedy is for what is not ok, and only for that")


def ok(name: str, words: str) -> Finding:
    """All is well."""
    return Finding(name, State.OK, words)


def warning(name: str, words: str, remedy: str) -> Finding:
    """It works, but worse than it should."""
    return Finding(name, State.WARNING, words, remedy)


def failure(name: str, words: str, remedy: str) -> Finding:
    """Interception cannot work so."""
    return Finding(name, State.FAILURE, words, remedy)

"""What the reader sees: a line a finding with its remedy below, a table on a terminal, or one JSON
object.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final, Protocol

from gpa.agent.log import one_line
from gpa.doctor.finding import State

if TYPE_CHECKING:
    from pathlib import Path

    from gpa.doctor.finding import Finding

NAME_WIDTH: Final = 20
"""Columns of the longest usual name."""

COLOURS: Final = {State.OK: "green", State.WARNING: "yellow", State.FAILURE: "bold red"}


class Report(Protocol):
    """Is told what was found."""

    def add(self, finding: Finding) -> None:
        """One more."""

    def end(self) -> None:
        """That was all."""


class Lines:
    """For people and pipes: lines as they come."""

    def __init__(self) -> None:
        self._count: Counter[State] = Counter()

    def add(self, finding: Finding) -> None:
        """State, name, words; what to do on a line below."""
        self._count[finding.state] += 1
        head = f"{finding.state.value:7}  {finding.name:{NAME_WIDTH}} "
        sys.stdout.write(f"{head} {one_line(finding.words)}\n")
        if finding.remedy:
            sys.stdout.write(f"{' ' * len(head)} to do: {one_line(finding.remedy)}\n")

    def end(self) -> None:
        """One line that sums it up."""
        sys.stdout.write(f"\n{summary(self._count)}\n")


class Table:
    """For people at a terminal."""

    def __init__(self) -> None:
        self._findings: list[Finding] = []

    def add(self, finding: Finding) -> None:
        """Kept until the end: a table knows its widths then."""
        self._findings.append(finding)

    def end(self) -> None:
        """The table, and the line that sums it up."""
        from rich.console import Console
        from rich.table import Table as Grid
        from rich.text import Text

        console = Console(highlight=False)
        grid = Grid(title="What interception needs, and how it stands", title_justify="left")
        for name in ("state", "check"):
            grid.add_column(name, no_wrap=True)
        grid.add_column("what was seen, and what to do")
        for finding in self._findings:
            words = Text(one_line(finding.words))
            if finding.remedy:
                words.append(f"\nto do: {one_line(finding.remedy)}", style="bold")
            state = Text(finding.state.value, style=COLOURS[finding.state])
            grid.add_row(state, finding.name, words)
        console.print(grid)
        console.print(Text(summary(Counter(f.state for f in self._findings))))


class Json:
    """For machines: one object on stdout at the end; docs/doctor.md says what its members mean."""

    def __init__(self, config: Path) -> None:
        self._config = config
        self._findings: list[dict[str, Any]] = []

    def add(self, finding: Finding) -> None:
        """Kept."""
        self._findings.append(asdict(finding))

    def end(self) -> None:
        """The object."""
        states = Counter(found["state"] for found in self._findings)
        document = {
            "ok": not states[State.FAILURE],
            "failures": states[State.FAILURE],
            "warnings": states[State.WARNING],
            "config": str(self._config),
            "findings": self._findings,
        }
        sys.stdout.write(json.dumps(document) + "\n")


def summary(count: Counter[State]) -> str:
    """How it stands as a whole."""
    if failures := count[State.FAILURE]:
        return f"{failures} {_plural('failure', failures)}: interception cannot work so"
    if warnings := count[State.WARNING]:
        return f"interception can work; {warnings} {_plural('warning', warnings)}"
    return "all that interception needs is there"


def _plural(word: str, number: int) -> str:
    return word if number == 1 else f"{word}s"

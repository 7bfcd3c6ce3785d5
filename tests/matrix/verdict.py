"""From what a guest told to a verdict: what passed, what failed, what that kernel lacks."""

from __future__ import annotations

import fnmatch
import functools
import re
import tomllib
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tests.matrix.machine import Told

LISTED: Final = Path(__file__).with_name("lacking.toml")


SHOWN: Final = 600
"""Characters of a reason that people see: its end; JSON has more."""


@dataclass(frozen=True)
class Lacking:
    """One entry of lacking.toml."""

    kernel: str
    test: str
    because: str
    why: str

    def covers(self, series: str, test: str) -> bool:
        return self.kernel in ("*", series) and fnmatch.fnmatchcase(test, self.test)


@functools.cache
def listed() -> tuple[Lacking, ...]:
    """What lacking.toml says."""
    return tuple(Lacking(**entry) for entry in tomllib.loads(LISTED.read_text())["lacking"])


@dataclass(frozen=True)
class Outcome:
    """How a test came out.

    Attributes:
        outcome: `passed`, `failed` or `lacking`.
        said: why, when it did not pass.
    """

    test: str
    outcome: str
    seconds: float
    said: str


@dataclass(frozen=True)
class Row:
    """One boot of one kernel.

    Attributes:
        kernel: Debian's version, or what was asked for when that could not be had.
        boot: the name of the boot.
        trouble: why it did not come to its end; empty when it did.
    """

    kernel: str
    boot: str
    outcomes: tuple[Outcome, ...]
    seconds: float
    trouble: str

    def count(self, outcome: str) -> int:
        """How many came out so."""
        return Counter(o.outcome for o in self.outcomes)[outcome]

    @property
    def good(self) -> bool:
        """Something was tested, and nothing failed."""
        return bool(self.count("passed")) and not self.count("failed") and not self.trouble

    @property
    def verdict(self) -> str:
        """In few words, the first line of the trouble included."""
        if self.trouble:
            return self.trouble.splitlines()[0].split(";")[0]
        if not self.count("passed"):
            return "nothing was tested"
        return "good" if self.good else "failed"

    def document(self) -> dict[str, Any]:
        """For machines."""
        counts = {name: self.count(name) for name in ("passed", "failed", "lacking")}
        return {**asdict(self), **counts, "verdict": self.verdict, "good": self.good}


def series_of(version: str) -> str:
    """`5.10` of `5.10.262-1`."""
    found = re.match(r"\d+\.\d+", version)
    return found[0] if found else version


def judge(version: str, boot: str, told: Told, entries: Sequence[Lacking] | None = None) -> Row:
    """The row of a boot."""
    rules = listed() if entries is None else entries
    outcomes = tuple(_outcome(line, series_of(version), rules) for line in told.lines)
    return Row(version, boot, outcomes, round(told.seconds, 1), told.trouble)


def _outcome(line: Mapping[str, Any], series: str, entries: Iterable[Lacking]) -> Outcome:
    test, outcome, said = line["test"], line["outcome"], line["said"]
    entry = next((e for e in entries if e.covers(series, test)), None)
    if entry is None:
        if outcome == "skipped":
            outcome, said = "failed", f"skipped, and not in {LISTED.name}: {said}"
    elif outcome == "passed":
        outcome, said = "failed", f"passed, but {LISTED.name} says: {entry.why}"
    elif entry.because in said:
        outcome, said = "lacking", entry.why
    else:
        outcome, said = "failed", f"not for the reason of {LISTED.name} ({entry.because}): {said}"
    return Outcome(test, outcome, line["seconds"], said)


def table(rows: Sequence[Row]) -> str:
    """For people."""
    head = ("kernel", "boot", "passed", "failed", "lacking", "seconds", "verdict")
    cells: list[tuple[str, ...]] = [head]
    for row in rows:
        counts = (str(row.count(name)) for name in ("passed", "failed", "lacking"))
        cells.append((row.kernel, row.boot, *counts, f"{row.seconds:.0f}", row.verdict))
    widths = [max(len(line[column]) for line in cells) for column in range(len(head) - 1)]
    lines = []
    for line in cells:
        parts = [
            cell.rjust(width) if 2 <= column <= 5 else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=False))
        ]
        lines.append("  ".join([*parts, line[-1]]))
    return "\n".join(lines)


def reasons(rows: Sequence[Row]) -> str:
    """Why what did not pass did not, for people."""
    parts = []
    for row in rows:
        for outcome in row.outcomes:
            if outcome.outcome != "passed":
                head = f"{row.kernel} ({row.boot}): {outcome.test} {outcome.outcome}"
                parts.append(f"{head}: {outcome.said.strip()[-SHOWN:]}")
        if row.trouble:
            parts.append(f"{row.kernel} ({row.boot}): {row.trouble}")
    return "\n".join(parts)

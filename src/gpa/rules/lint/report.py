"""What the reader sees: each finding with its line quoted, or one JSON object."""

from __future__ import annotations

import json
import sys
from collections import Counter
from typing import TYPE_CHECKING, Final

from gpa.rules.lint.finding import Severity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gpa.rules.lint.examine import Examined, Located

COLOURS: Final = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.NOTE: "cyan"}


def count(results: Iterable[Examined]) -> Counter[Severity]:
    """How many there are of each severity, those left out among them."""
    by_severity: Counter[Severity] = Counter()
    for result in results:
        severities = {one.finding.code.number: one.finding.code.severity for one in result.found}
        by_severity.update(one.finding.code.severity for one in result.found)
        for number, more in result.left_out.items():
            by_severity[severities[number]] += more
    return by_severity


def print_json(results: list[Examined], *, failed: bool) -> None:
    """One object; docs/lint.md says what its members mean."""
    counted = count(results)
    document = {
        "ok": not failed,
        **{f"{severity.value}s": counted[severity] for severity in Severity},
        "findings": [_members(result, one) for result in results for one in result.found],
        "leftOut": {result.name: dict(result.left_out) for result in results if result.left_out},
    }
    sys.stdout.write(json.dumps(document) + "\n")


def _members(result: Examined, one: Located) -> dict[str, object]:
    finding = one.finding
    return {
        "file": result.name,
        "line": one.position.line,
        "column": one.position.column,
        "code": finding.code.number,
        "severity": finding.code.severity.value,
        "place": finding.place,
        "message": finding.words,
        "remedy": finding.remedy,
        "page": finding.code.page,
    }


def print_lines(results: list[Examined]) -> None:
    """For people and pipes: the first line of each as compilers write it, so that editors jump."""
    for line, _ in _lines(results):
        sys.stdout.write(line + "\n")


def print_coloured(results: list[Examined]) -> None:
    """The same, for a terminal."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    for line, style in _lines(results):
        console.print(Text(line, style=style))


def _lines(results: list[Examined]) -> Iterator[tuple[str, str]]:
    """Each line with its colour."""
    for result in results:
        name = one_line(result.name)
        for one in result.found:
            finding = one.finding
            severity = finding.code.severity
            head = f"{name}:{one.position}: {severity.value} {finding.code.number}:"
            yield f"{head} {one_line(finding.words)}", COLOURS[severity]
            for line in one.excerpt.splitlines():
                yield f"    {line}", ""
            yield f"    to do: {one_line(finding.remedy)}", "bold"
            yield f"    see {finding.code.page}", "dim"
            yield "", ""
        for number, more in sorted(result.left_out.items()):
            yield f"{name}: {more} more of {number}", "dim"
    yield _summary(count(results), len(results)), ""


def _summary(counted: Counter[Severity], files: int) -> str:
    where = "1 file" if files == 1 else f"{files} files"
    parts = [
        f"{counted[severity]} {severity.value}{'' if counted[severity] == 1 else 's'}"
        for severity in Severity
        if counted[severity]
    ]
    return f"{', '.join(parts) or 'nothing to tell'} in {where}"


def one_line(text: str) -> str:
    """Foreign text on one line: what is not printable is escaped."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text
    )

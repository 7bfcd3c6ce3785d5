"""An explanation for people at a terminal: the verdict in colour, selectors beside the caller in a
table; otherwise the lines of `telling`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gpa.rules import telling

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

VERDICTS: Final = {
    "allow": "bold green",
    "audit-allow": "bold yellow",
    "depends": "bold yellow",
    "fail": "bold yellow",
}
ANSWERS: Final = {"yes": "green", "no": "red", "unknown": "yellow"}


class Terminal:
    """Prints explanations.

    Args:
        escape: makes foreign text harmless, and one line of it.
        console: another than standard output.
    """

    def __init__(self, escape: Callable[[str], str], console: Console | None = None) -> None:
        self._escape = escape
        self._console = console or Console(highlight=False)

    def show(self, told: Sequence[Mapping[str, Any]]) -> None:
        """Print all of them."""
        for one in told:
            self._lines(telling.heading(one))
            self._lines([telling.verdict(one)], VERDICTS.get(one["decision"], "bold red"))
            self._lines(telling.remarks(one))
            if one["explanation"] is None:
                continue
            self._lines(telling.matching(one["explanation"]))
            for grant in one["explanation"]["nearestIdentities"]:
                self._lines([telling.granted(grant)])
                self._console.print(self._table(grant["selectors"]))
            self._lines(telling.ending(one))

    def _lines(self, lines: Iterable[str], style: str = "") -> None:
        for line in lines:
            # Not broken, so that rules can be copied as they stand.
            self._console.print(Text(self._escape(line), style=style), soft_wrap=True)

    def _table(self, selectors: Iterable[Mapping[str, Any]]) -> Table:
        table = Table(box=box.SIMPLE_HEAD)
        for title in ("selector", "the rule", "the caller", "holds"):
            table.add_column(title, overflow="fold")
        for selector in selectors:
            answer = selector["answer"]
            table.add_row(
                selector["selector"],
                Text(self._escape(ascii(selector["wanted"]))),
                Text(self._escape(telling.callers(selector) or "nothing")),
                Text(answer, style=ANSWERS[answer]),
            )
        return table

"""What the reader sees: a line a scene as it happens, a table at the end; or one JSON object."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Final, Protocol

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from gpa.demo.lab import Lab
    from gpa.demo.play import Outcome
    from gpa.demo.stage import Seen

WIDTH: Final = 140
"""Columns where no terminal says how many it has: nothing is cut."""

DECISIONS: Final = {"none": "not asked"}
"""Of the agent, where the word for machines is not the one for people."""

WORDS: Final = {
    "default_allow": "no rule is about it and the default is to allow",
    "no_rules": "there are no rules",
    "rule_matched": "a rule allows it",
}
"""For reasons to let a request pass, which no answer explains."""

COLOURS: Final = {"allow": "green", "deny": "red", "refuse": "red", "none": "magenta"}

TRY: Final = (
    "curl -s -H Metadata:true 'http://169.254.169.254/metadata/instance?api-version=2021-02-01'"
)


class Report(Protocol):
    """Is told what happens."""

    def begin(self, lab: Lab) -> None:
        """The laboratory is made."""

    def scene(self, outcome: Outcome) -> None:
        """A scene was played."""

    def keep(self, lab: Lab) -> None:
        """Everything stays as it is until the reader ends it."""

    def end(self, outcomes: list[Outcome], strays: list[str], seconds: float) -> None:
        """Everything is gone again.

        Args:
            outcomes: every scene.
            strays: what reached the host unsigned and should not have.
            seconds: from the start to the last scene.
        """


class Lines:
    """For people; colour on a terminal only."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @classmethod
    def on_stdout(cls) -> Lines:
        """Writes to stdout; what its encoding lacks is replaced."""
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")
        console = Console(highlight=False)
        return cls(console if console.is_terminal else Console(highlight=False, width=WIDTH))

    def begin(self, lab: Lab) -> None:
        """What is where, and the heads of the columns."""
        self._say(f"[dim]A host, a VM and a nested guest, below {escape(str(lab.folder))}[/]\n")
        heads = f"{_cell('who', 26)} {_cell('asks for', 22)} {_cell('agent', 9)} HTTP      time"
        self._say(f"[bold]     {heads}  why[/]")

    def scene(self, outcome: Outcome) -> None:
        """Who, what, decision, status, microseconds, why; below it what is not as it should be."""
        scene, seen = outcome.scene, outcome.seen
        mark = "[red]FAIL[/]" if outcome.misses else "[green]ok[/]  "
        colour = COLOURS.get(seen.decision, "yellow")
        self._say(
            f"{mark} {_cell(scene.who, 26)} {_cell(scene.what, 22)} "
            f"[{colour}]{_cell(DECISIONS.get(seen.decision, seen.decision), 9)}[/] "
            f"{_cell(seen.status or '-', 4)} {seen.microseconds:>7} µs  {escape(why(seen))}"
        )
        for miss in outcome.misses:
            self._say(f"     [red]{escape(miss)}[/]")

    def keep(self, lab: Lab) -> None:
        """How to enter, and what to try there."""
        self._say(f"\n{escape(invitation(lab))}")

    def end(self, outcomes: list[Outcome], strays: list[str], seconds: float) -> None:
        """The table, and one line that sums it up."""
        table = Table(title="What was seen, and by whom", title_justify="left")
        for name in ("scene", "who asked", "for what", "agent", "reason", "host", "status"):
            table.add_column(name)
        table.add_column("µs", justify="right")
        for outcome in outcomes:
            scene, seen = outcome.scene, outcome.seen
            decision = DECISIONS.get(seen.decision, seen.decision)
            cells = [scene.name, scene.who, scene.what, decision, seen.reason, seen.host]
            cells += [seen.status or seen.error or "-", seen.microseconds]
            table.add_row(
                *(escape(str(cell)) for cell in cells), style="red" if outcome.misses else None
            )
        self._console.print()
        self._console.print(table)
        for stray in strays:
            self._say(f"[red]reached the host without a signature: {escape(stray)}[/]")
        bad = [outcome.scene.name for outcome in outcomes if outcome.misses]
        count = f"{len(outcomes) - len(bad)} of {len(outcomes)} scenes came out as they should"
        rest = f": not {', '.join(bad)}" if bad else ""
        self._say(f"{count}{rest}. {seconds:.1f} s; nothing is left.")

    def _say(self, text: str) -> None:
        self._console.print(text, soft_wrap=True)


class Json:
    """For machines: one object on stdout at the end; words for people go to stderr."""

    def begin(self, lab: Lab) -> None:
        """Silent."""

    def scene(self, outcome: Outcome) -> None:
        """Silent."""

    def keep(self, lab: Lab) -> None:
        """How to enter, on stderr."""
        sys.stderr.write(invitation(lab) + "\n")

    def end(self, outcomes: list[Outcome], strays: list[str], seconds: float) -> None:
        """The object; docs/demo.md says what its members mean."""
        scenes = [
            {
                "name": outcome.scene.name,
                "who": str(outcome.scene.who),
                "what": str(outcome.scene.what),
                "story": outcome.scene.story,
                "expected": asdict(outcome.scene.expected),
                "seen": asdict(outcome.seen),
                "ok": not outcome.misses,
                "misses": outcome.misses,
            }
            for outcome in outcomes
        ]
        ok = not strays and all(scene["ok"] for scene in scenes)
        summary = {"ok": ok, "seconds": round(seconds, 3), "scenes": scenes, "strays": strays}
        sys.stdout.write(json.dumps(summary, ensure_ascii=True) + "\n")


def why(seen: Seen) -> str:
    """The reason, and what the host made of it where that is not said yet."""
    if seen.host == "valid":
        return f"{WORDS.get(seen.why, seen.why)}; the host verified the signature"
    return f"host: {seen.why}" if seen.host == "unsigned" else seen.why


def invitation(lab: Lab) -> str:
    """How to enter what is kept, and what to try there."""
    return (
        f"Everything stays until Ctrl-C. In another terminal, as root:\n"
        f"  {lab.folder}/enter nobody     a shell of that user in the VM; there, for example\n"
        f"  {TRY}"
    )


def _cell(value: object, width: int) -> str:
    return escape(str(value).ljust(width))

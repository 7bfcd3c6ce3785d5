"""How far a tool has come, on a terminal, where it takes longer than a moment."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Final, TextIO, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PATIENCE: Final = 1.0
"""Seconds for which nobody asks."""

BETWEEN: Final = 0.2
"""Seconds between two lines: the eye follows no faster."""

STRIDE: Final = 1024
"""Items between two looks at the clock."""

MANY: Final = 20_000
"""Kinds of requests whose judging takes longer than `PATIENCE`."""

T = TypeVar("T")


class Progress:
    """One line on stderr that is written over; nothing where that is no terminal."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = sys.stderr if out is None else out
        self._shown = self._out.isatty()

    def over(self, items: Iterable[T], words: str) -> Iterator[T]:
        """The items, and how many they were so far: `1,204,224 records read`."""
        if not self._shown:
            yield from items
            return
        due = time.monotonic() + PATIENCE
        for number, item in enumerate(items):
            if number % STRIDE == 0 and (now := time.monotonic()) >= due:
                self.say(f"{number:,} {words}")
                due = now + BETWEEN
            yield item
        self.clear()

    def judging(self, kinds: int) -> None:
        """What comes after reading, where it takes long; `clear` takes it away."""
        if kinds >= MANY:
            self.say(f"judging {kinds:,} kinds of requests")

    def say(self, words: str) -> None:
        """This line instead of the last."""
        if self._shown:
            self._out.write(f"\r{words}\x1b[K")
            self._out.flush()

    def clear(self) -> None:
        """No line."""
        self.say("")

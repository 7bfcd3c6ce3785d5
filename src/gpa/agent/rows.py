"""Rows of the relay as the audit takes them: allowed ones as lines, written by the native half; the
others as dictionaries.

The words and limits are handed down, so that they stand in one place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gpa._native import records
from gpa.agent import redact, words
from gpa.agent.audit import ALLOWED_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gpa.agent.audit import Pieces, RuleWords

AT_ONCE: Final = 200
"""Rows of a batch, 120 KB: larger buffers malloc takes from the kernel and gives back each time,
which costs more than the rows."""

FULL: Final = AT_ONCE * records.ROW_SIZE
"""Bytes of a batch behind which there may be another."""

_ENDPOINTS: Final = tuple(word.encode() for word in words.ENDPOINTS.values())
_REASONS: Final = {number: word.encode() for number, word in words.REASONS.items()}
_HARMLESS: Final = tuple(name.encode() for name in sorted(redact.HARMLESS))


def split(data: bytes, rule_words: RuleWords | None) -> Pieces:
    """Rows of `struct gpa_audit`, oldest first; all as dictionaries when there are no words.

    Raises:
        ValueError: not a whole number of rows.
    """
    if rule_words is None:
        return list(records.decode(data)), {}
    return records.split(
        data,
        rule_words,
        endpoints=_ENDPOINTS,
        reasons=_REASONS,
        harmless=_HARMLESS,
        limit=ALLOWED_BYTES,
    )


def batches(
    data: bytes, take: Callable[[int], bytes], as_pieces: Callable[[bytes], Pieces]
) -> Iterator[Pieces]:
    """A batch, and those that `take` gives behind it as long as they are full."""
    while data:
        yield as_pieces(data)
        data = take(AT_ONCE) if len(data) == FULL else b""

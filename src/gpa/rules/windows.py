"""Times at which grants hold, and which of them together are one: until noon, and from noon on."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from gpa.rules.extensions import moment_words

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gpa.rules.effect import Who

NOT_BEFORE: Final = "notBefore"
NOT_AFTER: Final = "notAfter"

_TIMES: Final = (NOT_BEFORE, NOT_AFTER)
_EVER: Final = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


def is_timed(who: Who) -> bool:
    """Whether it holds at times only."""
    return any(pair[0] in _TIMES for pair in who)


def joined(grants: Iterable[Who]) -> Iterator[Who]:
    """What holds since several of one identity hold one after the other, without a gap."""
    windows: dict[Who, list[tuple[datetime, datetime]]] = {}
    for who in grants:
        times = {key: datetime.fromisoformat(value) for key, value in who if key in _TIMES}
        identity = frozenset(pair for pair in who if pair[0] not in _TIMES)
        window = times.get(NOT_BEFORE, _EVER[0]), times.get(NOT_AFTER, _EVER[1])
        windows.setdefault(identity, []).append(window)
    for identity, held in windows.items():
        held.sort()
        begin, end = held[0]
        pieces = 1
        for more in [*held[1:], None]:
            if more is not None and more[0] <= end:
                end = max(end, more[1])
                pieces += 1
                continue
            if pieces > 1:
                yield identity | _selectors(begin, end)
            if more is not None:
                (begin, end), pieces = more, 1


def _selectors(begin: datetime, end: datetime) -> Who:
    times = ((NOT_BEFORE, begin), (NOT_AFTER, end))
    return frozenset((key, moment_words(moment)) for key, moment in times if moment not in _EVER)

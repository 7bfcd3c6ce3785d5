"""Has this signature been here before?

The date in a request has whole seconds, so equal requests of one second carry equal signatures and
are legitimate: a signature may come again within a few seconds of its first arrival
(`replay_seconds` of the scenario; one for the second itself, the rest for a machine that is busy).
After that it is a replay, until its date is too old to be accepted at all.

Memory is bounded. When it is full the oldest second is forgotten, and requests of that date or an
older one are refused from then on: forgetting never lets a replay through.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from gpa.emulator.dates import http_date

DATE_SECONDS: Final = 300
"""A request's date may be this far from the host's clock (docs/protocol.md, "Signature")."""

REMEMBERED: Final = 200_000
"""Signatures kept, some 30 MB: five minutes of 600 requests a second."""


class StaleError(Exception):
    """The date is too far from the host's clock, or so old that replays could not be told."""


class ReplayError(Exception):
    """The signature was here before."""


class ReplayGuard:
    """Signatures seen, by the second of their date; for verified ones only."""

    def __init__(self, remembered: int = REMEMBERED) -> None:
        self._limit = remembered
        self._count = 0
        self._floor = 0
        self._seconds: OrderedDict[int, dict[bytes, float]] = OrderedDict()

    def check_date(self, date: int, now: float) -> None:
        """Is the date fresh? Both in seconds on the host's clock.

        Raises:
            StaleError: it is not.
        """
        if abs(date - now) > DATE_SECONDS:
            raise StaleError(f"the date is {date - now:+.0f} s from the host's clock")
        if date <= self._floor:
            raise StaleError(f"more than can be remembered arrived since {http_date(date)}")

    def check(self, signature: bytes, date: int, now: float, window: float) -> None:
        """Remember the signature, or see it again. `window` in seconds.

        Raises:
            ReplayError: it came first more than `window` ago.
        """
        seen = self._seconds.setdefault(date, {})
        first = seen.get(signature)
        if first is None:
            seen[signature] = now
            self._count += 1
            self._forget(now)
        elif now - first > window:
            raise ReplayError(f"the same signature arrived {now - first:.1f} s ago")

    def __len__(self) -> int:
        return self._count

    def _forget(self, now: float) -> None:
        # Dates arrive nearly in order: the oldest is looked for only where the queue begins.
        while self._seconds and next(iter(self._seconds)) < now - DATE_SECONDS:
            self._count -= len(self._seconds.popitem(last=False)[1])
        while self._count > self._limit:
            oldest = min(self._seconds)
            self._count -= len(self._seconds.pop(oldest))
            self._floor = max(self._floor, oldest)

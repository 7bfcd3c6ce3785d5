"""Which network namespaces get a listener, when one is closed, when a taken port is tried again:
decisions only, on numbers and a clock that is handed in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gpa.agent.nsscan import Home

MAX_NAMESPACES: Final = 256
"""Entries of the map `netns_port`, our own namespace being one of them."""

SHARE_OF_UID: Final = 4
"""One user who is not root has at most this part of them: namespaces are free to make."""

RETRY_FIRST: Final = 1.0
RETRY_MOST: Final = 30.0
"""Seconds between two tries in a namespace that could not be served, doubling."""

LINE_EVERY: Final = 1.0
"""Seconds between two lines of the log about namespaces."""

SAME_LINE_EVERY: Final = 600.0
"""Seconds until the same is said again."""

LINES_KEPT: Final = 256


@dataclass(frozen=True)
class Served:
    """A namespace with a listener of ours."""

    inum: int
    uid: int


@dataclass
class Failed:
    """One where it could not be had."""

    why: str
    pause: float
    due: float


class Ledger:
    """What is served, and what was tried in vain."""

    def __init__(self, most: int = MAX_NAMESPACES - 1) -> None:
        self._most = most
        self._served: dict[int, Served] = {}
        self._failed: dict[int, Failed] = {}

    def __len__(self) -> int:
        return len(self._served)

    def __contains__(self, cookie: int) -> bool:
        return cookie in self._served

    def cookies(self) -> frozenset[int]:
        """Of the namespaces that are served."""
        return frozenset(self._served)

    def has(self, inum: int) -> bool:
        """Whether the namespace with that inode number is served."""
        return any(served.inum == inum for served in self._served.values())

    def objection(self, inum: int, uid: int, now: float) -> str:
        """Why no listener is opened there now, in words; empty: it may be."""
        failed = self._failed.get(inum)
        if failed is not None and now < failed.due:
            return failed.why
        if len(self._served) >= self._most:
            return f"the agent serves {self._most} others already"
        share = max(1, self._most // SHARE_OF_UID)
        if uid and sum(served.uid == uid for served in self._served.values()) >= share:
            return f"the agent serves {share} others of uid {uid} already"
        return ""

    def add(self, cookie: int, served: Served) -> None:
        """Its listener stands."""
        self._served[cookie] = served
        self._failed.pop(served.inum, None)

    def remove(self, cookie: int) -> None:
        """Its listener is closed."""
        self._served.pop(cookie, None)

    def fail(self, inum: int, why: str, now: float) -> bool:
        """It could not be opened; true when that was not known."""
        before = self._failed.get(inum)
        pause = RETRY_FIRST if before is None else min(2 * before.pause, RETRY_MOST)
        self._failed[inum] = Failed(why, pause, now + pause)
        return before is None or before.why != why

    def gone(self, homes: Mapping[int, Home], among: frozenset[int]) -> list[int]:
        """Cookies of those that nothing keeps alive but our listener.

        Args:
            homes: what there is.
            among: cookies that were served before `homes` was looked up.
        """
        self._failed = {inum: f for inum, f in self._failed.items() if inum in homes}
        return [c for c, served in self._served.items() if c in among and served.inum not in homes]

    def missing(self, homes: Mapping[int, Home]) -> Iterator[tuple[int, Home]]:
        """Those that should have a listener and have none."""
        served = {one.inum for one in self._served.values()}
        return ((i, home) for i, home in homes.items() if home.wanted and i not in served)

    def drop_due(self, at: float) -> None:
        """Those that were due have had their try, or nobody wants one."""
        self._failed = {inum: f for inum, f in self._failed.items() if f.due > at}

    def next_try(self) -> float:
        """When one that failed is due again; infinity for never."""
        return min((failed.due for failed in self._failed.values()), default=float("inf"))


class Pace:
    """Lets a line through now and then: whoever makes namespaces must not fill the disk."""

    def __init__(self) -> None:
        self._last = -LINE_EVERY
        self._said: dict[object, float] = {}
        self._left_out = 0

    def line(self, key: object, text: str, now: float) -> str:
        """The line to be said about `key`, empty when it was said or much is."""
        if now < self._said.get(key, -SAME_LINE_EVERY) + SAME_LINE_EVERY:
            return ""
        if now < self._last + LINE_EVERY:
            self._left_out += 1
            return ""
        self._last = now
        self._said.pop(key, None)
        self._said[key] = now
        if len(self._said) > LINES_KEPT:
            self._said.pop(next(iter(self._said)))
        left_out, self._left_out = self._left_out, 0
        return f"{text} (and {left_out} such lines left out)" if left_out else text

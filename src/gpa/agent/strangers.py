"""Takes callers whom the snapshot does not know from the relay, has them looked at and publishes.

A task of its own: a program that takes long to read delays no record and no answer.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Protocol

import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from gpa._native.records import CallerFields
    from gpa.agent.relay import Relay

LOOK_SECONDS: Final = 0.3
"""How long those who wait are kept waiting for one among them; what takes longer counts later."""

LOOKS_AT_ONCE: Final = 4
"""Threads that may be reading programs."""

SHORTEST_PAUSE: Final = 0.1
WORK_TO_REST: Final = 4
"""Seconds at least between two publications because of new callers, and how many times as long as
the last one took: a user can make cgroups as fast as he likes."""


class Looker(Protocol):
    """Who looks; the policy is the real one."""

    def look(self, callers: Sequence[CallerFields]) -> None:
        """Learn what there is to learn; blocking."""


class Strangers:
    """Between the relay, who looks, and who publishes."""

    def __init__(
        self, relay: Relay, decode_caller: Callable[[bytes], CallerFields], looker: Looker
    ) -> None:
        self._relay = relay
        self._decode = decode_caller
        self._looker = looker
        self._waiting: list[CallerFields] = []
        self._there = trio.Event()
        self._limiter = trio.CapacityLimiter(LOOKS_AT_ONCE)

    def take(self) -> bool:
        """Take those who wait; True when there were some."""
        found = [self._decode(record) for record in self._relay.strangers()]
        self._waiting += found
        if found:
            self._there.set()
        return bool(found)

    async def run(self, publish: Callable[[], Awaitable[None]]) -> None:
        """Look and publish, for ever."""
        while True:
            await self._there.wait()
            self._there = trio.Event()
            callers, self._waiting = self._waiting, []
            begin = time.monotonic()
            with trio.move_on_after(LOOK_SECONDS):
                await trio.to_thread.run_sync(
                    self._looker.look, callers, abandon_on_cancel=True, limiter=self._limiter
                )
            await publish()
            took = time.monotonic() - begin
            await trio.sleep(max(SHORTEST_PAUSE, WORK_TO_REST * took))

"""Callers from the relay to who looks at them, and what was learnt to who publishes."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import trio
import trio.testing

from gpa.agent.strangers import LOOK_SECONDS, SHORTEST_PAUSE, Strangers

if TYPE_CHECKING:
    from collections.abc import Sequence


class Looker:
    def __init__(self) -> None:
        self.seen: list[list[Any]] = []
        self.hang: threading.Event | None = None

    def look(self, callers: Sequence[Any]) -> None:
        self.seen.append(list(callers))
        if self.hang is not None:
            assert self.hang.wait(10)


class Bench:
    def __init__(self, relay: Any) -> None:
        self.relay = relay
        self.looker = Looker()
        self.publications = trio.Semaphore(0)
        self.strangers = Strangers(relay, lambda record: record.decode(), self.looker)  # type: ignore[arg-type, return-value]

    async def publish(self) -> None:
        self.publications.release()

    def meet(self, *records: bytes) -> bool:
        self.relay.met += records
        return self.strangers.take()


async def test_they_are_looked_at_together_and_published_once(
    relay: Any, mock_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    bench = Bench(relay)
    nursery.start_soon(bench.strangers.run, bench.publish)
    assert not bench.meet()
    assert bench.meet(b"a", b"b")
    assert bench.meet(b"c")
    await bench.publications.acquire()
    assert bench.looker.seen == [["a", "b", "c"]]
    # What comes meanwhile waits for its turn.
    assert bench.meet(b"d")
    await trio.testing.wait_all_tasks_blocked()
    mock_clock.jump(SHORTEST_PAUSE / 2)
    await trio.testing.wait_all_tasks_blocked()
    assert len(bench.looker.seen) == 1
    mock_clock.jump(60)
    await bench.publications.acquire()
    assert bench.looker.seen[1:] == [["d"]]


async def test_a_look_that_hangs_delays_the_others_for_a_moment(
    relay: Any, mock_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    bench = Bench(relay)
    bench.looker.hang = threading.Event()
    nursery.start_soon(bench.strangers.run, bench.publish)
    bench.meet(b"slow")
    await trio.testing.wait_all_tasks_blocked()
    assert bench.publications.value == 0
    mock_clock.jump(LOOK_SECONDS)
    await trio.testing.wait_all_tasks_blocked()
    assert bench.publications.value == 1
    bench.looker.hang.set()

"""Signs of life for the service manager."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from gpa.agent.relay import Relay
    from gpa.agent.systemd import Notifier


async def show_life(notifier: Notifier, relay: Relay) -> None:
    """Two in the time that the manager gives.

    Asked of the relay, and answered by its own threads: a stuck relay is not kept alive by a live
    nursery.
    """
    every = (notifier.watchdog or 0) / 2
    while every:
        await trio.to_thread.run_sync(relay.counters, abandon_on_cancel=True)
        notifier.alive()
        await trio.sleep(every)

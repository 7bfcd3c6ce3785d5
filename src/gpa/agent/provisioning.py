"""When is the VM provisioned? Pure; docs/protocol.md, "Local endpoints".

Finished without error once everything runs, finished with one when that took longer than the limit.
A later success replaces the error.
"""

from __future__ import annotations

from typing import Final

LIMIT: Final = 120.0
"""Seconds from the start until provisioning is reported as finished with an error."""


class Provisioning:
    """State of it.

    Attributes:
        finished_unix_ns: when it finished, None before.
        error: why it finished with an error, empty on success.
    """

    def __init__(self, started: float, finished_unix_ns: int | None = None) -> None:
        self._deadline = started + LIMIT
        self.finished_unix_ns = finished_unix_ns
        self.error = ""

    def update(self, now: float, unix_ns: int, troubles: list[str]) -> bool:
        """Look at how things stand at `now` (seconds); True when the tags must be written anew.

        Args:
            now: the clock that `started` was taken from.
            unix_ns: wall clock, for `/provision`.
            troubles: what is not ready yet, in words; empty when all is.
        """
        if not troubles:
            if self.finished_unix_ns is not None and not self.error:
                return False
            self.error, self.finished_unix_ns = "", unix_ns
            return True
        if self.finished_unix_ns is None and now >= self._deadline:
            self.error, self.finished_unix_ns = "; ".join(troubles), unix_ns
            return True
        return False

    def answer(self, tick: int, *, latched: bool) -> dict[str, object]:
        """Body of the answer to `/provision` for a caller whose tick is `tick` (unix ns)."""
        at = self.finished_unix_ns
        finished = at is not None and (at >= tick or latched)
        return {"finished": finished, "errorMessage": self.error if finished else ""}

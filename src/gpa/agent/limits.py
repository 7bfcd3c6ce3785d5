"""Limits that were hit and attempts that were refused without a record: counted in the kernel half
and in the relay, said to the operator once a round of the monitor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

WORDS: Final = {
    "refused_no_listener": "connects refused because nobody listened",
    "refused_namespace": "connects refused in network namespaces that the agent does not serve",
    "refused_quota": "connects refused because their user has too many under way",
    "refused_bind": "attempts of others to bind the agent's port refused",
    "refused_other": "connects refused because their caller could not be recorded or redirected",
    "dropped_around": "packets of connections around the agent dropped by the guard",
    "passed_audit": "audited connects left alone because nobody served",
    "lost": "connections arrived without an identity",
    "records_dropped": "audit records dropped because they came faster than they were written",
    "exhausted": "times the agent ran out of descriptors",
    "panics": "connections lost to a fault of the agent",
}
"""Counter (`interception.COUNTERS`, ext/relay/counters.rs) to what has risen."""


class Limits:
    """Remembers what was said."""

    def __init__(self) -> None:
        self._said: dict[str, int] = {}

    def risen(self, counters: Mapping[str, int]) -> list[str]:
        """One line a counter of `WORDS` that is higher than when it was last looked at."""
        lines = []
        for name, words in WORDS.items():
            now = counters.get(name, 0)
            if more := max(0, now - self._said.get(name, 0)):
                lines.append(f"{more} {words} (in all {now})")
            self._said[name] = now
        return lines

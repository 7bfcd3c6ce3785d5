"""What was counted is said once, and not again before it rises."""

from __future__ import annotations

from pathlib import Path

from gpa.agent.interception import COUNTERS
from gpa.agent.limits import WORDS, Limits

RELAY = Path(__file__).parents[2] / "ext" / "relay" / "counters.rs"


def test_a_counter_is_said_when_it_has_risen() -> None:
    limits = Limits()
    assert limits.risen({"refused_quota": 0, "redirected": 7}) == []
    (line,) = limits.risen({"refused_quota": 3, "redirected": 9})
    assert line == "3 connects refused because their user has too many under way (in all 3)"
    assert limits.risen({"refused_quota": 3}) == []
    assert limits.risen({"refused_quota": 5})[0].startswith("2 connects refused")


def test_every_counter_that_is_said_exists() -> None:
    relay = RELAY.read_text()
    for name in WORDS:
        assert name in COUNTERS or f"\n    {name},\n" in relay, name

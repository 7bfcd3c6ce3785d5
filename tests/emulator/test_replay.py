"""The memory for signatures is bounded, and forgetting lets nothing through."""

from __future__ import annotations

import pytest

from gpa.emulator.replay import DATE_SECONDS, ReplayError, ReplayGuard, StaleError

WINDOW = 5.0


def signature(number: int) -> bytes:
    return number.to_bytes(32, "big")


def test_old_seconds_are_forgotten() -> None:
    guard = ReplayGuard()
    guard.check(signature(1), 1000, 1000, WINDOW)
    guard.check(signature(2), 1000 + DATE_SECONDS + 1, 1000 + DATE_SECONDS + 1, WINDOW)
    assert len(guard) == 1


def test_when_it_is_full_dates_that_cannot_be_told_are_refused() -> None:
    guard = ReplayGuard(remembered=3)
    for number, date in enumerate((1000, 1001, 1002, 1003)):
        guard.check_date(date, 1003)
        guard.check(signature(number), date, 1003, WINDOW)
    assert len(guard) == 3
    with pytest.raises(StaleError, match="more than can be remembered"):
        guard.check_date(1000, 1003)
    guard.check_date(1001, 1003)
    with pytest.raises(ReplayError):
        guard.check(signature(1), 1001, 1010, WINDOW)


def test_dates_out_of_order_are_remembered_all_the_same() -> None:
    guard = ReplayGuard()
    for number, date in enumerate((1200, 1000, 1100)):
        guard.check(signature(number), date, 1100, WINDOW)
    for number, date in enumerate((1200, 1000, 1100)):
        with pytest.raises(ReplayError):
            guard.check(signature(number), date, 1110, WINDOW)

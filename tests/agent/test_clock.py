import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpa.agent.clock import HostClock, format_date, parse_date


@given(st.integers(min_value=0, max_value=253402300799))
def test_dates_survive_both_ways(seconds: int) -> None:
    assert parse_date(format_date(seconds)) == seconds


def test_the_date_of_the_rfc() -> None:
    assert parse_date("Sun, 06 Nov 1994 08:49:37 GMT") == 784111777
    assert format_date(784111777) == "Sun, 06 Nov 1994 08:49:37 GMT"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "Sun, 31 Feb 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 25:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 CET",
        "Sun, 00 Nov 0000 08:49:37 GMT",
    ],
)
def test_what_is_no_date(text: str) -> None:
    assert parse_date(text) is None


def test_until_the_host_answers_the_guests_own_time_is_used() -> None:
    clock = HostClock()
    assert not clock.known
    assert abs(clock.unix_ns() - time.time_ns()) < 10**9


def test_the_hosts_time_is_carried_on_by_the_boottime_clock() -> None:
    clock = HostClock()
    clock.set(5_000_000_000, 1_000)
    assert clock.unix_ns(1_000 + 7) == 5_000_000_007
    assert clock.set(6_000_000_000, 1_000) == 1_000_000_000

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from gpa.rules.model import Assignment, EffectiveRules, Rules
from gpa.rules.validity import next_boundary, split, why_not

START = datetime(2026, 1, 1, tzinfo=UTC)
MOMENTS = st.integers(0, 20).map(lambda n: START + timedelta(seconds=n))
ASSIGNMENTS = st.builds(
    Assignment, st.just("r"), st.just(("i",)), st.none() | MOMENTS, st.none() | MOMENTS
)


def effective(*assignments: Assignment) -> EffectiveRules:
    return EffectiveRules("x", False, Rules(assignments=assignments))


def test_a_grant_holds_from_the_first_moment_and_to_before_the_last() -> None:
    second = timedelta(seconds=1)
    grant = Assignment("r", ("i",), START, START + second)
    tick = timedelta(microseconds=1)
    assert why_not(grant, START - tick) == "not in force before 2026-01-01T00:00:00Z"
    assert why_not(grant, START) == ""
    assert why_not(grant, START + second - tick) == ""
    assert why_not(grant, START + second) == "no longer in force since 2026-01-01T00:00:01Z"


def test_what_does_not_hold_is_told_in_one_line() -> None:
    grant = Assignment("r\n", ("a", "b\x1b", "c", "d", "e"), START)
    held, outside = split(effective(grant), START - timedelta(days=1))
    assert held.rules.assignments == ()
    assert [str(one) for one in outside] == [
        r"role 'r\n' of a, b\x1b, c, d, ...: not in force before 2026-01-01T00:00:00Z"
    ]


def test_rules_without_times_are_left_as_they_are() -> None:
    rules = effective(Assignment("r", ("i",)))
    assert split(rules, START) == (rules, ())
    assert next_boundary([rules, None], START) is None


@given(st.lists(ASSIGNMENTS, max_size=5), MOMENTS)
def test_nothing_changes_before_the_next_boundary(
    assignments: list[Assignment], now: datetime
) -> None:
    rules = effective(*assignments)
    boundary = next_boundary([rules], now)
    held, outside = split(rules, now)
    assert len(held.rules.assignments) + len(outside) == len(assignments)
    for n in range(25):
        later = now + timedelta(seconds=n)
        if boundary is None or later < boundary:
            assert split(rules, later)[0] == held
    assert boundary is None or boundary > now

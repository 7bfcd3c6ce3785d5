"""Grants that hold one after the other are one grant."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from tests.rules.test_diff import ALICE, BOB, rules

from gpa.rules.diff import compare
from gpa.rules.model import Assignment
from gpa.rules.windows import NOT_AFTER, NOT_BEFORE, joined

if TYPE_CHECKING:
    from gpa.rules.model import EffectiveRules


@pytest.mark.parametrize(
    ("pieces", "whole", "same"),
    [
        ([(1, 5), (5, 9)], (1, 9), True),
        ([(5, 9), (1, 6)], (1, 9), True),
        ([(1, 3), (3, 5), (5, 9)], (1, 9), True),
        ([(None, 5), (5, None)], (None, None), True),
        ([(1, 9), (3, 5)], (1, 9), True),
        ([(1, 5), (5, 9)], (2, 8), False),
        ([(1, 5), (6, 9)], (1, 9), False),
        ([(None, 5), (6, None)], (None, None), False),
    ],
)
def test_times_without_a_gap_are_one(
    pieces: list[tuple[int | None, int | None]], whole: tuple[int | None, int | None], same: bool
) -> None:
    def held(*windows: tuple[int | None, int | None]) -> EffectiveRules:
        granted = rules(*(("/a", ALICE) for _ in windows), ("/x", BOB))
        times = [
            [None if n is None else datetime(2026, 1, n, tzinfo=UTC) for n in window]
            for window in (*windows, (None, None))
        ]
        assignments = tuple(
            Assignment(one.role, one.identities, *when)
            for one, when in zip(granted.rules.assignments, times, strict=True)
        )
        return replace(granted, rules=replace(granted.rules, assignments=assignments))

    assert compare(held(*pieces), held(whole)).same is same
    assert compare(held(whole), held(*pieces)).same is same


def test_only_those_of_one_identity_are_joined() -> None:
    def held(name: str, key: str) -> frozenset[tuple[str, str]]:
        return frozenset({("userName", name), (key, "2026-01-05T00:00:00Z")})

    assert list(joined([held("alice", NOT_AFTER), held("bob", NOT_BEFORE)])) == []
    assert list(joined([held("alice", NOT_AFTER), held("alice", NOT_BEFORE)])) == [
        frozenset({("userName", "alice")})
    ]

"""What a record says of unit and container, and what a rule on them makes of it."""

from __future__ import annotations

from typing import Any

import pytest
from tests.rules.test_diff import rules
from tests.rules.test_learn import FULL, log_of, record

from gpa.rules.facts import NONE, UNKNOWN, Fact, known
from gpa.rules.model import Identity
from gpa.rules.placed import KEPT, placed
from gpa.rules.recorded import Recorded, caller_of
from gpa.rules.simulate import Change, simulate

ID = "0f2a6c1b8e4d5f7093b1a2c3d4e5f60718293a4b5c6d7e8f9012a3b4c5d6e7f8"
SCOPE = f"docker-{ID}.scope"


@pytest.mark.parametrize(
    ("unit", "slice_", "container", "expected"),
    [
        (None, None, None, (UNKNOWN, UNKNOWN)),
        ("web.service", "system.slice", None, (known("web.service"), NONE)),
        (None, "system.slice", None, (NONE, NONE)),
        (None, None, ID, (NONE, known(ID))),
        (SCOPE, "system.slice", ID, (known(SCOPE), known(ID))),
        ("machine-a.scope", "machine.slice", "a", (known("machine-a.scope"), known("a"))),
        # Below a unit of systemd its owner gives the names.
        ("user@1000.service", "user-1000.slice", ID, (known("user@1000.service"), UNKNOWN)),
        ("u" * KEPT, None, None, (UNKNOWN, NONE)),
    ],
)
def test_what_is_there_says_what_is_not(
    unit: str | None, slice_: str | None, container: str | None, expected: tuple[Fact, Fact]
) -> None:
    assert placed(unit, slice_, container) == expected


@pytest.mark.parametrize(
    ("more", "change"),
    [
        ({"unit": "web.service"}, Change.STILL_ALLOWED),
        ({"unit": "other.service"}, Change.NEWLY_REFUSED),
        ({"slice": "user.slice"}, Change.NEWLY_REFUSED),
        ({}, Change.DEPENDS),
    ],
)
def test_a_rule_on_units_is_decided_where_the_record_names_one(more: Any, change: Change) -> None:
    candidate = rules(("/metadata", Identity("web", systemd_unit="web.service")))
    asked = record(**FULL, decision="audit-allow", **more)
    ((line, _),) = simulate(log_of(asked), candidate).lines.items()
    assert line.change is change
    assert line.unknown == (("systemdUnit",) if change is Change.DEPENDS else ())


def test_a_rule_on_containers_is_decided_where_the_record_names_one() -> None:
    candidate = rules(("/metadata", Identity("web", container_id=ID)))
    asked = record(**FULL, decision="audit-allow", container=ID)
    lines = simulate(log_of(asked, record()), candidate).lines
    # A record in short says nothing of it, whatever others of the same user and program say.
    told = {(line.change, line.identity, line.unknown) for line in lines}
    assert told == {
        (Change.STILL_ALLOWED, "web", ()),
        (Change.DEPENDS, None, ("containerId",)),
    }


def test_one_record_tells_the_same(tmp_path: Any) -> None:
    found = caller_of(Recorded({"uid": 0, "euid": 0, "unit": SCOPE, "container": ID}, tmp_path))
    assert (found.units, found.containers) == (known(SCOPE), known(ID))

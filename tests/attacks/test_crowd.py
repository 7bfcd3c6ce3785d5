"""Many connects of many users at once, among those that reset, abandon, execute and end."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.kernel.conftest import build

if TYPE_CHECKING:
    from tests.kernel.conftest import Interceptor

pytestmark = pytest.mark.kernel

IMDS = ("169.254.169.254", 80)
UIDS = (0, 4101, 4102, 4103, 4103)
"""A worker each: two are of one user, and so are told apart by their pids."""
CONNECTS = int(os.environ.get("GPA_CROWD", "100000"))
"""A minute and a half on two cores that have other work as well; fewer while one changes things."""
MINIMUM_OF_OTHERS = CONNECTS // 100
"""Connections of those who disturb; else it was too quiet for the test to say anything."""


@pytest.mark.timeout(240)
def test_none_of_many_connects_is_missing_or_wrong(interceptor: Interceptor) -> None:
    crowd = build(interceptor.lab, Path(__file__).with_name("crowd.c"))
    other = interceptor.lab.add_program("other-crowd", crowd)
    each = CONNECTS // len(UIDS)
    before = interceptor.counters()
    words = [crowd, *IMDS, each, other, *UIDS]
    process = interceptor.lab.spawn(0, 0, [str(word) for word in words])
    told = interceptor.ask(f"census {each * len(UIDS)}", seconds=200)
    assert process.wait(20) == 0, "somebody could not connect"
    assert told["wrong"] == 0, told["some"]
    assert (told["claims"], told["twice"]) == (each * len(UIDS), 0)
    # Whoever said nothing is one of those who were started, too.
    assert set(told["silent"]) <= {str(uid) for uid in UIDS}
    assert sum(told["silent"].values()) >= MINIMUM_OF_OTHERS, told
    after = interceptor.counters()
    assert after["lost"] == before["lost"]
    assert after["handed_over"] - before["handed_over"] >= each * len(UIDS)

"""What the record of a request is believed about who made it."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpa.rules.facts import NONE, UNKNOWN, Answer, Caller, known
from gpa.rules.recorded import Recorded, caller_of

FULL = {"uid": 4000, "gid": 4000, "exe": "curl", "user": "alice", "path": "/usr/bin/curl"}


def caller(**members: object) -> Caller:
    return caller_of(Recorded(FULL | members, Path("audit.jsonl")))


def test_a_path_is_believed_where_it_ends_in_the_name_that_the_kernel_saw() -> None:
    assert caller().exe_paths == known("/usr/bin/curl")
    assert caller(path="/usr/bin/curl (deleted)").exe_paths == known("/usr/bin/curl")
    # The caller mounted something else there.
    lied = caller(path="/usr/bin/restic")
    assert lied.exe_paths.has("/usr/bin/restic") is Answer.NO
    assert lied.exe_paths.has("/usr/bin/curl") is Answer.UNKNOWN
    assert lied.process_names == known("curl")


def test_without_a_name_nothing_on_programs_is_known_or_holds() -> None:
    assert caller(exe=None).exe_paths == NONE
    assert caller(exe="cur~", path="/usr/bin/cur~").exe_paths == UNKNOWN


def test_one_user_where_no_other_is_told() -> None:
    assert caller().same_user is Answer.YES
    assert caller(uid=0).root is Answer.YES
    assert caller(euid=0).same_user is Answer.NO
    assert caller_of(Recorded({"uid": 4000, "exe": "curl"}, Path("audit.jsonl"))).euid == 4000


CONTAINER = "0f2a6c1b" * 8
SCOPE = f"docker-{CONTAINER}.scope"


@pytest.mark.parametrize(
    ("members", "unit", "container"),
    [
        ({}, UNKNOWN, UNKNOWN),
        ({"unit": "a.service", "slice": "system.slice"}, known("a.service"), NONE),
        ({"unit": SCOPE, "container": CONTAINER}, known(SCOPE), known(CONTAINER)),
        ({"container": "c0"}, NONE, known("c0")),
        # In a unit of a user's own, who may call a cgroup whatever he likes.
        (
            {"unit": "user@4000.service", "slice": "user-4000.slice", "container": "c0"},
            known("user@4000.service"),
            UNKNOWN,
        ),
    ],
)
def test_places_count_where_only_root_can_name_them(
    members: dict[str, str], unit: object, container: object
) -> None:
    found = caller(**members)
    assert (found.units, found.containers) == (unit, container)

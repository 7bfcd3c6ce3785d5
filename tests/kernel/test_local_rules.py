"""Selectors of local rules that have to be looked up: a caller's first request waits for that look,
and what a user can name himself says nothing."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import time
from typing import TYPE_CHECKING, Any

import pytest
from tests.attacks.conftest import INSTANCE, NAMED, TOKEN, Stand, eventually

from gpa.demo.cgroups import hierarchy
from gpa.demo.lab import VM, Lab, Place

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.kernel

USER, OTHER = 4041, 4042
CONTAINER, NESTED = "5eed" * 16, "0bad" * 16
TARGETS = {
    "content": TOKEN,
    "container": NAMED,
    "cgroup": INSTANCE,
    "uid": "/metadata/versions",
    "nobody": "/metadata/scheduledevents?api-version=2020-07-01",
}
ASK = "tell([attempt(target) for target in ARGUMENTS])"


SCENARIO = """
[rules.imds]
id = "ID"
mode = "enforce"
defaultAccess = "deny"
[rules.wireserver]
id = "x"
mode = "enforce"
defaultAccess = "allow"
"""


def local_rules(lab: Lab, digest: str) -> dict[str, Any]:
    identities: dict[str, dict[str, Any]] = {
        "content": {"exeSha256": digest},
        "container": {"containerId": CONTAINER},
        "cgroup": {"cgroup": f"/{lab.cgroup.relative_to(hierarchy())}/vm/backup"},
        "uid": {"uid": USER},
        "nobody": {"containerId": NESTED},
    }
    rules: dict[str, list[dict[str, Any]]] = {
        "privileges": [
            {"name": kind, "path": target.partition("?")[0]} for kind, target in TARGETS.items()
        ],
        "roles": [{"name": kind, "privileges": [kind]} for kind in TARGETS],
        "identities": [{"name": kind} | identities[kind] for kind in TARGETS],
        "roleAssignments": [{"role": kind, "identities": [kind]} for kind in TARGETS],
    }
    rules["privileges"][3]["methods"] = ["GET"]
    return {"rules": rules}


@pytest.fixture(scope="module")
def stand() -> Iterator[Stand]:
    with Lab() as lab:
        yield prepared(lab)


def prepared(lab: Lab) -> Stand:
    """Rules are the local file's, and are in force."""
    inside = json.dumps({"id": "x", "useLocalFileRules": True}).encode()
    stand = Stand(lab, SCENARIO.replace("ID", base64.b64encode(inside).decode()))
    digest = hashlib.sha256(stand.allowed.read_bytes()).hexdigest()
    lab.set_rules("IMDS", local_rules(lab, digest))
    assert eventually(lambda: stand.attack(USER, ASK, TARGETS["uid"]) == [200], 10)
    return stand


def ask(stand: Stand, *kinds: str, uid: int = OTHER, **more: Any) -> list[int]:
    """Statuses of one process that asks for one after the other."""
    told: list[int] = stand.attack(uid, ASK, *(TARGETS[kind] for kind in kinds), **more)
    return told


def test_the_first_request_of_a_new_container_is_not_refused(stand: Stand) -> None:
    for number in range(3):
        cgroup = f"{VM.cgroup}/pod{number}/docker-{CONTAINER}.scope"
        assert ask(stand, "container", "nobody", place=Place(VM.netns, cgroup)) == [200, 403]
    assert ask(stand, "container") == [403]


def test_below_a_container_its_id_stays(stand: Stand) -> None:
    cgroup = f"{VM.cgroup}/docker-{CONTAINER}.scope/docker-{NESTED}.scope"
    assert ask(stand, "container", "nobody", place=Place(VM.netns, cgroup)) == [200, 403]


def test_what_a_user_names_says_nothing(stand: Stand) -> None:
    """A part of the hierarchy is delegated to the user, who names what is below as he likes."""
    mine = stand.lab.cgroup / "vm" / "delegated"
    mine.mkdir()
    os.chown(mine, OTHER, OTHER)
    place = Place(VM.netns, f"vm/delegated/docker-{CONTAINER}.scope")
    assert ask(stand, "container", place=place) == [403]
    # The same where the group may write.
    os.chown(mine, 0, OTHER)
    mine.chmod(0o775)
    place = Place(VM.netns, f"vm/delegated/two/docker-{CONTAINER}.scope")
    assert ask(stand, "container", place=place) == [403]


def test_a_cgroup_and_what_is_below_it(stand: Stand) -> None:
    for cgroup, status in (
        ("vm/backup", 200),
        ("vm/backup/below", 200),
        ("vm/backup2", 403),
        ("vm/users/backup", 403),
    ):
        assert ask(stand, "cgroup", place=Place(VM.netns, cgroup)) == [status], cgroup


def test_what_is_in_a_program_counts_wherever_it_lies(stand: Stand) -> None:
    copy = stand.lab.add_program("another-name", stand.allowed)
    time.sleep(2.2)  # a file that was changed a moment ago is not looked into
    assert ask(stand, "content", program=copy) == [200]
    assert ask(stand, "content") == [200], "the file that all of them were copied from"


def test_a_changed_program_is_another_at_once(stand: Stand) -> None:
    copy = stand.lab.add_program("changing", stand.allowed)
    time.sleep(2.2)
    assert ask(stand, "content", program=copy) == [200]
    with copy.open("r+b") as file:
        file.seek(0, os.SEEK_END)
        file.write(b"\0")
    assert ask(stand, "content", program=copy) == [403]
    time.sleep(2.2)
    assert ask(stand, "content", program=copy) == [403], "other bytes, another digest"


def test_methods_and_uid(stand: Stand) -> None:
    assert ask(stand, "uid", uid=USER) == [200]
    assert ask(stand, "uid", uid=OTHER) == [403]
    post = "c = connected(); c.sendall(head(ARGUMENTS[0]).replace(b'GET', b'POST')); " + (
        "tell(int(c.recv(65536)[9:12]))"
    )
    assert stand.attack(USER, post, TARGETS["uid"]) == 403


def test_nobody_waits_long_for_a_look_that_finds_nothing(stand: Stand) -> None:
    place = Place(VM.netns, f"{VM.cgroup}/fresh")
    timed = "b = time.monotonic(); s = attempt(ARGUMENTS[0]); tell([s, time.monotonic() - b])"
    status, first = stand.attack(OTHER, timed, TARGETS["container"], place=place)
    assert status == 403
    assert first < 1.0

"""A refused caller's record names its systemd unit and container, from the cgroup id alone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from tests.attacks.conftest import Stand, eventually

from gpa.demo.lab import VM, Lab, Place

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.kernel

USER = 4031
CONTAINER = "5eed" * 16
ASK = "tell([attempt(ARGUMENTS[0], WIRESERVER), os.getpid()])"


@pytest.fixture(scope="module")
def stand() -> Iterator[Stand]:
    with Lab() as lab:
        yield Stand(lab)


def test_refused_caller_is_found_by_its_cgroup(stand: Stand) -> None:
    # As in a container, below a cgroup of the laboratory's whose own name says nothing.
    place = Place(VM.netns, f"{VM.cgroup}/docker-{CONTAINER}.scope")
    status, pid = stand.attack(USER, ASK, "/machine/?comp=goalstate", place=place)
    assert status == 403

    def records() -> list[dict[str, object]]:
        return [record for record in stand.agent.audit() if record.get("pid") == pid]

    (record,) = eventually(records)
    assert record["container"] == CONTAINER
    assert "slice" not in record, "unknown is absent"
    text = (stand.agent.log_folder / "ProxyAgent.Connection.log").read_text()
    assert json.dumps(CONTAINER) in text

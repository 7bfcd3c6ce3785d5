import json
from pathlib import Path

import pytest

from gpa.agent import memory, tags
from gpa.agent.channel import ALL_UNKNOWN, from_document
from gpa.agent.latch import Latch
from gpa.endpoints import Endpoint, Mode

STATUS = {"version": "1.0", "secureChannelState": "Wireserver"}


def test_what_is_remembered_comes_back(tmp_path: Path) -> None:
    latch = Latch(from_document(STATUS), newest=4)
    memory.remember(tmp_path, latch)
    assert (tmp_path / memory.NAME).stat().st_mode & 0o777 == 0o600
    back, trouble = memory.recall(tmp_path)
    assert trouble == ""
    assert back.modes[Endpoint.WIRESERVER] is Mode.ENFORCE
    assert back.newest_incarnation == 4
    assert not back.known


def test_nothing_remembered_is_no_trouble(tmp_path: Path) -> None:
    latch, trouble = memory.recall(tmp_path)
    assert (latch.modes, trouble) == (ALL_UNKNOWN, "")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        json.dumps({"status": 7, "absent": False, "newestIncarnation": None}),
        json.dumps({"status": {}, "absent": True, "newestIncarnation": None}),
        json.dumps({"status": None, "absent": True, "newestIncarnation": "1"}),
        "[" * 100_000,
    ],
)
def test_a_torn_file_is_as_good_as_none(text: str, tmp_path: Path) -> None:
    (tmp_path / memory.NAME).write_text(text)
    latch, trouble = memory.recall(tmp_path)
    assert latch.modes == ALL_UNKNOWN, "what is unknown is enforced"
    assert "is not used" in trouble


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "real").write_text(json.dumps({"status": None, "absent": True}))
    (tmp_path / memory.NAME).symlink_to(tmp_path / "real")
    latch, trouble = memory.recall(tmp_path)
    assert latch.modes == ALL_UNKNOWN
    assert "cannot read" in trouble


def test_tags_say_how_provisioning_of_this_boot_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tags.read(tmp_path) is None
    tags.write(tmp_path, 1, "no host")
    assert tags.read(tmp_path) == tags.Finished("no host")
    tags.write(tmp_path, 2, "")
    assert tags.read(tmp_path) == tags.Finished("")
    assert (tmp_path / "status.tag").read_bytes() == b""
    tags.clear_old(tmp_path)
    assert tags.read(tmp_path) is not None

    other = tmp_path / "boot_id"
    other.write_text("another-boot\n")
    monkeypatch.setattr(tags, "BOOT_ID", other)
    assert tags.read(tmp_path) is None, "a tag of an earlier boot says nothing"
    tags.clear_old(tmp_path)
    assert not (tmp_path / "provisioned.tag").exists()

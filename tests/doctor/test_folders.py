"""Folders that the agent writes to."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from gpa.config import Config
from gpa.doctor import folders
from gpa.doctor.finding import State

if TYPE_CHECKING:
    from pathlib import Path

    from tests.doctor.conftest import Fake


@pytest.fixture
def home(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path


def test_there_or_to_be_made(home: Path) -> None:
    finding = folders.check_folder("folder run", home, 1)
    assert (finding.state, finding.words) == (State.OK, str(home))
    finding = folders.check_folder("folder run", home / "a/b", 1)
    assert (finding.state, finding.words) == (State.OK, f"{home}/a/b will be made")
    assert not list(home.iterdir())


def test_below_a_folder_where_nobody_replaces_what_is_anothers(home: Path) -> None:
    home.chmod(0o1777)
    assert folders.check_folder("folder run", home / "run", 1).state is State.OK
    home.chmod(0o777)
    finding = folders.check_folder("folder run", home / "run", 1)
    assert finding.state is State.FAILURE
    assert finding.remedy == f"take that away (chmod go-w {home})"


def test_not_ours(home: Path) -> None:
    (home / "link").symlink_to(home)
    finding = folders.check_folder("folder key", home / "link", 1, secret=True)
    assert (finding.state, finding.remedy) == (State.FAILURE, "name the folder itself")
    (home / "file").touch()
    finding = folders.check_folder("folder key", home / "file", 1, secret=True)
    assert (finding.state, finding.words) == (State.FAILURE, f"{home}/file is not a folder")


@pytest.mark.kernel  # only root may give it away
def test_of_another_user(home: Path) -> None:
    (home / "his").mkdir()
    os.chown(home / "his", 12345, 0)
    finding = folders.check_folder("folder log", home / "his", 1)
    assert finding.state is State.FAILURE
    assert "chown root" in finding.remedy


def test_keys_are_for_nobody_else(home: Path) -> None:
    home.chmod(0o755)
    assert folders.check_folder("folder log", home, 1).state is State.OK
    finding = folders.check_folder("folder key", home, 1, secret=True)
    assert (finding.state, finding.remedy) == (State.WARNING, f"chmod 700 {home}")


def test_little_room(home: Path) -> None:
    finding = folders.check_folder("folder log", home, 1 << 62)
    assert finding.state is State.WARNING
    assert "MiB free" in finding.words


def test_each_folder_once(fake: Fake, home: Path) -> None:
    config = Config(
        log_folder=home / "log",
        latch_key_folder=home / "keys",
        rules_folder=home / "rules",
        run_folder=home / "run",
    )
    found = list(folders.check_folders(fake.machine, config))
    assert [f.name for f in found] == ["folder log", "folder key", "folder rules", "folder run"]

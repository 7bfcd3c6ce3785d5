"""The control socket: who may open it, and what it does not replace."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from typing import TYPE_CHECKING

import pytest

from gpa.emulator import control
from gpa.errors import CannotCreateError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "control"


def test_the_socket_is_its_owners_alone(path: Path) -> None:
    opened = control.open_socket(path)
    info = path.stat()
    assert stat.S_IMODE(info.st_mode) == 0o600
    assert info.st_uid == os.geteuid()
    opened.close()


def test_a_socket_of_the_dead_is_replaced_and_one_of_the_living_is_not(path: Path) -> None:
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as dead:
        dead.bind(str(path))
    living = control.open_socket(path)
    with pytest.raises(CannotCreateError, match="another emulator"):
        control.open_socket(path)
    living.close()
    path.unlink()
    path.write_text("mine")
    with pytest.raises(CannotCreateError, match="is no socket"):
        control.open_socket(path)
    assert path.read_text() == "mine"
    with pytest.raises(CannotCreateError, match="cannot make"):
        control.open_socket(path / "below")
    with pytest.raises(CannotCreateError, match="cannot make"):
        control.open_socket(path.with_name("x" * 200))

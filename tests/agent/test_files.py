import os
import re
import stat
from pathlib import Path

import pytest

from gpa.agent.files import RotatingFile, keep_newest, read_small, write_atomically


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_with_exactly_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("old")
    path.chmod(0o777)
    write_atomically(path, b"new", 0o640, durable=True)
    assert path.read_bytes() == b"new"
    assert mode_of(path) == 0o640
    assert names(tmp_path) == ["f"]


def test_a_link_in_its_place_is_replaced_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("precious")
    (tmp_path / "f").symlink_to(target)
    write_atomically(tmp_path / "f", b"new", 0o600)
    assert target.read_text() == "precious"
    assert not (tmp_path / "f").is_symlink()


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "f"
    folder.mkdir()
    (folder / "x").touch()
    with pytest.raises(OSError, match=r"."):
        write_atomically(folder, b"new", 0o600)
    assert names(tmp_path) == ["f"]


def test_small_reads_are_bounded_and_never_wait(tmp_path: Path) -> None:
    assert read_small(tmp_path / "none", 5) is None
    (tmp_path / "f").write_bytes(b"12345")
    assert read_small(tmp_path / "f", 5) == b"12345"
    with pytest.raises(OSError, match="larger"):
        read_small(tmp_path / "f", 4)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="plain file"):
        read_small(tmp_path / "fifo", 4)


def test_the_newest_are_kept(tmp_path: Path) -> None:
    for number in range(7):
        (tmp_path / f"R_{number}.json").touch()
    (tmp_path / "other").touch()
    keep_newest(tmp_path, re.compile(r"R_\d\.json"), 5)
    assert names(tmp_path) == [*(f"R_{n}.json" for n in range(2, 7)), "other"]


def test_a_log_rotates_and_is_bounded(tmp_path: Path) -> None:
    log = RotatingFile(tmp_path / "l", size=10, files=3)
    for number in range(8):
        log.write(b"line %d\n" % number)
    assert (tmp_path / "l").read_bytes() == b"line 7\n"
    assert (tmp_path / "l.1").read_bytes() == b"line 6\n"
    assert (tmp_path / "l.2").read_bytes() == b"line 5\n"
    assert names(tmp_path) == ["l", "l.1", "l.2"]
    assert mode_of(tmp_path / "l") == 0o640
    log.close()


def test_a_log_goes_on_where_it_was(tmp_path: Path) -> None:
    for _ in range(2):
        log = RotatingFile(tmp_path / "l", size=10, files=3)
        log.write(b"1234\n")
        log.close()
    assert (tmp_path / "l").read_bytes() == b"1234\n1234\n"


def test_a_log_does_not_follow_links_or_second_names(tmp_path: Path) -> None:
    target = tmp_path / "target"
    for lay in (Path.symlink_to, Path.hardlink_to):
        target.write_text("precious")
        lay(tmp_path / "l", target)
        log = RotatingFile(tmp_path / "l")
        log.write(b"x\n")
        log.close()
        assert target.read_text() == "precious"
        assert (tmp_path / "l").read_bytes() == b"x\n"
        (tmp_path / "l").unlink()


def test_a_log_recovers(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    log = RotatingFile(folder / "l")
    with pytest.raises(FileNotFoundError):
        log.write(b"lost\n")
    folder.mkdir()
    log.write(b"kept\n")
    assert (folder / "l").read_bytes() == b"kept\n"
    log.close()

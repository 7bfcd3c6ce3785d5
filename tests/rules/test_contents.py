"""What is in a program, and when a digest of it may be kept."""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gpa import _native
from gpa.rules import contents as module
from gpa.rules.contents import UNKNOWN, Contents, NotNowError, fs_verity
from gpa.rules.executables import Mount, identify, read_mounts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpa.rules.compile import ExeId

DIGEST = hashlib.sha256(b"program").hexdigest()
HERE = frozenset(m.kind for m in read_mounts(Path("/proc/self/mountinfo").read_text()))


class Bench:
    def __init__(self, folder: Path) -> None:
        self.path = folder / "program"
        self.path.write_bytes(b"program")
        self.age = 10.0
        self.hashed = 0
        self.change = b""
        self.sealed = ""
        self.contents = Contents(
            lambda: self.path.stat().st_ctime + self.age,
            self.hash,
            lambda _: self.sealed,
            trusted=HERE,
        )
        self.fd = os.open(self.path, os.O_PATH)
        self.mounts = read_mounts(Path("/proc/self/mountinfo").read_text())

    def hash(self, fd: int, limit: int, seconds: float) -> str:
        self.hashed += 1
        found = _native.sha256(fd, limit, seconds)
        if self.change:
            with self.path.open("ab") as file:
                file.write(self.change)
        return found

    def look(self, uid: int = 1000, wanted: ExeId | None = None) -> dict[ExeId, frozenset[str]]:
        self.contents.look(self.fd, self.mounts, uid, wanted)
        return dict(self.contents.known())

    def id(self) -> ExeId:
        found = identify(self.fd, self.mounts)
        assert found is not None
        return found[0]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    os.close(bench.fd)


def test_a_file_is_read_once(bench: Bench) -> None:
    assert bench.look(wanted=bench.id()) == bench.look() == {bench.id(): {DIGEST}}
    assert bench.hashed == 1


def test_a_changed_file_is_another(bench: Bench) -> None:
    before = bench.id()
    bench.look()
    bench.path.write_bytes(b"another")
    known = bench.look()
    assert known[bench.id()] == {hashlib.sha256(b"another").hexdigest()}
    assert bench.id() != before


@pytest.mark.parametrize("age", [1.9, 0.0, -1000.0])
def test_a_file_changed_a_moment_ago_is_not_looked_into(bench: Bench, age: float) -> None:
    bench.age = age
    with pytest.raises(NotNowError, match="a moment ago"):
        bench.look()
    assert (bench.hashed, bench.contents.known()) == (0, {})


def test_a_file_that_changes_while_it_is_read_is_not_kept(bench: Bench) -> None:
    bench.change = b"!"
    with pytest.raises(NotNowError, match="while it was read"):
        bench.look()
    assert bench.contents.known() == {}


def test_the_file_must_be_the_callers(bench: Bench) -> None:
    with pytest.raises(NotNowError, match="another file"):
        bench.look(wanted=bench.id()._replace(ctime_ns=1))
    assert bench.hashed == 0


def test_what_no_rule_can_name_is_known_to_be_so(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Contents(hash_file=bench.hash, trusted=frozenset())
    other.look(bench.fd, bench.mounts, 1000)
    assert other.known() == {bench.id(): UNKNOWN}
    nowhere = Contents(hash_file=bench.hash)
    nowhere.look(bench.fd, [Mount(0, 0, "/", "ext4")], 1000, wanted=bench.id())
    assert nowhere.known() == {bench.id(): UNKNOWN}
    monkeypatch.setattr(module, "MAX_BYTES", 6)
    assert bench.look() == {bench.id(): UNKNOWN}
    assert bench.hashed == 0


def test_one_user_cannot_have_us_read_without_end(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_BYTES_OF_ONE", 10)
    bench.look()
    bench.path.write_bytes(b"another")
    with pytest.raises(NotNowError, match="too much"):
        bench.look()
    bench.look(uid=1001)
    bench.path.write_bytes(b"a third")
    bench.look(uid=0)


def test_a_file_under_fs_verity_has_both_digests_at_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.sealed, bench.age = "5e" * 32, 0.0  # nobody can change it any more
    assert bench.look() == {bench.id(): {DIGEST, bench.sealed}}
    bench.contents.clear()
    monkeypatch.setattr(module, "MAX_BYTES", 6)
    assert bench.look() == {bench.id(): {bench.sealed}}


@pytest.mark.parametrize(
    ("algorithm", "expected"), [(module.SHA256, hashlib.sha256(b"tree").hexdigest()), (2, "")]
)
def test_the_kernel_tells_fs_veritys_digest(
    algorithm: int, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = hashlib.sha256(b"tree").digest()

    def ioctl(fd: int, request: int, answer: bytearray) -> int:
        assert (request, struct.unpack_from("=HH", answer)[1]) == (0xC004_6686, 64)
        answer[: 4 + len(digest)] = struct.pack("=HH", algorithm, len(digest)) + digest
        return 0

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    assert fs_verity(0) == expected


def test_an_ordinary_file_has_none(bench: Bench) -> None:
    with bench.path.open("rb") as file:
        assert fs_verity(file.fileno()) == ""


def test_only_file_systems_that_mark_every_change_are_trusted() -> None:
    # tmpfs keeps no time of a change through a mapping, overlayfs not the one below, and on btrfs
    # two files of two subvolumes can have one number.
    assert module.TRUSTED.isdisjoint({"tmpfs", "ramfs", "overlay", "btrfs", "fuse", "nfs", "9p"})


def test_size_and_time_of_a_digest_are_bounded(bench: Bench) -> None:
    fd = os.open(bench.path, os.O_RDONLY)
    try:
        assert _native.sha256(fd, 7, 9.0) == DIGEST
        with pytest.raises(OSError, match="too large"):
            _native.sha256(fd, 6, 9.0)
        with pytest.raises(TimeoutError):
            _native.sha256(fd, 7, 0.0)
        with pytest.raises(ValueError, match="negative"):
            _native.sha256(fd, 7, -1.0)
    finally:
        os.close(fd)

"""Callers looked at once each: where they are, and what they run."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gpa.agent.callers import Callers
from gpa.agent.cgroup import Paths
from gpa.rules.contents import Contents
from gpa.rules.executables import Executables, identify, read_mounts
from gpa.rules.resolve import Resolution, WantedNames

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpa.rules.compile import ExeId

ID = "5eed" * 16
SYSTEM = Path("/proc/self/mountinfo")
KINDS = frozenset(mount.kind for mount in read_mounts(SYSTEM.read_text()))
PROGRAM = Path(sys.executable).resolve()
DIGEST = hashlib.sha256(PROGRAM.read_bytes()).hexdigest()


class FakePaths(Paths):
    def __init__(self) -> None:
        super().__init__()
        self.asked: list[int] = []

    def place(self, cgroup_id: int) -> str:
        self.asked.append(cgroup_id)
        return {7: f"/system.slice/docker-{ID}.scope", 8: "/system.slice/a.service"}.get(
            cgroup_id, ""
        )


class Bench:
    def __init__(self) -> None:
        self.paths = FakePaths()
        self.files = Executables(Path("/proc/self"))
        contents = Contents(clock=lambda: 1e12, trusted=KINDS)
        self.callers = Callers(self.files, self.paths, contents)

    def resolved(self, **wanted: Any) -> Resolution:
        names = WantedNames(**{key: frozenset(value) for key, value in wanted.items()})
        return self.callers.add_to(Resolution(), names)


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.files.close()


def program() -> ExeId:
    fd = os.open("/proc/self/exe", os.O_PATH)
    try:
        found = identify(fd, read_mounts(SYSTEM.read_text()))
    finally:
        os.close(fd)
    assert found is not None
    return found[0]


def caller(cgroup_id: int = 7, **more: Any) -> Any:
    """This process, as the kernel half tells of it."""
    stat = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start = int(stat[19]) * (1_000_000_000 // os.sysconf("SC_CLK_TCK"))
    base = {"tgid": os.getpid(), "start_boottime": start, "uid": 1000, "exe": tuple(program())}
    return base | {"cgroup_id": cgroup_id} | more


def test_a_cgroup_is_looked_at_once(bench: Bench) -> None:
    places = [
        ("containerId", ID),
        ("systemdUnit", "a.service"),
        ("cgroup", "/system.slice"),
        ("cgroup", "/x"),
    ]
    bench.callers.look([caller(7), caller(8), caller(9), caller(7)])
    bench.callers.look([caller(7)])
    assert bench.paths.asked == [7, 8, 9]
    found = bench.resolved(places=places)
    assert [sorted(found.cgroups(*place)) for place in places] == [[7], [8], [7, 8], []]
    assert found.known.cgroups == {7, 8, 9}, "also who is nowhere"
    assert found.cgroups("containerId", "not asked") == ()


def test_what_a_caller_runs_is_found_by_its_content(bench: Bench) -> None:
    bench.callers.look([caller()])
    found = bench.resolved(contents=[DIGEST, "0" * 64])
    assert (found.content(DIGEST), found.content("0" * 64)) == ({program()}, frozenset())
    assert found.known.executables == {program()}


@pytest.mark.parametrize(
    "who",
    [
        {"exe": None},
        {"start_boottime": 0},
        {"tgid": 0},
        {"exe": (1, 2, 3, 4)},
        {"exe": tuple(program()._replace(ctime_ns=program().ctime_ns ^ 1))},
    ],
)
def test_who_is_no_longer_that_process_is_not_looked_at(bench: Bench, who: dict[str, Any]) -> None:
    bench.callers.look([caller(**who)])
    assert bench.resolved(contents=[DIGEST]).known.executables == frozenset()


def test_a_file_that_a_rule_names_is_looked_into(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "program"
    path.write_bytes(b"x")
    bench.files.find(str(path))
    assert bench.callers.look_at_files([str(path), "/not found before"]) == {}
    assert len(bench.resolved(contents=[hashlib.sha256(b"x").hexdigest()]).known.executables) == 1
    young = Callers(bench.files, bench.paths, Contents(clock=lambda: 0, trusted=KINDS))
    why = "it was changed a moment ago"
    assert young.look_at_files([str(path)]) == {f"exeSha256 beside exePath {path}": why}


def test_what_no_rule_asks_for_is_forgotten(bench: Bench) -> None:
    bench.callers.look([caller()])
    bench.callers.forget()
    found = bench.resolved()
    assert (found.known.executables, found.known.cgroups) == (frozenset(), frozenset())

"""The laboratory works, and nothing is left: after its end, an exception, a signal, a crash."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gpa.demo import cgroups, machine, registry
from gpa.demo.lab import AROUND, GUEST, HOST, VM, Lab, Place
from gpa.errors import CannotCreateError, UntrustedPathError

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.kernel

ECHO = """
import socket
with socket.create_server(("169.254.169.254", 80)) as server:
    print("ready", flush=True)
    while True:
        connection, peer = server.accept()
        with connection:
            connection.sendall(peer[0].encode())
"""

ASK = """
import socket, sys
with socket.create_connection((sys.argv[1], 80), 5) as connection:
    print(connection.recv(100).decode())
"""

HOLD = """
import os, pathlib, sys, time
from gpa.demo.lab import GUEST, Lab
from gpa.demo.signals import interruptible
with interruptible(), Lab(pathlib.Path(sys.argv[1])) as lab:
    lab.spawn(65534, 65534, ["sleep", "1000"])
    lab.spawn(0, 0, ["setsid", "sh", "-c", "sleep 1000 & sleep 1000"], place=GUEST)
    while len([p for p in lab.cgroup.rglob("cgroup.procs") if p.read_text()]) < 2:
        time.sleep(0.01)
    if sys.argv[2:]:
        raise ValueError(sys.argv[2])
    print(lab.folder, lab.cgroup, os.stat(lab.netns("vm")).st_ino, flush=True)
    time.sleep(1000)
"""


@dataclass(frozen=True)
class Trace:
    """What is looked for after the end."""

    folder: Path
    cgroup: Path
    netns: int

    @classmethod
    def of(cls, lab: Lab) -> Trace:
        return cls(lab.folder, lab.cgroup, lab.netns("vm").stat().st_ino)

    def found(self) -> list[str]:
        left = [str(p) for p in (self.folder, self.cgroup) if p.exists()]
        left += [str(m) for m in machine.mounts() if m.point.is_relative_to(self.folder)]
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (process / "ns/net").stat().st_ino == self.netns:
                    left.append(f"{process} is in the namespace")
                if self.cgroup.name in (process / "cgroup").read_text():
                    left.append(f"{process} is in the cgroup")
        return left


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "labs"


@contextlib.contextmanager
def holder(home: Path) -> Iterator[tuple[subprocess.Popen[str], Trace]]:
    """Another process that holds a laboratory with processes in it."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(home)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        words = process.stdout.readline().split()
        yield process, Trace(Path(words[0]), Path(words[1]), int(words[2]))
    finally:
        process.kill()
        process.communicate()
        registry.sweep(home)


def test_each_place_reaches_the_host_by_its_own_way() -> None:
    with Lab() as lab:
        server = lab.spawn(0, 0, [sys.executable, "-I", "-c", ECHO], place=HOST)
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"

        def source(place: Place, address: str = "169.254.169.254") -> str:
            done = lab.run_as(0, 0, [sys.executable, "-I", "-c", ASK, address], place=place)
            assert done.returncode == 0, done.stderr
            return done.stdout.strip()

        assert source(VM) == source(AROUND) == "192.0.2.2"
        assert source(GUEST) == "198.51.100.2"
        assert source(HOST) == "169.254.169.254"
        assert source(VM, "::ffff:169.254.169.254") == "192.0.2.2"


def test_nothing_leads_out_of_the_laboratory() -> None:
    with Lab() as lab:
        for name in ("host", "vm", "guest"):
            listing = ["ip", "-json", "route", "show", "default"]
            done = lab.run_as(0, 0, listing, place=Place(name, "host"))
            assert done.stdout.strip() in ("", "[]", "[ ]")


def test_a_process_runs_as_whom_and_where_it_was_told() -> None:
    with Lab() as lab:
        done = lab.run_as(
            1, 2, ["cat", "/proc/self/status", "/proc/self/cgroup"], groups=[3, 4], place=GUEST
        )
        fields = dict(line.split(":", 1) for line in done.stdout.splitlines() if ":" in line)
        assert fields["Uid"].split() == ["1"] * 4
        assert fields["Gid"].split() == ["2"] * 4
        assert fields["Groups"].split() == ["3", "4"]
        assert fields["CapEff"].strip() == "0" * 16
        assert f"0::/{lab.cgroup.name}/guest" in done.stdout


def test_real_and_effective_ids_can_differ() -> None:
    with Lab() as lab:
        status = ["grep", "-E", "^[UG]id", "/proc/self/status"]
        done = lab.run_as(65534, 1, status, euid=0, egid=2)
        assert [line.split()[1:3] for line in done.stdout.splitlines()] == [
            ["65534", "0"],
            ["1", "2"],
        ]


def test_a_program_is_copied_for_everybody_to_run() -> None:
    with Lab() as lab:
        copy = lab.add_program("other-name", Path("/bin/cat"))
        done = lab.run_as(65534, 65534, [copy, "/proc/self/comm"])
        assert done.stdout == "other-name\n"
        assert copy.stat().st_ino != Path("/bin/cat").stat().st_ino


def test_what_cannot_be_started_says_so() -> None:
    with Lab() as lab:
        done = lab.run_as(65534, 65534, ["/nonexistent/program"])
        assert done.returncode == 1
        assert done.stderr.startswith("launch: ")
        assert "No such file" in done.stderr


def test_a_program_that_hangs_is_ended() -> None:
    with Lab() as lab:
        with pytest.raises(subprocess.TimeoutExpired):
            lab.run_as(0, 0, ["sleep", "1000"], timeout=0.3)
        assert cgroups.members(lab.cgroup) == set()


def test_nothing_is_left_after_the_end(home: Path) -> None:
    with Lab(home) as lab:
        trace = Trace.of(lab)
        lab.spawn(65534, 65534, ["sleep", "1000"])
        assert trace.found()
        (lab.pins / "maps").mkdir()
    assert trace.found() == []
    assert not home.exists()


def test_nothing_is_left_after_an_exception(home: Path) -> None:
    def fail() -> None:
        with Lab(home) as lab:
            lab.spawn(0, 0, ["sleep", "1000"])
            traces.append(Trace.of(lab))
            raise ValueError("a scene failed")

    traces: list[Trace] = []
    with pytest.raises(ValueError, match="a scene failed"):
        fail()
    assert traces[0].found() == []
    assert not home.exists()


def test_nothing_is_left_when_it_cannot_be_made(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = machine.tool

    def refuse_mount(words: list[str], text: str = "") -> str:
        if words[0] == "mount":
            raise CannotCreateError("no bpf filesystem")
        return tool(words, text)

    names: list[str] = []

    def claim(where: Path) -> registry.Claim:
        mine = registry_claim(where)
        names.append(mine.folder.name)
        return mine

    registry_claim = registry.claim
    monkeypatch.setattr(registry, "claim", claim)
    monkeypatch.setattr(machine, "tool", refuse_mount)
    with pytest.raises(CannotCreateError, match="no bpf filesystem"), Lab(home):
        pass
    assert not home.exists()
    assert [(cgroups.hierarchy() / name).exists() for name in names] == [False]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_nothing_is_left_after_a_signal(home: Path, number: signal.Signals) -> None:
    with holder(home) as (process, trace):
        assert trace.found()
        process.send_signal(number)
        _, err = process.communicate(timeout=20)
        assert "KeyboardInterrupt" in err
        assert trace.found() == []
        assert not home.exists()


def test_the_next_run_takes_away_what_a_killed_one_left(home: Path) -> None:
    with holder(home) as (process, trace):
        process.kill()
        process.wait()
        left = trace.found()
        assert str(trace.folder) in left
        assert any("is in the cgroup" in line for line in left)
        with Lab(home):
            assert trace.found() == []
    assert not home.exists()


def test_one_that_lives_is_left_alone(home: Path) -> None:
    with holder(home) as (process, trace):
        assert registry.sweep(home) == []
        with Lab(home):
            pass
        assert process.poll() is None
        assert trace.folder.exists()
        assert cgroups.members(trace.cgroup)


def test_what_has_no_cgroup_any_more_is_taken_away(home: Path) -> None:
    """After a reboot only files are left."""
    folder = home / "gpa-0badcafe"
    (folder / "agent").mkdir(parents=True)
    (folder / "agent/proxy-agent.json").write_text(json.dumps({}))
    home.chmod(0o755)
    assert registry.sweep(home) == ["gpa-0badcafe"]
    assert not home.exists()


def test_a_home_that_others_can_write_is_not_touched(home: Path) -> None:
    home.mkdir()
    (home / "gpa-0badcafe").mkdir()
    home.chmod(0o777)
    with pytest.raises(UntrustedPathError):
        registry.sweep(home)
    assert (home / "gpa-0badcafe").exists()


def test_making_and_taking_away_is_fast(home: Path) -> None:
    """A small part of the ten seconds that the demo may take; 0.1 s on a quiet machine."""
    start = time.monotonic()
    with Lab(home):
        pass
    assert time.monotonic() - start < 3.0


def test_signals_wait_while_it_is_taken_away(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = registry.release

    def interrupted(mine: registry.Claim, where: Path) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        release(mine, where)

    monkeypatch.setattr(registry, "release", interrupted)
    with pytest.raises(KeyboardInterrupt), Lab(home) as lab:
        trace = Trace.of(lab)
    assert trace.found() == []

"""`gpa doctor` on the real kernel: before an agent, beside one, after one, and where it must fail.

Everything happens in a laboratory; nothing is attached outside of it.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.attacks.conftest import INSTANCE, Stand, eventually
from tests.doctor import foreign

from gpa.agent.pins import LAYOUT, Pins
from gpa.demo import cgroups
from gpa.demo.lab import SERVICE, VM, Lab
from gpa.demo.services import gpa_command, gpa_environment
from gpa.doctor import door

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

pytestmark = pytest.mark.kernel

SECONDS = 60

LOAD = """
got, end = {}, time.monotonic() + 30
while not os.path.exists(ARGUMENTS[1]) and time.monotonic() < end:
    status = attempt(ARGUMENTS[0])
    got[str(status)] = got.get(str(status), 0) + 1
tell(got)
"""


class Doctor:
    """`gpa doctor` in a laboratory, with a configuration of its own."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.home = lab.folder / "doctor"
        self.home.mkdir(mode=0o700, exist_ok=True)
        self.config = self.home / "config.json"

    def configure(self, **keys: object) -> Path:
        folders = {
            f"{name}Folder": self.home / name for name in ("log", "latchKey", "rules", "run")
        }
        folders |= {"pinFolder": self.lab.pins / "doctor", "cgroupRoot": self.lab.attach_point}
        settings = {key: str(path) for key, path in folders.items()} | keys
        self.config.write_text(json.dumps(settings))
        return self.config

    def run(self, config: Path) -> tuple[int, dict[str, dict[str, str]]]:
        done = self.lab.gpa("doctor", "--json", "--config", config, timeout=SECONDS)
        assert done.stderr == ""
        report = json.loads(done.stdout)
        assert report["config"] == str(config)
        assert report["ok"] is (done.returncode == 0)
        assert self.trials() == []
        return done.returncode, {found["name"]: found for found in report["findings"]}

    def trials(self) -> list[Path]:
        # os.walk: a cgroup may end meanwhile.
        return [
            Path(folder)
            for folder, _, _ in os.walk(self.lab.cgroup)
            if Path(folder).name.startswith(door.PREFIX)
        ]


def failures(found: dict[str, dict[str, str]]) -> list[str]:
    return [name for name, finding in found.items() if finding["state"] == "failure"]


def tried(found: dict[str, dict[str, str]]) -> dict[str, str]:
    return {n.split()[1]: f["state"] for n, f in found.items() if n.startswith("program ")}


@pytest.fixture(scope="module")
def doctor() -> Iterator[Doctor]:
    with Lab() as lab:
        yield Doctor(lab)


@pytest.fixture(scope="module")
def stand() -> Iterator[Stand]:
    with Lab() as lab:
        yield Stand(lab)


def test_before_an_agent(doctor: Doctor) -> None:
    code, found = doctor.run(doctor.configure())
    assert (code, failures(found)) == (0, [])
    assert tried(found) == dict.fromkeys(door.PROGRAMS, "ok")
    assert found["capture"]["state"] == "ok"
    assert found["pin-folder"]["state"] == "ok"
    assert found["cgroup-root"]["state"] == "warning"
    assert found["listener"]["words"] == "127.0.0.1:3080 is free"
    assert found["pins"]["state"] == "ok"
    assert list(doctor.home.iterdir()) == [doctor.config]
    assert not (doctor.lab.pins / "doctor").exists()


def test_beside_a_running_agent_nothing_is_disturbed(stand: Stand) -> None:
    """Requests go on meanwhile, each with its own identity, and the same pins stay."""
    doctor = Doctor(stand.lab)
    stop = stand.lab.programs / "stop"
    mark = f"{INSTANCE}&m=doctor"
    pins = Pins(stand.lab.pins / "gpa").links
    before = {pin.name: door.cgroup_of_pin(pin) for pin in pins.iterdir()}
    crowd = [stand.spawn(uid, LOAD, f"{mark}.{uid}", stop) for uid in (0, 4021)]
    try:
        for _ in range(3):
            code, found = doctor.run(stand.agent.config)
            assert (code, failures(found)) == (0, [])
            assert found["agent"]["words"] == f"one runs, pid {stand.agent.pid}"
            assert found["listener"]["words"] == "the agent listens on 127.0.0.1:3080"
            assert found[f"pins v{LAYOUT}"]["words"].startswith(
                f"{len(before)} programs are attached"
            )
            assert tried(found) == dict.fromkeys(door.PROGRAMS, "ok")
            assert found["capture"]["state"] == "ok"
    finally:
        stop.touch()
    for one in crowd:
        out, err = one.communicate(timeout=40)
        assert one.returncode == 0, err
        got = json.loads(out)
        assert list(got) == ["200"]
        assert got["200"] > 10
    assert {pin.name: door.cgroup_of_pin(pin) for pin in pins.iterdir()} == before
    for uid in (0, 4021):
        arrived = stand.arrived(f"doctor.{uid}")
        assert arrived
        for record in arrived:
            assert record["signature"] == "valid"
            assert record["is_root"] is (uid == 0)


def test_after_kill_9(stand: Stand) -> None:
    doctor = Doctor(stand.lab)
    stand.agent.kill()
    try:
        code, found = doctor.run(stand.agent.config)
        assert (code, failures(found)) == (0, [])
        assert found["agent"]["words"].startswith("none runs")
        assert found[f"pins v{LAYOUT}"]["state"] == "warning"
        assert "gpa detach" in found[f"pins v{LAYOUT}"]["remedy"]
        assert found["capture"]["state"] == "ok"
        assert "kept for the agent" in found["listener"]["words"]
    finally:
        stand.agent.start()


def test_forced_apart(stand: Stand) -> None:
    """Detached under a running agent: callers go around it, and that is a failure."""
    doctor = Doctor(stand.lab)
    forced = stand.lab.gpa("detach", "--force", "--config", stand.agent.config)
    assert forced.returncode == 0, forced.stderr
    try:
        code, found = doctor.run(stand.agent.config)
        assert (code, failures(found)) == (1, ["pins"])
    finally:
        stand.agent.stop()
        stand.agent.start()


def test_port_taken_by_another(doctor: Doctor) -> None:
    hold = "import socket, time; s = socket.create_server(('127.0.0.1', 3080)); print(1, flush=1)"
    holder = doctor.lab.spawn(
        4022, 4022, ["python3", "-I", "-S", "-c", f"{hold}; time.sleep(60)"], place=VM
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "1\n"
    code, found = doctor.run(doctor.configure())
    holder.kill()
    holder.wait()
    assert (code, failures(found)) == (1, ["listener"])
    assert f"is taken by pid {holder.pid} (python3" in found["listener"]["words"]


@pytest.mark.parametrize("where", ["above", "at"])
def test_exclusive_program_of_another(doctor: Doctor, where: str) -> None:
    above = cgroups.make(doctor.lab.cgroup / f"exclusive-{where}")
    mine = cgroups.make(above / "mine")
    foreign.attach(above if where == "above" else mine, foreign.EXCLUSIVE)
    code, found = doctor.run(doctor.configure(cgroupRoot=str(mine)))
    assert (code, failures(found)) == (1, ["program connect4", "neighbours connect4", "capture"])
    assert "Operation not permitted" in found["program connect4"]["words"]
    assert "foreign (id " in found["neighbours connect4"]["words"]
    assert "BPF_F_ALLOW_MULTI" in found["neighbours connect4"]["remedy"]


def test_programs_that_share(doctor: Doctor) -> None:
    shared = cgroups.make(doctor.lab.cgroup / "shared")
    below = cgroups.make(shared / "below")
    foreign.attach(shared, foreign.MULTI)
    foreign.attach(below, foreign.EXCLUSIVE)
    code, found = doctor.run(doctor.configure(cgroupRoot=str(shared)))
    assert (code, failures(found)) == (0, [])
    assert found["neighbours"]["words"].count("connect4: foreign (id ") == 2


def test_overridable_program(doctor: Doctor) -> None:
    """At the root it forbids ours, though a cgroup further down would take them."""
    mine = cgroups.make(doctor.lab.cgroup / "override")
    foreign.attach(mine, foreign.OVERRIDE)
    code, found = doctor.run(doctor.configure(cgroupRoot=str(mine)))
    assert (code, failures(found)) == (1, ["neighbours connect4"])


def test_program_of_another_that_refuses(doctor: Doctor) -> None:
    """All are attached, and still no connect comes through."""
    mine = cgroups.make(doctor.lab.cgroup / "refusing")
    foreign.attach(mine, foreign.MULTI, verdict=0)
    code, found = doctor.run(doctor.configure(cgroupRoot=str(mine)))
    assert (code, failures(found)) == (1, ["capture"])
    assert "Operation not permitted" in found["capture"]["words"]


def test_pins_on_no_bpf_filesystem(doctor: Doctor) -> None:
    code, found = doctor.run(doctor.configure(pinFolder=str(doctor.home / "pins")))
    assert (code, failures(found)) == (0, [])
    assert found["pin-folder"]["state"] == "warning"
    assert not (doctor.home / "pins").exists()
    code, found = doctor.run(doctor.configure(pinFolder="/proc/pins"))
    assert (code, failures(found)) == (1, ["pin-folder"])


def test_cgroup_root_that_is_none(doctor: Doctor) -> None:
    """The programs are loaded all the same, and the right folder is named."""
    code, found = doctor.run(doctor.configure(cgroupRoot=str(doctor.home)))
    assert (code, failures(found)) == (1, ["cgroup-root"])
    assert str(cgroups.hierarchy()) in found["cgroup-root"]["remedy"]
    assert "all are loaded for real" in found["program"]["words"]


def inside(doctor: Doctor, *command: str) -> dict[str, dict[str, str]]:
    """What fails when it is started by a command that takes something away first."""
    done = doctor.lab.run_as(
        0,
        0,
        [*command, *gpa_command("doctor", "--json", "--config", doctor.config)],
        place=SERVICE,
        env=gpa_environment(),
        timeout=SECONDS,
    )
    assert done.returncode == 1, done.stderr
    assert doctor.trials() == []
    return {f["name"]: f for f in json.loads(done.stdout)["findings"]}


def test_network_without_loopback(doctor: Doctor) -> None:
    """unshare(1) gives a network namespace whose lo is down."""
    doctor.configure()
    found = inside(doctor, "unshare", "--net")
    assert failures(found) == ["loopback"]
    assert "ip link set lo up" in found["loopback"]["remedy"]


def test_read_only_cgroup(doctor: Doctor) -> None:
    doctor.configure()
    root = doctor.lab.attach_point
    mount = f'mount --bind {root} {root} && mount -o remount,bind,ro {root} && exec "$@"'
    found = inside(doctor, "unshare", "--mount", "sh", "-c", mount, "sh")
    assert failures(found) == ["program", "capture"]
    assert "Read-only file system" in found["program"]["words"]


def test_the_default_in_a_containers_view_of_cgroups(doctor: Doctor) -> None:
    """It looks like the root, and is a part."""
    settings = json.loads(doctor.configure().read_text())
    del settings["cgroupRoot"]
    doctor.config.write_text(json.dumps(settings))
    mount = 'mount -t cgroup2 none /sys/fs/cgroup && exec "$@"'
    found = inside(doctor, "unshare", "--mount", "--cgroup", "sh", "-c", mount, "sh")
    assert failures(found) == ["cgroup-root"]
    assert "is this a container?" in found["cgroup-root"]["words"]
    assert tried(found) == dict.fromkeys(door.PROGRAMS, "ok")


def test_root_without_capabilities(doctor: Doctor) -> None:
    doctor.configure()
    found = inside(doctor, "setpriv", "--bounding-set=-bpf,-sys_admin")
    assert failures(found) == ["capabilities", "program"]
    assert "Operation not permitted" in found["program"]["words"]


def test_each_refused_program_in_the_verifiers_words(doctor: Doctor) -> None:
    """Without CAP_PERFMON some helpers are not there: programs that call them are refused, and the
    others are attached."""
    doctor.configure()
    verdicts = tried(found := inside(doctor, "setpriv", "--bounding-set=-perfmon,-sys_admin"))
    assert list(verdicts) == list(door.PROGRAMS)
    assert verdicts["connect4"] == "failure"
    assert verdicts["getpeername4"] == "ok"
    assert (
        "prog 'gpa_connect4': program of this type cannot use helper"
        in (found["program connect4"]["words"])
    )


def is_locked(folder: Path) -> bool:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def start(doctor: Doctor) -> subprocess.Popen[str]:
    """Start it, and wait until it tries programs."""
    command = gpa_command("doctor", "--config", doctor.configure())
    process = doctor.lab.spawn(0, 0, command, place=SERVICE, env=gpa_environment())
    assert eventually(doctor.trials, 30), "it made no cgroup"
    return process


def test_remains_of_a_killed_one_are_taken_away(doctor: Doctor) -> None:
    remains = cgroups.make(doctor.lab.attach_point / f"{door.PREFIX}dead")
    doctor.run(doctor.configure())
    assert not remains.exists()


@pytest.mark.parametrize("seconds", [0.0, 0.3, 0.6])
def test_killed_in_the_middle(doctor: Doctor, seconds: float) -> None:
    process = start(doctor)
    time.sleep(seconds)
    process.kill()
    process.communicate()
    # What it had started comes to its own end.
    assert eventually(lambda: not any(map(is_locked, doctor.trials())), 30)
    doctor.run(doctor.configure())


def test_a_living_one_is_left_alone(doctor: Doctor) -> None:
    living = cgroups.make(doctor.lab.attach_point / f"{door.PREFIX}alive")
    fd = os.open(living, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        done = doctor.lab.gpa("doctor", "--config", doctor.configure(), timeout=SECONDS)
        assert done.returncode == 0
        assert doctor.trials() == [living]
    finally:
        os.close(fd)
        living.rmdir()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_in_the_middle(doctor: Doctor, number: signal.Signals) -> None:
    process = start(doctor)
    process.send_signal(number)
    _, err = process.communicate(timeout=SECONDS)
    # It may have come too late.
    assert process.returncode in (0, 130), err
    assert err == ""
    assert doctor.trials() == []

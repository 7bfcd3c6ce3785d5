"""pinFolder, the agent, its pins."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from gpa.agent.lock import AgentLock
from gpa.agent.pins import LAYOUT
from gpa.config import Config
from gpa.doctor import pinned
from gpa.doctor.finding import State

if TYPE_CHECKING:
    from tests.doctor.conftest import Fake

    from gpa.doctor.finding import Finding


def folder(fake: Fake, path: Path) -> Finding:
    (finding,) = pinned.check_folder(fake.machine, Config(pin_folder=path))
    return finding


def pins(path: Path, *, running: bool, detached: tuple[str, ...] = ()) -> list[Finding]:
    found = pinned.check_pins(
        Config(pin_folder=path),
        running=running,
        cgroup_of=lambda pin: 0 if pin.name in detached else 7,
    )
    return list(found)


def test_folder_on_a_bpf_filesystem(fake: Fake, tmp_path: Path) -> None:
    fake.mount(tmp_path, "bpf")
    assert folder(fake, tmp_path / "gpa").state is State.OK


def test_folder_on_none(fake: Fake, tmp_path: Path) -> None:
    fake.write("proc/filesystems", "nodev\ttmpfs\nnodev\tbpf\n\text4\n")
    finding = folder(fake, tmp_path / "gpa")
    assert finding.state is State.WARNING
    assert "mount -t bpf bpf /sys/fs/bpf, and name" in finding.remedy
    assert not list(tmp_path.glob("gpa*"))


def test_folder_on_a_kernel_without(fake: Fake, tmp_path: Path) -> None:
    fake.write("proc/filesystems", "nodev\ttmpfs\n\text4\n")
    finding = folder(fake, tmp_path / "gpa")
    assert finding.state is State.FAILURE
    assert "CONFIG_BPF_SYSCALL" in finding.remedy


def test_folder_that_cannot_be_made(fake: Fake) -> None:
    fake.write("proc/filesystems", "nodev\tbpf\n")
    finding = folder(fake, Path("/proc/gpa/pins"))
    assert finding.state is State.FAILURE
    assert "cannot be made" in finding.words
    # sysfs, where nothing is mounted on its empty folder.
    finding = folder(fake, Path("/sys/fs/bpf/gpa-that-is-not-there/pins"))
    assert finding.remedy == "mount -t bpf bpf /sys/fs/bpf (systemd does so at boot)"


def test_agent(fake: Fake, tmp_path: Path) -> None:
    config = Config(run_folder=tmp_path)
    (finding,) = pinned.check_agent(fake.machine, config)
    assert finding.words.startswith("none runs")
    lock = AgentLock.take(tmp_path)
    (finding,) = pinned.check_agent(fake.machine, config)
    assert finding.words == f"one runs, pid {os.getpid()}"
    lock.release()
    (finding,) = pinned.check_agent(fake.machine, config)
    assert finding.words.startswith("none runs")


def test_nothing_is_pinned(tmp_path: Path) -> None:
    (finding,) = pins(tmp_path / "none", running=False)
    assert finding.state is State.OK
    (finding,) = pins(tmp_path / "none", running=True)
    assert finding.state is State.FAILURE


def test_pins_of_an_agent(tmp_path: Path) -> None:
    links = tmp_path / f"v{LAYOUT}" / "links"
    links.mkdir(parents=True)
    for name in ("connect4", "sockops"):
        (links / name).touch()
    (finding,) = pins(tmp_path, running=True)
    assert finding.state is State.OK
    (finding,) = pins(tmp_path, running=True, detached=("connect4",))
    assert finding.state is State.FAILURE
    assert "not attached are connect4" in finding.words
    (finding,) = pins(tmp_path, running=False)
    assert finding.state is State.WARNING
    assert "connects to what is enforced are refused" in finding.words
    (finding,) = pins(tmp_path, running=False, detached=("connect4", "sockops"))
    assert finding.state is State.WARNING
    assert "do nothing" in finding.words


def test_pins_of_another_version(tmp_path: Path) -> None:
    (tmp_path / "v0" / "links").mkdir(parents=True)
    (finding,) = pins(tmp_path, running=False)
    assert (finding.name, finding.state) == ("pins v0", State.WARNING)

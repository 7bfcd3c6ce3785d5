"""Where cgroup v2 is, and whether cgroupRoot is the place."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gpa.config import Config
from gpa.doctor import cgroups
from gpa.doctor.finding import State

if TYPE_CHECKING:
    from tests.doctor.conftest import Fake

    from gpa.doctor.finding import Finding

ROOT = Path("/sys")
"""Inode 1, as the root of the hierarchy has."""


def check(fake: Fake, root: Path, *, explicit: bool = True) -> Finding:
    config = Config(cgroup_root=root, cgroup_root_is_explicit=explicit)
    (finding,) = cgroups.check_root(fake.machine, config)
    return finding


def test_hierarchies(fake: Fake) -> None:
    (finding,) = cgroups.check_hierarchy(fake.machine, Config())
    assert finding.state is State.FAILURE
    assert "mount -t cgroup2" in finding.remedy
    fake.mount("/sys/fs/cgroup", "cgroup2")
    (finding,) = cgroups.check_hierarchy(fake.machine, Config())
    assert (finding.state, finding.words) == (State.OK, "on /sys/fs/cgroup (alone)")


def test_beside_v1(fake: Fake) -> None:
    fake.mount("/sys/fs/cgroup/memory", "cgroup", "rw,memory")
    fake.mount("/sys/fs/cgroup/unified", "cgroup2")
    (finding,) = cgroups.check_hierarchy(fake.machine, Config())
    assert (finding.state, "hybrid" in finding.words) == (State.OK, True)
    fake.mount("/sys/fs/cgroup/net", "cgroup", "rw,net_cls,net_prio")
    (finding,) = cgroups.check_hierarchy(fake.machine, Config())
    assert finding.state is State.WARNING
    assert "cgroup_no_v1=net_cls,net_prio" in finding.remedy


def test_the_default_on_a_hybrid_machine_is_told_the_right_one(fake: Fake, tmp_path: Path) -> None:
    """v1 is where v2 would be alone."""
    fake.mount(tmp_path, "tmpfs")
    fake.mount(tmp_path / "unified", "cgroup2")
    finding = check(fake, tmp_path, explicit=False)
    assert finding.state is State.FAILURE
    assert f'"cgroupRoot": "{tmp_path}/unified"' in finding.remedy
    assert f"not on cgroup v2, which is mounted on {tmp_path}/unified" in finding.words


def test_roots_that_are_none(fake: Fake, tmp_path: Path) -> None:
    finding = check(fake, tmp_path)
    assert finding.state is State.FAILURE
    assert "mount -t cgroup2" in finding.remedy
    fake.mount(tmp_path / "v2", "cgroup2")
    finding = check(fake, tmp_path / "v2/mine")
    assert finding.state is State.FAILURE
    assert finding.words.endswith("is not there")
    assert f'"cgroupRoot": "{tmp_path}/v2"' in finding.remedy


def test_the_real_root(fake: Fake) -> None:
    fake.mount(ROOT, "cgroup2")
    assert ROOT.stat().st_ino == 1
    assert check(fake, ROOT, explicit=False).state is State.OK


def test_a_part_is_meant_or_a_container(fake: Fake, tmp_path: Path) -> None:
    fake.mount(tmp_path, "cgroup2")
    assert check(fake, tmp_path, explicit=True).state is State.WARNING
    refused = check(fake, tmp_path, explicit=False)
    assert refused.state is State.FAILURE
    assert "is this a container?" in refused.words


def test_above(fake: Fake, tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    fake.mount(tmp_path, "cgroup2")
    assert cgroups.above(fake.machine, tmp_path / "a/b") == [tmp_path / "a", tmp_path]
    assert cgroups.above(fake.machine, tmp_path) == []

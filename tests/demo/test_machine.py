"""What is read from mountinfo, and what is said when the machine is not ready."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpa.demo import cgroups, machine
from gpa.errors import CannotCreateError, NotRootError, UnavailableError


def test_a_line_of_mountinfo_is_read_with_its_escapes() -> None:
    line = r"36 35 98:0 /mnt1 /mnt\0402\134x ro,noatime master:1 - ext3 /dev/root rw"
    assert machine._parse(line) == machine.Mount(Path("/mnt 2\\x"), "/mnt1", "ext3", writable=False)


def test_optional_fields_may_be_missing() -> None:
    line = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw"
    found = machine._parse(line)
    assert (found.point, found.kind, found.writable) == (
        Path("/sys/fs/cgroup/unified"),
        "cgroup2",
        True,
    )


def test_an_ordinary_user_is_refused_before_anything_is_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(NotRootError, match="sudo"):
        machine.check_ready()


@pytest.mark.kernel
def test_a_container_is_refused_before_anything_is_done() -> None:
    code = "from gpa.demo import machine; machine.check_ready()"
    run = subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "run this on the machine itself" in run.stderr


def test_a_missing_tool_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(machine, "PATH", "/nonexistent")
    with pytest.raises(UnavailableError, match=r"ip, mount.* not found: install .*iproute2"):
        machine.check_ready()


def test_a_failed_tool_gives_its_last_line() -> None:
    with pytest.raises(CannotCreateError, match=r"^cat /nonexistent: cat: .*No such file"):
        machine.tool(["cat", "/nonexistent"])


def hierarchy_of(monkeypatch: pytest.MonkeyPatch, *found: machine.Mount) -> Path:
    monkeypatch.setattr(cgroups, "mounts", lambda: list(found))
    return cgroups.hierarchy()


def test_cgroup_v2_is_found_beside_v1(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    v1 = machine.Mount(Path("/sys/fs/cgroup/cpu"), "/", "cgroup", writable=True)
    v2 = machine.Mount(tmp_path, "/", "cgroup2", writable=True)
    assert hierarchy_of(monkeypatch, v1, v2) == tmp_path


def test_a_read_only_hierarchy_is_no_hierarchy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(UnavailableError, match="read-only"):
        hierarchy_of(monkeypatch, machine.Mount(tmp_path, "/", "cgroup2", writable=False))


def test_no_hierarchy_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnavailableError, match="mount -t cgroup2"):
        hierarchy_of(monkeypatch)

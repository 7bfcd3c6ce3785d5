"""Callers in real containers, with and without a network namespace of their own, are served and
named: podman and runc, from folders of this machine, without an image."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.attacks.conftest import INSTANCE, Stand, eventually

from gpa.demo import cgroups
from gpa.demo.lab import Lab
from gpa.demo.machine import PATH

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.kernel

USER = 4041
GOAL_STATE = "/machine/?comp=goalstate"
ASK = "tell([attempt(ARGUMENTS[0]), attempt(ARGUMENTS[1], WIRESERVER)]); time.sleep(1)"
"""It lives on for the second in which its cgroup is looked up."""

SEEN_INSIDE = ("/usr", "/bin", "/lib", "/lib64")
ULIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")
"""What podman asks for by itself is more than root has in some virtual machines."""


@pytest.fixture(scope="module")
def stand() -> Iterator[Stand]:
    for program in ("podman", "runc"):
        if shutil.which(program, path=PATH) is None:
            pytest.skip(f"{program} is not installed")
    with Lab() as lab:
        name = lab.cgroup.name
        yield Stand(lab)
    # runc makes its folders in the hierarchies of v1 as well, podman leaves their parents there.
    for left in Path("/sys/fs/cgroup").glob(f"*/{name}"):
        cgroups.remove(left)


@pytest.fixture(scope="module")
def podman(stand: Stand) -> list[str]:
    """The command line up to the container's own words; its files are the laboratory's."""
    base = stand.lab.make_folder("podman", 0o755)
    for name in ("root", "root/tmp", "root/etc"):
        (base / name).mkdir()
    folders = (*filter(lambda f: Path(f).exists(), SEEN_INSIDE), str(stand.lab.programs))
    boxes = (stand.lab.attach_point / "boxes").relative_to(cgroups.hierarchy())
    return [
        *("podman", "--runtime", "runc", "--cgroup-manager", "cgroupfs", "--storage-driver", "vfs"),
        *("--root", f"{base}/store", "--runroot", f"{base}/run", "--tmpdir", f"{base}/tmp"),
        *("--events-backend", "none", "run", "--rm", "--cgroup-parent", f"/{boxes}", *ULIMITS),
        *("--security-opt", "seccomp=unconfined", "--user", f"{USER}:{USER}"),
        *(word for folder in folders for word in ("--volume", f"{folder}:{folder}:ro")),
    ]


@pytest.mark.parametrize("network", ["none", "host"])
def test_container_is_served_and_named(stand: Stand, podman: list[str], network: str) -> None:
    root = stand.lab.folder / "podman" / "root"
    inside = stand.argv(ASK, INSTANCE, GOAL_STATE)
    argv = [*podman, "--network", network, "--rootfs", str(root), *inside]
    before = len(stand.agent.audit())
    done = stand.lab.run_as(0, 0, argv, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [200, 403]

    def records() -> list[dict[str, Any]]:
        new = stand.agent.audit()[before:]
        return new if len(new) == 2 else []

    allowed, refused = eventually(records)
    assert allowed["uid"] == refused["uid"] == USER
    assert allowed["pid"] == refused["pid"] > 1, "its number outside, not inside"
    assert len(refused["container"]) == 64

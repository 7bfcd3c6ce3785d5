"""cgroup v2: where it is, and whether `cgroupRoot` is the place from which callers are seen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gpa.agent.cgroup import REAL_ROOT
from gpa.doctor.finding import Finding, failure, ok, warning

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gpa.config import Config
    from gpa.doctor.machine import Machine, Mount

MOUNT_IT: Final = (
    "boot with systemd.unified_cgroup_hierarchy=1, or"
    " mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 none /sys/fs/cgroup/unified"
)

TAKE_SOCKETS: Final = ("net_cls", "net_prio")
"""Controllers of v1 that keep their mark where a socket's cgroup of v2 is kept (include/net/sock.h
before 8520e224f547): one that is used takes that away from every new socket."""


def check_hierarchy(machine: Machine, config: Config) -> Iterator[Finding]:
    """Is there one, alone or beside v1."""
    del config
    mounts = machine.mounts()
    found = _of_v2(mounts)
    if not found:
        yield failure("cgroup-v2", "cgroup v2 is not mounted", MOUNT_IT)
        return
    v1 = [m for m in mounts if m.kind == "cgroup"]
    how = "hybrid, beside v1" if v1 else "alone"
    words = f"on {', '.join(map(str, dict.fromkeys(m.point for m in found)))} ({how})"
    taken = [name for m in v1 for name in TAKE_SOCKETS if name in m.super_options.split(",")]
    if taken:
        yield warning(
            "cgroup-v2",
            f"{words}; {' and '.join(taken)} of v1 is mounted, and on kernels before 5.15 takes the"
            " cgroup away from sockets once it is used",
            f"boot with cgroup_no_v1={','.join(taken)}, unless somebody needs it",
        )
    else:
        yield ok("cgroup-v2", words)


def check_root(machine: Machine, config: Config) -> Iterator[Finding]:
    """Is `cgroupRoot` on it, and the whole of it unless another part was named."""
    root = config.cgroup_root
    points = [m.point for m in _of_v2(machine.mounts())]
    if is_v2(machine, root):
        yield _whole(root, explicit=config.cgroup_root_is_explicit)
    elif not root.is_dir():
        yield failure(
            "cgroup-root",
            f"cgroupRoot {root} is not there",
            f'set "cgroupRoot": "{points[0]}" in the configuration' if points else MOUNT_IT,
        )
    elif points:
        yield failure(
            "cgroup-root",
            f"cgroupRoot {root} is not on cgroup v2, which is mounted on {points[0]}",
            f'set "cgroupRoot": "{points[0]}" in the configuration',
        )
    else:
        yield failure("cgroup-root", f"cgroupRoot {root} is not on cgroup v2", MOUNT_IT)


def _whole(root: Path, *, explicit: bool) -> Finding:
    if root.stat().st_ino == REAL_ROOT:
        return ok("cgroup-root", f"{root} is the root of the hierarchy")
    if not explicit:
        return failure(
            "cgroup-root",
            f"{root} is not the root of cgroup v2 but a part of it (is this a container?)",
            "run the agent on the machine itself, or set cgroupRoot to the part that is meant",
        )
    return warning(
        "cgroup-root",
        f"cgroupRoot {root} is a part of the machine: what runs outside it is not intercepted",
        "set cgroupRoot to the mount point of cgroup v2 on the machine itself, unless this is"
        " meant",
    )


def _of_v2(mounts: list[Mount]) -> list[Mount]:
    return [m for m in mounts if m.kind == "cgroup2"]


def is_v2(machine: Machine, folder: Path) -> bool:
    """Is the folder there, and on cgroup v2."""
    holding = machine.mount_of(folder)
    return holding is not None and holding.kind == "cgroup2" and folder.is_dir()


def above(machine: Machine, folder: Path) -> list[Path]:
    """The cgroups above one, the nearest first, as far as they can be seen from here."""
    holding = machine.mount_of(folder)
    if holding is None:
        return []
    return [parent for parent in folder.parents if parent.is_relative_to(holding.point)]

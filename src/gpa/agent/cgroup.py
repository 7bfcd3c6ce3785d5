"""The agent's own cgroup: what counts for the private socket options is where a socket is created.

The leaf `gpa.agent` lies below the cgroup in which the agent was started, so that a service
manager still finds it, else directly below `cgroupRoot`.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gpa.errors import InterceptionError

LEAF_NAME: Final = "gpa.agent"


@dataclass(frozen=True)
class Leaf:
    """The leaf, and where the process was before."""

    path: Path
    start: Path

    def enter(self) -> None:
        """Move this process with all its threads into the leaf; before its first socket.

        Raises:
            InterceptionError: the leaf cannot be made or entered.
        """
        try:
            self.path.mkdir(exist_ok=True, mode=0o755)
            _move_to(self.path)
        except OSError as error:
            with contextlib.suppress(OSError):
                self.path.rmdir()
            raise InterceptionError(
                f"cannot move into {self.path}: {error.strerror}: cgroupRoot must be writable and"
                " on cgroup v2"
            ) from error

    def go_back(self) -> None:
        """Leave the leaf, so that it can be removed; best effort, at the end."""
        for folder in (self.start, self.start.parent):
            try:
                _move_to(folder)
            except OSError:
                continue
            return

    def remove(self) -> None:
        """Remove the empty leaf; a process that just left may still be on its way out."""
        for _ in range(20):
            try:
                self.path.rmdir()
            except FileNotFoundError:
                return
            except OSError:
                time.sleep(0.01)
            else:
                return


def check_default_root(cgroup_root: Path) -> None:
    """Refuse a default that is not the real root: most of the machine would go around it.

    An explicit `cgroupRoot` is meant, and is not checked. The root of the hierarchy has inode 1,
    the root of a container's view has not.

    Raises:
        InterceptionError: it is the root of a container's view only.
    """
    if cgroup_root.stat().st_ino != 1:
        raise InterceptionError(
            f"{cgroup_root} is not the root of cgroup v2 (is this a container?): name the folder"
            " that is meant as cgroupRoot"
        )


def find_leaf(cgroup_root: Path, mount: Path | None = None, own: Path | None = None) -> Leaf:
    """Where this process's leaf is to be, from /proc/self/cgroup.

    Args:
        cgroup_root: below which the programs are attached.
        mount: where cgroup v2 is mounted, found when None.
        own: the cgroup of this process, found when None.

    Raises:
        InterceptionError: cgroup v2 is not mounted, or `cgroup_root` is not on it.
    """
    if mount is None:
        mount = _mount_of(cgroup_root)
    if own is None:
        own = mount / _own_cgroup().lstrip("/")
    if not own.is_relative_to(cgroup_root):
        return Leaf(path=cgroup_root / LEAF_NAME, start=own)
    if own.name == LEAF_NAME:  # started by somebody inside the leaf
        return Leaf(path=own, start=own.parent)
    return Leaf(path=own / LEAF_NAME, start=own)


def _own_cgroup() -> str:
    try:
        text = Path("/proc/self/cgroup").read_text()
    except OSError as error:
        raise InterceptionError(f"cannot read /proc/self/cgroup: {error.strerror}") from error
    for line in text.splitlines():
        if line.startswith("0::"):
            return line.removeprefix("0::")
    raise InterceptionError(
        "this kernel has no cgroup v2: boot with systemd.unified_cgroup_hierarchy=1"
    )


def _mount_of(cgroup_root: Path) -> Path:
    """The mount point of cgroup v2 that `cgroup_root` lies on."""
    if not cgroup_root.is_dir():
        raise InterceptionError(f"cgroupRoot {cgroup_root} is not there: mount cgroup v2 first")
    try:
        lines = Path("/proc/self/mounts").read_text().splitlines()
    except OSError as error:
        raise InterceptionError(f"cannot read /proc/self/mounts: {error.strerror}") from error
    mounts = [Path(fields[1]) for line in lines if (fields := line.split())[2] == "cgroup2"]
    holding = [mount for mount in mounts if cgroup_root.is_relative_to(mount)]
    if not holding:
        raise InterceptionError(
            f"cgroupRoot {cgroup_root} is not on cgroup v2: name a folder below its mount"
            f" ({', '.join(map(str, mounts)) or 'not mounted'})"
        )
    return max(holding, key=lambda mount: len(mount.parts))


def _move_to(folder: Path) -> None:
    # One write moves the whole process; text mode would buffer the error until close().
    fd = os.open(folder / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, b"0")
    finally:
        os.close(fd)

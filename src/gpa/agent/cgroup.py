"""The agent's own cgroup: what counts for the private socket options is where a socket is created.

The leaf `gpa.agent` lies below the cgroup in which the agent was started, so that a service
manager still finds it, else directly below `cgroupRoot`.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gpa import _native
from gpa.agent.mounts import Mount, mounts
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


REAL_ROOT: Final = 1
"""Inode number of the root of cgroup v2; that of a cgroup which a namespace shows as its root is
another (Linux 5.5)."""


def find_default_root(usual: Path, found: list[Mount] | None = None) -> Path:
    """The root of cgroup v2, wherever it is mounted; `usual` where that is it.

    On a hybrid machine v1 has /sys/fs/cgroup, and v2 stands beside it. Only the real root is a
    default: most of the machine would go around anything else. An explicit `cgroupRoot` is meant,
    and is not looked for here.

    Args:
        usual: where it is on most machines.
        found: the mounts of cgroup v2, looked for when None.

    Raises:
        InterceptionError: cgroup v2 is not mounted, or only a part of it can be seen.
    """
    if found is None:
        found = _cgroup_mounts()
    roots = [mount.point for mount in found if _shows_real_root(mount)]
    if usual in roots:
        return usual
    if roots:
        return roots[0]
    if not found:
        raise InterceptionError(
            "cgroup v2 is not mounted: boot with systemd.unified_cgroup_hierarchy=1, or"
            " mount -t cgroup2 none /sys/fs/cgroup/unified"
        )
    raise InterceptionError(
        f"{found[0].point} is not the root of cgroup v2 but a part of it (is this a container or a"
        " cgroup namespace?): who is outside would not be intercepted; run the agent where the root"
        " is mounted, or name the folder that is meant as cgroupRoot"
    )


def find_leaf(cgroup_root: Path) -> Leaf:
    """Where this process's leaf is to be, from /proc/self/cgroup.

    Raises:
        InterceptionError: cgroup v2 is not mounted, or `cgroup_root` is not on it.
    """
    return place_leaf(cgroup_root, folder_in(_mount_of(cgroup_root), _own_cgroup()))


def place_leaf(cgroup_root: Path, own: Path | None) -> Leaf:
    """The leaf of a process in the cgroup `own`, None for one that is not seen from here."""
    if own is None:
        return Leaf(path=cgroup_root / LEAF_NAME, start=cgroup_root)
    if not own.is_relative_to(cgroup_root):
        return Leaf(path=cgroup_root / LEAF_NAME, start=own)
    if own.name == LEAF_NAME:  # started by somebody inside the leaf
        return Leaf(path=own, start=own.parent)
    return Leaf(path=own / LEAF_NAME, start=own)


def folder_in(mount: Mount, cgroup: str) -> Path | None:
    """Where a cgroup of /proc/PID/cgroup stands in a mount; None when it is not seen there.

    In a cgroup namespace a mount of the whole hierarchy starts above what the namespace has names
    for.
    """
    if ".." in (*Path(mount.root).parts, *Path(cgroup).parts):
        return None
    if not Path(cgroup).is_relative_to(mount.root):
        return None
    return mount.point / Path(cgroup).relative_to(mount.root)


def path_of(mount: Mount, folder: Path) -> str:
    """The other way round: the cgroup of a folder in a mount."""
    return str(Path(mount.root) / folder.relative_to(mount.point))


def path_in_hierarchy(cgroup_root: Path) -> str:
    """As /proc/PID/cgroup writes it, "/" for the whole hierarchy.

    Raises:
        InterceptionError: it is not on cgroup v2.
    """
    return path_of(_mount_of(cgroup_root), cgroup_root)


class Paths:
    """From a cgroup's id, which is what the kernel half tells, to its path."""

    def __init__(self) -> None:
        self._mount: Mount | None = None
        self._fd = -1

    def path(self, cgroup_id: int) -> str:
        """As in /proc/PID/cgroup, of the whole machine; empty when it is gone or not to be seen."""
        found = self._folder(cgroup_id)
        return "" if found is None else path_of(*found)

    def place(self, cgroup_id: int) -> str:
        """The part of the path whose names only root could have given; empty where none is.

        Who may write a folder names what is in it, and who may write its `cgroup.procs` moves
        processes about below it. So each folder from the mount on down has to be root's alone,
        for the name that follows to say anything.
        """
        found = self._folder(cgroup_id)
        if found is None:
            return ""
        mount, folder = found
        try:
            if folder.stat().st_ino != cgroup_id:  # gone, and made again by that name
                return ""
            for above in reversed([folder, *folder.parents]):
                if above.is_relative_to(mount.point) and not _is_roots(above):
                    return path_of(mount, above)
        except OSError:
            return ""
        return path_of(mount, folder)

    def _folder(self, cgroup_id: int) -> tuple[Mount, Path] | None:
        """Where it stands in the mount."""
        try:
            if self._mount is None:
                mount = _cgroup_mounts()[0]
                self._fd = os.open(mount.point, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                self._mount = mount
            found = _native.cgroup_by_id(self._fd, cgroup_id)
        except (OSError, LookupError, InterceptionError):
            return None
        try:
            path = Path(f"/proc/self/fd/{found}").readlink()
        finally:
            os.close(found)
        return (self._mount, path) if path.is_relative_to(self._mount.point) else None


def _is_roots(folder: Path) -> bool:
    """Root's, and nobody else may make folders in it or move processes below it."""
    return all(
        info.st_uid == 0 and not info.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        for info in (folder.stat(), (folder / "cgroup.procs").stat())
    )


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


def _mount_of(cgroup_root: Path) -> Mount:
    """The mount of cgroup v2 that `cgroup_root` lies on."""
    if not cgroup_root.is_dir():
        raise InterceptionError(f"cgroupRoot {cgroup_root} is not there: mount cgroup v2 first")
    found = _cgroup_mounts()
    holding = [mount for mount in found if cgroup_root.is_relative_to(mount.point)]
    if not holding:
        points = ", ".join(str(mount.point) for mount in found)
        raise InterceptionError(
            f"cgroupRoot {cgroup_root} is not on cgroup v2: name a folder below its mount"
            f" ({points or 'not mounted'})"
        )
    # The innermost, and of several on one point the one that hides the others.
    return max(reversed(holding), key=lambda mount: len(mount.point.parts))


def _cgroup_mounts() -> list[Mount]:
    try:
        return [mount for mount in mounts() if mount.kind == "cgroup2"]
    except OSError as error:
        raise InterceptionError(f"cannot read /proc/self/mountinfo: {error.strerror}") from error


def _shows_real_root(mount: Mount) -> bool:
    try:
        there = mount.point.stat()
    except OSError:
        return False
    # Another filesystem may be mounted over it.
    return there.st_dev == mount.device and there.st_ino == REAL_ROOT


def _move_to(folder: Path) -> None:
    # One write moves the whole process; text mode would buffer the error until close().
    fd = os.open(folder / "cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, b"0")
    finally:
        os.close(fd)

"""Where pins live: a folder on a BPF filesystem, mounted there when none is."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from gpa.agent.mounts import mounts
from gpa.errors import InterceptionError

if TYPE_CHECKING:
    from pathlib import Path


def mount_of(path: Path) -> tuple[str, str]:
    """Mount point and filesystem type of an existing path."""
    best = ("", "")
    target = path.resolve()
    for mount in mounts():
        point = str(mount.point)
        # A later one hides an earlier one on the same point.
        if target.is_relative_to(mount.point) and len(point) >= len(best[0]):
            best = (point, mount.kind)
    return best


def prepare(folder: Path) -> bool:
    """Make `folder` exist on a BPF filesystem; True when one had to be mounted on it.

    Raises:
        InterceptionError: the kernel has no BPF filesystem, or it may not be mounted here.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as e:
        raise InterceptionError(
            f"cannot make pinFolder {folder}: {os.strerror(e.errno or 0)}"
        ) from e
    if mount_of(folder)[1] == "bpf":
        return False
    done = subprocess.run(
        ["mount", "-t", "bpf", "-o", "mode=0700", "bpf", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise InterceptionError(
            f"pinFolder {folder} is not on a BPF filesystem and none can be mounted there: "
            + (done.stderr.strip().splitlines() or ["mount failed"])[-1]
        )
    return True


def unmount(folder: Path) -> None:
    """Undo `prepare` when it had mounted; harmless when nothing is mounted there."""
    if mount_of(folder) == (str(folder.resolve()), "bpf"):
        subprocess.run(["umount", str(folder)], capture_output=True, check=False)

"""Where pins live: a folder on a BPF filesystem, mounted there when none is."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from gpa.errors import InterceptionError

_OCTAL = re.compile(r"\\([0-7]{3})")


def mount_of(path: Path) -> tuple[str, str]:
    """Mount point and filesystem type of an existing path, from /proc/self/mountinfo (proc(5))."""
    best = ("", "")
    target = str(path.resolve())
    for line in _mountinfo():
        left, _, right = line.partition(" - ")
        point = _OCTAL.sub(lambda m: chr(int(m[1], 8)), left.split()[4])
        inside = target == point or target.startswith(point.rstrip("/") + "/")
        # A later line hides an earlier one on the same point.
        if inside and len(point) >= len(best[0]):
            best = (point, right.split()[0])
    return best


def _mountinfo() -> list[str]:
    return Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape").splitlines()


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

"""What is mounted where for this process, from /proc/self/mountinfo (proc(5))."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_OCTAL: Final = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class Mount:
    """One mount.

    Attributes:
        root: the folder of its filesystem that stands at `point`. Of a cgroup filesystem it is told
            as seen from this process's cgroup namespace, and leads upwards ("/..") out of it.
    """

    point: Path
    root: str
    kind: str
    device: int


def mounts() -> list[Mount]:
    """All mounts; of two on one point the later hides the earlier."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape").splitlines():
        left, _, right = line.partition(" - ")
        fields = left.split()
        major, _, minor = fields[2].partition(":")
        found.append(
            Mount(
                point=Path(_plain(fields[4])),
                root=_plain(fields[3]),
                kind=right.split()[0],
                device=os.makedev(int(major), int(minor)),
            )
        )
    return found


def _plain(text: str) -> str:
    return _OCTAL.sub(lambda m: chr(int(m[1], 8)), text)

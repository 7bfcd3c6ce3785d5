"""A machine in a folder: what the checks read is written there first."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import pytest

from gpa.doctor.machine import Machine

if TYPE_CHECKING:
    from pathlib import Path


class Fake:
    """Folders in the place of /proc, /sys and /run, and tools that say what they are told to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("proc/self/ns", "proc/1/ns", "sys/kernel/btf", "run", "bin"):
            (folder / name).mkdir(parents=True)
        self.machine = Machine(
            proc=folder / "proc",
            sys=folder / "sys",
            run=folder / "run",
            path=str(folder / "bin"),
            root=True,
        )
        self.mount("/", "ext4")

    def write(self, name: str, data: str | bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())

    def mount(self, point: str | Path, kind: str, options: str = "rw") -> None:
        """As another line of mountinfo."""
        with (self.folder / "proc/self/mountinfo").open("a") as lines:
            lines.write(f"36 35 98:0 / {point} rw,noatime shared:1 - {kind} none {options}\n")

    def namespace(self, process: str, kind: str, number: int) -> None:
        (self.folder / "proc" / process / "ns" / kind).symlink_to(f"{kind}:[{number}]")

    def tool(self, name: str, says: str, code: int = 0) -> None:
        path = self.folder / "bin" / name
        path.write_text(f"#!/bin/sh\nprintf '%s\\n' {shlex.quote(says)}\nexit {code}\n")
        path.chmod(0o755)


@pytest.fixture
def fake(tmp_path: Path) -> Fake:
    return Fake(tmp_path / "machine")

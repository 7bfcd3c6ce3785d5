"""The machine as the checks see it: folders to read in, tools to ask. Tests bring others."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TOOL_SECONDS: Final = 3.0
"""iptables-save(8), nft(8) and systemctl(1) answer in milliseconds, or something is stuck."""

TOOL_PATH: Final = "/usr/sbin:/usr/bin:/sbin:/bin"
"""The PATH of an ordinary user has no sbin."""

_OCTAL: Final = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class Mount:
    """A line of /proc/self/mountinfo.

    Attributes:
        super_options: of the filesystem, after its source; of cgroup v1 the controllers.
    """

    point: Path
    kind: str
    super_options: str


@dataclass(frozen=True)
class Machine:
    """Where the checks look.

    Attributes:
        proc, sys, run: the folders of these names.
        path: where tools are looked for.
        root: the effective user is root.
    """

    proc: Path = Path("/proc")
    sys: Path = Path("/sys")
    run: Path = Path("/run")
    path: str = TOOL_PATH
    root: bool = True

    def read(self, path: Path) -> str | None:
        """A small file of the kernel's, stripped; None where it is missing or not for us."""
        try:
            return path.read_text("utf-8", "replace").strip()
        except OSError:
            return None

    def sysctl(self, name: str) -> str | None:
        """A value below /proc/sys, by its dotted name."""
        return self.read(self.proc / "sys" / name.replace(".", "/"))

    def mounts(self) -> list[Mount]:
        """What is mounted for this process, in the order of mounting."""
        text = (self.proc / "self/mountinfo").read_text("utf-8", "surrogateescape")
        return [_parse(line) for line in text.splitlines()]

    def mount_of(self, path: Path) -> Mount | None:
        """The mount that an existing path lies on; of two on one point the later hides the
        earlier."""
        best = None
        target = path.resolve()
        for mount in self.mounts():
            if target.is_relative_to(mount.point) and (
                best is None or len(mount.point.parts) >= len(best.point.parts)
            ):
                best = mount
        return best

    def find_tool(self, name: str) -> str | None:
        """Where a program is installed, None when it is not."""
        return shutil.which(name, path=self.path)

    def ask_tool(self, name: str, *words: str) -> str | None:
        """What a program that only reads says; None when it is missing, fails or is stuck."""
        found = self.find_tool(name)
        if found is None:
            return None
        try:
            done = subprocess.run(
                [found, *words],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=TOOL_SECONDS,
                env={"PATH": self.path, "LC_ALL": "C"},
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None


def this_machine() -> Machine:
    """The one that we run on."""
    return Machine(root=os.geteuid() == 0)


def _parse(line: str) -> Mount:
    left, _, right = line.partition(" - ")
    fields = left.split()
    point = _OCTAL.sub(lambda found: chr(int(found[1], 8)), fields[4])
    kind, *_, options = right.split()
    return Mount(Path(point), kind, options)

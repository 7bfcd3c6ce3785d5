"""What the laboratory asks of the machine: the tools it calls, and what is mounted where."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gpa.errors import CannotCreateError, NotRootError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence

PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where tools are looked for: sudo and cron give less."""

TOOLS: Final = {
    "ip": "iproute2",
    "mount": "mount (util-linux)",
    "nsenter": "util-linux",
    "tee": "coreutils",
    "umount": "mount (util-linux)",
    "unshare": "util-linux",
}
"""Tool to the package that has it."""

TOOL_SECONDS: Final = 20.0
"""A tool that takes longer hangs."""

_OCTAL: Final = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class Mount:
    """One line of /proc/self/mountinfo (proc(5)).

    Attributes:
        point: where it is seen.
        root: which folder of the filesystem is seen there.
        kind: type of the filesystem.
        writable: not mounted read-only here.
    """

    point: Path
    root: str
    kind: str
    writable: bool


INITIAL_PIDNS: Final = 0xEFFFFFFC
"""Inode number of the initial pid namespace (`PROC_PID_INIT_INO`, Linux 3.8)."""


def check_ready() -> None:
    """Refuse before anything is done.

    Raises:
        NotRootError: not root.
        UnavailableError: a tool is missing, or this is a container.
    """
    if os.geteuid() != 0:
        raise NotRootError(
            "this makes network namespaces and attaches eBPF, which needs root: try it with sudo"
        )
    if Path("/proc/self/ns/pid").stat().st_ino != INITIAL_PIDNS:
        raise UnavailableError(
            "in a container the kernel's process ids are not those seen here, and records could"
            " not be told apart: run this on the machine itself, or in its pid namespace"
            " (docker run --pid=host)"
        )
    missing = [name for name in TOOLS if shutil.which(name, path=PATH) is None]
    if missing:
        packages = ", ".join(sorted({TOOLS[name] for name in missing}))
        raise UnavailableError(f"{', '.join(missing)} not found: install {packages}")


def tool(words: Sequence[str | os.PathLike[str]], text: str = "") -> str:
    """Run a tool of the system and return what it says.

    Raises:
        CannotCreateError: it failed or hung; its last line tells why.
    """
    env = {"PATH": PATH, "LC_ALL": "C"}
    name = " ".join(os.fspath(word) for word in words)
    try:
        done = subprocess.run(
            words,
            input=text,
            env=env,
            capture_output=True,
            text=True,
            check=False,
            timeout=TOOL_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotCreateError(f"cannot run {name}: {error}") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        if "not permitted" in last:
            last += (
                " (this root lacks capabilities, as in a container: run it on the machine itself,"
                " or in a privileged container)"
            )
        raise CannotCreateError(f"{name}: {last}")
    return done.stdout


def mounts() -> list[Mount]:
    """What is mounted, in the order of mounting."""
    text = Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape")
    return [_parse(line) for line in text.splitlines()]


def _parse(line: str) -> Mount:
    left, _, right = line.partition(" - ")
    fields = left.split()
    point = _OCTAL.sub(lambda found: chr(int(found[1], 8)), fields[4])
    return Mount(Path(point), fields[3], right.split()[0], "rw" in fields[5].split(","))


def unmount_below(folder: Path) -> None:
    """Take away every mount at or below `folder`, the newest first.

    Raises:
        CannotCreateError: one is still there.
    """
    for mount in reversed(mounts()):
        if mount.point.is_relative_to(folder):
            try:
                tool(["umount", mount.point])
            except CannotCreateError:
                # Still in use for a moment: out of sight now, gone with its last user.
                tool(["umount", "--lazy", mount.point])

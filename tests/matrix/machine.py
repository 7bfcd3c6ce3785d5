"""One boot of a kernel in QEMU: a file says what to run, a serial line what came of it.

The guest's clock counts its instructions, one a nanosecond, and does not wait while it is idle.
So its second is what it is on the machine itself, however slow the emulation and busy the machine:
time limits in tests hold, and nothing depends on who else runs.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tests.matrix.cpio import Archive

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from tests.matrix.kernels import Kernel

MEMORY: Final = "1536M"
"""The files of the guest take a third of it."""

LIMIT: Final = 1800.0
"""Seconds after which a guest hangs; a boot takes some minutes when nothing else runs."""

TIMED_OUT: Final = 124
"""What timeout(1) ends with then."""

CONSOLE_LINES: Final = 40
"""Of the console that are shown when a guest did not come to its end."""

# Not a smaller processor: Python wants random numbers before the kernel has any without RDRAND.
QEMU: Final = {
    "amd64": ("qemu-system-x86_64", "-M", "q35", "-cpu", "max,-erms,-fsrm"),
    "arm64": ("qemu-system-aarch64", "-M", "virt", "-cpu", "max,pauth-impdef=on"),
}
CONSOLE: Final = {"amd64": "ttyS0", "arm64": "ttyAMA0"}
ON_CONSOLE: Final = "gpa: "
"""Results stand behind this where there is one serial line for all."""


@dataclass(frozen=True)
class Told:
    """What a guest told.

    Attributes:
        lines: the results, as they came.
        seconds: from power on to power off.
        trouble: why there may be less than there should; empty when it came to its end.
        console: all of it.
    """

    lines: tuple[Mapping[str, Any], ...]
    seconds: float
    trouble: str
    console: str


def boot(
    kernel: Kernel,
    archives: Sequence[Path],
    folder: Path,
    *,
    task: Mapping[str, object] | None = None,
    words: str = "",
    architecture: str = "amd64",
    limit: float = LIMIT,
) -> Told:
    """Boot it and wait until it is off.

    Args:
        kernel: which.
        archives: what the initramfs consists of, beside the kernel's modules.
        folder: an empty one, for what is needed meanwhile.
        task: becomes /matrix.json.
        words: more for the kernel's command line.
        architecture: Debian's name of it.
        limit: seconds after which it is switched off.
    """
    initramfs, console, results = (folder / name for name in ("initramfs", "console", "results"))
    with initramfs.open("wb") as file:
        for part in (*archives, kernel.modules):
            with part.open("rb") as archive:
                shutil.copyfileobj(archive, file)
        with Archive(file) as archive_of_task:
            archive_of_task.text("/matrix.json", json.dumps(task))
    command = [
        *QEMU[architecture],
        *("-accel", "tcg", "-icount", "shift=0,sleep=off", "-smp", "1", "-m", MEMORY),
        *("-nodefaults", "-no-reboot", "-display", "none", "-kernel", str(kernel.image)),
        *("-initrd", str(initramfs), "-serial", f"file:{console}"),
        *(("-serial", f"file:{results}") if architecture == "amd64" else ()),
        *("-append", f"console={CONSOLE[architecture]} loglevel=4 panic=-1 gpa.matrix {words}"),
    ]
    # timeout(1) ends it also when nobody is left to wait for it.
    command[:0] = ["timeout", "--foreground", "--kill-after=5", str(limit)]
    started, trouble = time.monotonic(), ""
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode == TIMED_OUT:
        trouble = f"not at its end after {limit:g} s"
    elif done.returncode:
        trouble = f"QEMU: {done.stderr.strip() or done.returncode}"
    seconds = time.monotonic() - started
    initramfs.unlink()
    said = console.read_text("utf-8", "replace") if console.exists() else ""
    if results.exists():
        lines, ended = read_results(results.read_text("utf-8", "replace").splitlines())
    else:
        marked = (line.partition(ON_CONSOLE) for line in said.splitlines())
        lines, ended = read_results(text for _, found, text in marked if found)
    if not trouble and not ended:
        trouble = "it went off before its end"
    if trouble:
        trouble += "; the console's last lines:\n" + "\n".join(said.splitlines()[-CONSOLE_LINES:])
    return Told(tuple(lines), seconds, trouble, said)


def read_results(said: Iterable[str]) -> tuple[list[dict[str, Any]], bool]:
    """The lines but the last, and whether that says that everything was run.

    pytest's exit codes 0 and 1 say so; others mean that it was interrupted or found no test.
    """
    lines = []
    for line in said:
        try:
            lines.append(json.loads(line))
        except ValueError:  # cut off
            return lines, False
    ended = bool(lines) and lines[-1].get("ended") in (0, 1)
    return [line for line in lines if "ended" not in line], ended

"""PID 1 of the guest: sets up what an init would, runs the tests, switches the machine off.

Standard library only, run with `-ISu`. What to run stands in /matrix.json; results are written to
the second serial line, one JSON object a line: what `reporter.py` says of each test, and at the end
`{"ended": exit code of pytest}`. The first serial line is the console: what the kernel and pytest
say to people.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import subprocess
import traceback
import tty
from pathlib import Path
from typing import Any

RESULTS = "/dev/ttyS1"
LINUX_REBOOT_CMD_POWER_OFF = 0x4321FEDC

MOUNTS = (
    ("proc", "/proc", ""),
    ("sysfs", "/sys", ""),
    ("devtmpfs", "/dev", ""),
    ("tmpfs", "/tmp", "mode=1777"),
    ("tmpfs", "/run", "mode=0755"),
    ("cgroup2", "/sys/fs/cgroup", ""),
    ("securityfs", "/sys/kernel/security", ""),
    ("bpf", "/sys/fs/bpf", "mode=0700"),
)

libc = ctypes.CDLL(None, use_errno=True)


def mount(kind: str, point: str, options: str) -> None:
    if libc.mount(kind.encode(), point.encode(), kind.encode(), 0, options.encode()):
        code = ctypes.get_errno()
        raise OSError(code, f"cannot mount {kind} on {point}: {os.strerror(code)}")


def set_up() -> None:
    for kind, point, options in MOUNTS:
        # Some kernels have mounted /dev on their own.
        with contextlib.suppress(FileExistsError):
            Path(point).mkdir(parents=True)
        mount(kind, point, options)
    for name, target in (("fd", "fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        Path("/dev", name).symlink_to(f"/proc/self/{target}")
    subprocess.run(["/sbin/ip", "link", "set", "lo", "up"], check=True)


def run_tests(task: dict[str, Any]) -> int:
    """Run pytest to its end; reap, as PID 1 must, what others leave."""
    words = [task["python"], "-m", "pytest", "-p", "tests.matrix.reporter", *task["pytest"]]
    child = subprocess.Popen(words, cwd=task["root"], env=task["env"])
    while True:
        pid, status = os.wait()
        if pid == child.pid:
            return os.waitstatus_to_exitcode(status)


def main() -> None:
    code: object = None
    try:
        set_up()
        with open(RESULTS, "rb", buffering=0) as line:  # noqa: PTH123 - a device
            tty.setraw(line.fileno())
        code = run_tests(json.loads(Path("/matrix.json").read_text()))
    except BaseException:  # noqa: BLE001 - PID 1 tells it and goes on to switch off
        traceback.print_exc()
    try:
        Path(RESULTS).write_text(json.dumps({"ended": code}) + "\n")
    finally:
        # PID 1 must not return: the kernel would panic.
        os.sync()
        libc.reboot(LINUX_REBOOT_CMD_POWER_OFF)


if __name__ == "__main__":
    main()

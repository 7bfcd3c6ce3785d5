"""The clocks. The host's own date goes into signatures, so that a wrong clock here does not stop
the agent; logs and everything else on the machine suffer.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from gpa.agent.log import timestamp
from gpa.doctor.finding import Finding, failure, ok, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpa.config import Config
    from gpa.doctor.machine import Machine

EARLIEST: Final = 1_767_225_600
"""2026-01-01: no agent of this version ran before."""

LATEST: Final = 4_102_444_800
"""2100-01-01."""


def check_clock(machine: Machine, config: Config) -> Iterator[Finding]:
    """Both clocks that the agent reads."""
    del machine, config
    try:
        time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    except OSError as error:
        yield failure(
            "clock", f"CLOCK_BOOTTIME cannot be read: {error.strerror}", "boot Linux 5.10 or newer"
        )
        return
    yield judge_clock(time.time())


def judge_clock(unix_seconds: float) -> Finding:
    """Is it a time at which this program can run."""
    now = timestamp(int(unix_seconds) * 1_000_000_000)
    if EARLIEST <= unix_seconds < LATEST:
        return ok("clock", now)
    return warning(
        "clock",
        f"it is not {now}: logs and records will have this date until the clock is set",
        "set the clock (timedatectl set-ntp true)",
    )

"""The host's clock, kept against the monotonic one, and dates of HTTP. Pure but for reading clocks.

docs/protocol.md, "Forwarded request": the host refuses a date that is not its
own, and a guest's wall clock may be years off, or jump.
"""

from __future__ import annotations

import calendar
import re
import time
from typing import Final

DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS: Final = (
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
)  # fmt: skip
EARLIEST_YEAR: Final = 1970
_DATE: Final = re.compile(
    r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), (\d{2}) ("
    + "|".join(MONTHS)
    + r") (\d{4}) (\d{2}):(\d{2}):(\d{2}) GMT"
)


def parse_date(text: str) -> int | None:
    """Unix seconds of an RFC 1123 date, None when it is not one."""
    match = _DATE.fullmatch(text.strip())
    if match is None:
        return None
    day, month, year, hour, minute, second = match.groups()
    numbers = (int(year), MONTHS.index(month) + 1, int(day), int(hour), int(minute), int(second))
    if numbers[0] < EARLIEST_YEAR:
        return None
    seconds = calendar.timegm((*numbers, 0, 0, 0))
    # timegm() takes the 31st of February; the way back does not give it.
    if time.gmtime(seconds)[:6] != numbers:
        return None
    return seconds


def format_date(unix_seconds: float) -> str:
    """RFC 1123, GMT, whatever the locale."""
    t = time.gmtime(unix_seconds)
    return (
        f"{DAYS[t.tm_wday]}, {t.tm_mday:02d} {MONTHS[t.tm_mon - 1]} {t.tm_year:04d}"
        f" {t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d} GMT"
    )


class HostClock:
    """The host's wall clock as of its last answer, carried on by CLOCK_BOOTTIME."""

    def __init__(self) -> None:
        self._offset_ns: int | None = None

    @property
    def known(self) -> bool:
        """True once the host told its time."""
        return self._offset_ns is not None

    def set(self, host_unix_ns: int, boottime_ns: int) -> int:
        """Take the host's time at a moment; returns by how many ns the clock in use moved."""
        before = self.unix_ns(boottime_ns)
        self._offset_ns = host_unix_ns - boottime_ns
        return host_unix_ns - before

    def unix_ns(self, boottime_ns: int | None = None) -> int:
        """The host's time now, or at `boottime_ns`; the guest's own until the host told its."""
        now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        at = now if boottime_ns is None else boottime_ns
        if self._offset_ns is None:
            return time.time_ns() - now + at
        return at + self._offset_ns

    def date(self) -> str:
        """The host's time now as a field's value."""
        return format_date(self.unix_ns() // 1_000_000_000)

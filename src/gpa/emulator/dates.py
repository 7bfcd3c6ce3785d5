"""Dates as they stand in header fields and records; whole seconds are enough for both protocols."""

from __future__ import annotations

import calendar
import re
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Final

_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = {
    name: number
    for number, name in enumerate(
        ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), 1
    )
}
_FORM: Final = re.compile(
    r"([A-Z][a-z]{2}), ([0-9]{2}) ([A-Z][a-z]{2}) ([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) GMT"
)


def http_date(seconds: float) -> str:
    """RFC 1123 date in GMT of a unix time."""
    return formatdate(seconds, usegmt=True)


def parse_http_date(text: str) -> int:
    """Unix time of a date in exactly the form of RFC 1123, GMT.

    Raises:
        ValueError: another form, a day that does not exist, or the wrong name of the day.
    """
    found = _FORM.fullmatch(text)
    if found is None or found[3] not in _MONTHS:
        raise ValueError("not a date of RFC 1123 in GMT")
    moment = datetime(
        int(found[4]), _MONTHS[found[3]], int(found[2]), int(found[5]), int(found[6]),
        int(found[7]), tzinfo=UTC,
    )  # fmt: skip
    if _DAYS[moment.weekday()] != found[1]:
        raise ValueError("the name of the day does not fit the date")
    return calendar.timegm(moment.utctimetuple())


def iso_date(seconds: float) -> str:
    """ISO 8601 in UTC with microseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")[:26] + "Z"

"""What a local file may say beyond the host's language: how each value must be written.

docs/extensions.md has them for people. Every function here takes a value of the JSON and gives the
one that `model` keeps, or raises `ValueError` with words that follow the place.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Final

from gpa.rules.model import METHODS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_UID: Final = 0xFFFF_FFFE
"""The highest number of 32 bits is nobody's: it tells chown(2) to leave the owner alone."""

_MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|\+00:00)")
_DIGEST: Final = re.compile(r"[0-9A-Fa-f]{64}")
_UNIT: Final = re.compile(r"[A-Za-z0-9:_.\\@-]+\.(?:service|scope|socket|mount|swap)")
_SHORT_ID: Final = re.compile(r"[0-9a-fA-F]{12,63}")


def method_trouble(method: str) -> str:
    """What is wrong with a method; empty when it is one that the relay lets through."""
    if method in METHODS:
        return ""
    if method.upper() in METHODS:
        return f"must be written {method.upper()}: methods are compared with their case"
    return f"{method[:64]!a} never comes through: it is none of {', '.join(METHODS)}"


def uid(value: object) -> int:
    """A user id."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("must be a whole number, without quotes")  # noqa: TRY004 - as all others
    if not 0 <= value <= MAX_UID:
        raise ValueError(f"must be from 0 to {MAX_UID}")
    return value


def moment(text: str) -> datetime:
    """A time by RFC 3339, in UTC."""
    if not _MOMENT.fullmatch(text):
        raise ValueError("must be a time in UTC as 2026-01-31T08:00:00Z")
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"is no time: {error}") from None


def moment_words(when: datetime) -> str:
    """The same, as it is shown."""
    return when.isoformat().replace("+00:00", "Z")


def _digest(text: str) -> str:
    if not _DIGEST.fullmatch(text):
        raise ValueError("must be the 64 hexadecimal digits that sha256sum prints")
    return text.lower()


def _unit(text: str) -> str:
    if text.endswith(".slice"):
        raise ValueError("names a slice: give its path as cgroup")
    if not _UNIT.fullmatch(text):
        raise ValueError("must be a unit's full name, as backup.service")
    return text


def _cgroup(text: str) -> str:
    if text == "/":
        raise ValueError("must be below the root, in which everybody is")
    parts = text.split("/")
    if parts[0] or any(part in ("", ".", "..") for part in parts[1:]) or "\0" in text:
        raise ValueError(
            "must be a path below the root of cgroup v2, as /system.slice/backup.service, without"
            " a slash at its end"
        )
    return text


def _container(text: str) -> str:
    if _SHORT_ID.fullmatch(text):
        raise ValueError(f"must be the whole id: 64 digits, not {len(text)}")
    if "/" in text or "\0" in text:
        raise ValueError("must be the id or the name of a container")
    return text


TEXTS: Final[Mapping[str, Callable[[str], str]]] = {
    "exeSha256": _digest,
    "systemdUnit": _unit,
    "cgroup": _cgroup,
    "containerId": _container,
}
"""Selectors whose text must have a form."""

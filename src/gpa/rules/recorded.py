"""A request that was decided, found in the audit log by its id, and what its record tells.

docs/audit.md describes the records. Ids count from the start of a run of the agent, so that several
runs may have the same; the newest is what somebody means who has just been refused.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gpa.errors import ConfigError, NotRootError, UsageError
from gpa.rules.facts import CUT_OFF, DELETED, GROUPS_KEPT, NONE, UNKNOWN, Caller, Fact, known
from gpa.rules.placed import placed
from gpa.rules.replay import PathsNamed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

OLDER_FILES: Final = 99
"""How far `audit.jsonl.1`, `.2` … are looked for; the agent keeps four."""

LONGEST_LINE: Final = 1 << 20
"""A record has at most some 12 KiB."""

_ID: Final = re.compile(r"(?:d-)?([0-9]{1,20})")


@dataclass(frozen=True, slots=True)
class Recorded:
    """A record: its members as docs/audit.md has them, and the file in which it stands."""

    document: Mapping[str, Any]
    path: Path

    def text(self, key: str) -> str | None:
        """A member that is a string; None where it is not there."""
        value = self.document.get(key)
        return value if isinstance(value, str) else None

    def number(self, key: str) -> int | None:
        """A member that is a number; None where it is not there."""
        value = self.document.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) else None


def decision_id(text: str) -> str:
    """The id as records have it: `d-42` for `d-42` and for `42`.

    Raises:
        UsageError: it is none.
    """
    found = _ID.fullmatch(text)
    if found is None:
        raise UsageError(f"{text!a} is no decision id: it looks like d-42")
    return f"d-{int(found[1])}"


def find(log: Path, wanted: str) -> list[Recorded]:
    """Every record with this id in a log and its older parts, newest first.

    Raises:
        ConfigError: there is no log, or it cannot be read; `NotRootError` where we may not.
    """
    found: list[Recorded] = []
    with contextlib.ExitStack() as stack:
        # All are opened before one is read: a rotation meanwhile moves no record away.
        files = {}
        for path in (log, *(log.with_name(f"{log.name}.{n}") for n in range(1, OLDER_FILES + 1))):
            fd = _open(path, must_exist=path == log)
            if fd < 0:
                break
            stack.callback(os.close, fd)
            info = os.fstat(fd)
            files[info.st_dev, info.st_ino] = (path, fd, info.st_size)
        for path, fd, size in files.values():
            if size:
                with mmap.mmap(fd, 0, access=mmap.ACCESS_READ) as data:
                    found += reversed(list(_in_file(path, data, wanted)))
    return found


def _open(path: Path, *, must_exist: bool) -> int:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except FileNotFoundError:
        if must_exist:
            raise ConfigError(f"there is no {path}: has the agent run here?") from None
        return -1
    except PermissionError:
        raise NotRootError(f"{path} cannot be read: only root may (sudo)") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    if not path.is_file():
        os.close(fd)
        raise ConfigError(f"{path} is not a plain file")
    return fd


def _in_file(path: Path, data: mmap.mmap, wanted: str) -> list[Recorded]:
    found = []
    # In quotes, which a client's text cannot have without a backslash before them.
    needle, at = f'"{wanted}"'.encode(), 0
    while (at := data.find(needle, at)) >= 0:
        start = data.rfind(b"\n", max(0, at - LONGEST_LINE), at) + 1
        end = data.find(b"\n", at, at + LONGEST_LINE)
        at = end if end >= 0 else len(data)
        try:
            document = json.loads(data[start:at])
        except ValueError:
            continue  # not a record, or one that was being written
        if isinstance(document, dict) and document.get("id") == wanted:
            found.append(Recorded(document, path))
    return found


def caller_of(record: Recorded) -> Caller:
    """Who asked, as far as the record tells."""
    uid, euid = record.number("uid"), record.number("euid")
    if uid is None:
        return Caller()
    in_full = record.number("gid") is not None
    user, groups = record.text("user"), record.document.get("groups")
    users, in_groups = UNKNOWN, UNKNOWN
    if user is not None:
        users = known(user)
    elif in_full:
        users = NONE  # the user database did not know the id, and a rule's name leads to it no more
    if isinstance(groups, list):
        names = frozenset(str(name) for name in groups)
        in_groups = Fact(names, complete=len(groups) < GROUPS_KEPT)
    elif in_full and user is None:
        in_groups = NONE
    paths, program = _program(record)
    units, containers = placed(record.text("unit"), record.text("slice"), record.text("container"))
    return Caller(
        uid,
        uid if euid is None else euid,
        users,
        in_groups,
        paths,
        program,
        units=units,
        containers=containers,
    )


def _program(record: Recorded) -> tuple[Fact, Fact]:
    """Paths and name of the program."""
    name, path = record.text("exe"), record.text("path")
    if name is None and "exe" in record.document:
        return NONE, NONE  # the kernel could not tell, so nothing on programs holds
    if name is None or name.endswith(CUT_OFF):
        return UNKNOWN, UNKNOWN
    path = None if path is None else path.removesuffix(DELETED)
    # A mount of the caller's own can lead any path to his program; the name is the kernel's.
    if path is None or path.rpartition("/")[2] != name:
        return PathsNamed(frozenset((name,))), known(name)
    return known(path), known(name)

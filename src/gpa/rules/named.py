"""Names on this machine: what its user database and its files add to what is known of a caller.

For tools that explain; the engine's own look-ups stand in `resolve` and `executables`. Asks NSS and
may block.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from gpa.errors import UsageError
from gpa.rules.facts import NONE, Caller, Fact, known

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gpa.rules.model import EffectiveRules


def user(name: str | None, uid: int | None) -> tuple[int, str | None, int | None]:
    """Uid, name and primary gid of a user who is named by either or both.

    Raises:
        UsageError: no such user, or the two are not one.
    """
    if name is None:
        assert uid is not None  # noqa: S101 - one of the two is given
        with contextlib.suppress(KeyError, OverflowError):
            entry = pwd.getpwuid(uid)
            return uid, entry.pw_name, entry.pw_gid
        return uid, None, None
    try:
        entry = pwd.getpwnam(name)
    except (KeyError, ValueError):
        raise UsageError(
            f"this machine has no user {name!a}: with --no-machine names are only compared"
        ) from None
    if uid is not None and entry.pw_uid != uid:
        raise UsageError(f"the user {name!a} has uid {entry.pw_uid} on this machine, not {uid}")
    return entry.pw_uid, entry.pw_name, entry.pw_gid


def groups_of(name: str, gid: int) -> frozenset[str]:
    """Names of the groups that the user database gives a user."""
    found = set()
    for number in os.getgrouplist(name, gid):
        with contextlib.suppress(KeyError):
            found.add(grp.getgrgid(number).gr_name)
    return frozenset(found)


def completed(caller: Caller, effective: EffectiveRules | None, gid: int | None = None) -> Caller:
    """The caller with those names in the rules that are other names of the same, on this machine.

    Args:
        caller: whose names are known.
        effective: rules whose names are looked up.
        gid: with which the caller connected.
    """
    if effective is None:
        return caller
    identities = effective.rules.identities
    users = {i.user_name for i in identities if i.user_name is not None}
    groups = {i.group_name for i in identities if i.group_name is not None}
    paths = {i.exe_path for i in identities if i.exe_path is not None}
    return replace(
        caller,
        users=_more(caller.users, (n for n in users if _uid_of(n) == caller.uid is not None)),
        groups=_more(caller.groups, (n for n in groups if gid is not None and _gid_of(n) == gid)),
        exe_paths=_more(caller.exe_paths, _same_files(caller.exe_paths, paths)),
    )


def files_of(path: str) -> tuple[Fact, str]:
    """What a rule may call the program that is started as `path`, and a remark on it.

    A rule names the file itself: a link matches nobody.
    """
    try:
        real = Path(path).resolve(strict=True)
    except (OSError, RuntimeError):
        return known(path), f"there is no {path!a} on this machine"
    if not real.is_file():
        return NONE, f"{path!a} is not a file"
    if str(real) == path:
        return known(path), ""
    return known(str(real)), f"{path!a} is a link: the program is {str(real)!a}"


def _more(fact: Fact, names: Iterable[str]) -> Fact:
    return fact._replace(values=fact.values | frozenset(names))


def _uid_of(name: str) -> int | None:
    try:
        entry = pwd.getpwnam(name)
    except (KeyError, ValueError):
        return None
    return entry.pw_uid if entry.pw_name == name else None


def _gid_of(name: str) -> int | None:
    try:
        entry = grp.getgrnam(name)
    except (KeyError, ValueError):
        return None
    return entry.gr_gid if entry.gr_name == name else None


def _same_files(fact: Fact, paths: Iterable[str]) -> list[str]:
    """Those that are other names of a file which the caller executes; no links among them."""
    found = []
    whole = [path for path in fact.values if path.startswith("/")]
    for path in paths:
        with contextlib.suppress(OSError, ValueError, RuntimeError):
            if str(Path(path).resolve(strict=True)) == path and any(
                Path(path).samefile(mine) for mine in whole
            ):
                found.append(path)
    return found

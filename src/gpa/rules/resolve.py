"""Names in rules to what the kernel says: users, groups, executables.

Every look-up here may block (a directory server, a network file system), so it runs in a thread of
the caller's and never on the way of a request: `Lookup.run` there, `Lookup.result` at the deadline,
with what is known by then. A name that was not answered keeps its answer of the time before; one
that never had an answer matches nobody, and `Resolution.unmatched` says so.
"""

from __future__ import annotations

import grp
import os
import pwd
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from gpa.rules.compile import ExeId, GroupIds, Known
from gpa.rules.model import CGROUP_SELECTORS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from gpa.rules.model import EffectiveRules

T = TypeVar("T")

PENDING: Final = "not answered yet"


@dataclass(frozen=True, slots=True)
class WantedNames:
    """Every name that some rule uses."""

    users: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    executables: frozenset[str] = frozenset()
    contents: frozenset[str] = frozenset()
    places: frozenset[tuple[str, str]] = frozenset()
    read: frozenset[str] = frozenset()
    """Executables whose content is asked for beside their path."""

    @property
    def callers(self) -> bool:
        """Whether some rule asks for a look at callers."""
        return bool(self.contents or self.places)

    @staticmethod
    def of(endpoints: Iterable[EffectiveRules | None]) -> WantedNames:
        """Collect them from all endpoints."""
        identities = [i for e in endpoints if e is not None for i in e.rules.identities]
        return WantedNames(
            frozenset(i.user_name for i in identities if i.user_name is not None),
            frozenset(i.group_name for i in identities if i.group_name is not None),
            frozenset(i.exe_path for i in identities if i.exe_path is not None),
            frozenset(i.exe_sha256 for i in identities if i.exe_sha256 is not None),
            frozenset(
                (selector, value)
                for i in identities
                for selector, value in i.selectors()
                if selector in CGROUP_SELECTORS and isinstance(value, str)
            ),
            frozenset(i.exe_path for i in identities if i.exe_path and i.exe_sha256),
        )


@dataclass(frozen=True, slots=True)
class Resolution:
    """Answers; a `compile.Resolver`. Equal resolutions compile to equal tables.

    Attributes:
        users: uids by name.
        groups: ids and members by name.
        executables: files by path.
        unmatched: by selector (`userName bob`) why it matches nobody, or not yet.
        contents: files by the SHA-256 of what is in them.
        places: ids of cgroups by selector and value.
        known: callers' files and cgroups that have been looked at.
    """

    users: Mapping[str, frozenset[int]] = field(default_factory=dict)
    groups: Mapping[str, GroupIds] = field(default_factory=dict)
    executables: Mapping[str, frozenset[ExeId]] = field(default_factory=dict)
    unmatched: Mapping[str, str] = field(default_factory=dict)
    contents: Mapping[str, frozenset[ExeId]] = field(default_factory=dict)
    places: Mapping[tuple[str, str], frozenset[int]] = field(default_factory=dict)
    known: Known = field(default_factory=Known)

    def user(self, name: str) -> Collection[int]:
        """Uids of a user's name."""
        return self.users.get(name, ())

    def group(self, name: str) -> GroupIds:
        """Ids and members of a group's name."""
        return self.groups.get(name, GroupIds())

    def executable(self, path: str) -> Collection[ExeId]:
        """Files behind a path."""
        return self.executables.get(path, ())

    def content(self, digest: str) -> Collection[ExeId]:
        """Files with this content."""
        return self.contents.get(digest, ())

    def cgroups(self, selector: str, value: str) -> Collection[int]:
        """Cgroups that a selector means."""
        return self.places.get((selector, value), ())


class NoMatchError(Exception):
    """A name stands for nothing here; the message says why. Not a trouble of the agent's."""


class UserDatabase(Protocol):
    """The machine's users and groups. Methods raise `NoMatchError` and may block."""

    def user(self, name: str) -> frozenset[int]:
        """Uids of exactly this name."""
        ...

    def group(self, name: str, seen: Collection[int]) -> GroupIds:
        """Ids and members of exactly this group, `seen` uids among them where they belong."""
        ...


class ExecutableFiles(Protocol):
    """The machine's executables. Raises `NoMatchError` and may block."""

    def find(self, path: str) -> frozenset[ExeId]:
        """Files that processes started under this path run."""
        ...


class SystemUsers:
    """The user database of this machine, by NSS."""

    def user(self, name: str) -> frozenset[int]:
        """See `UserDatabase`."""
        return frozenset({_passwd(name).pw_uid})

    def group(self, name: str, seen: Collection[int]) -> GroupIds:
        """See `UserDatabase`.

        Members are those of the group's own list, those whose primary group it is, and of the
        `seen` uids those that the database puts into it: not every database lists all its users.
        """
        try:
            entry = grp.getgrnam(name)
        except (KeyError, ValueError):  # ValueError: NUL or a surrogate, which no name has
            raise NoMatchError("no such group") from None
        if entry.gr_name != name:
            raise NoMatchError(f"the group's name is {entry.gr_name!a}")
        gid = entry.gr_gid
        uids = {user.pw_uid for user in pwd.getpwall() if user.pw_gid == gid}
        for member in entry.gr_mem:
            try:
                uids.add(pwd.getpwnam(member).pw_uid)
            except (KeyError, ValueError):
                continue  # a member that is no user any more
        uids |= {uid for uid in seen if gid in _groups_of(uid)}
        return GroupIds(frozenset({gid}), frozenset(uids))


def _passwd(name: str) -> pwd.struct_passwd:
    try:
        entry = pwd.getpwnam(name)
    except (KeyError, ValueError):
        raise NoMatchError("no such user") from None
    if entry.pw_name != name:
        # Directories that fold letters answer for other spellings; rules are byte for byte.
        raise NoMatchError(f"the user's name is {entry.pw_name!a}")
    return entry


def _groups_of(uid: int) -> list[int]:
    try:
        user = pwd.getpwuid(uid)
    except KeyError:
        return []
    return os.getgrouplist(user.pw_name, user.pw_gid)


class Lookup:
    """One round of look-ups, for a thread."""

    def __init__(
        self,
        wanted: WantedNames,
        users: UserDatabase,
        files: ExecutableFiles,
        *,
        previous: Resolution | None = None,
        seen: Collection[int] = (),
    ) -> None:
        """Prepare; nothing is looked up yet.

        Args:
            wanted: the names.
            users: where users and groups are looked up.
            files: where executables are.
            previous: the round before; its answers stand in for those that do not come.
            seen: uids of callers, whose membership is asked even if no list names them.
        """
        self._wanted = wanted
        self._users = users
        self._files = files
        self._previous = previous or Resolution()
        self._seen = frozenset(seen)
        # Written by one thread and copied by another; an assignment to an item is atomic.
        self._found_users: dict[str, frozenset[int]] = {}
        self._found_groups: dict[str, GroupIds] = {}
        self._found_files: dict[str, frozenset[ExeId]] = {}
        self._unmatched: dict[str, str] = {}

    def run(self) -> None:
        """Look everything up. Blocks as long as the slowest names, which come last next time."""
        wanted = self._wanted
        for late in (False, True):
            self._ask("userName", wanted.users, late, self._users.user, self._found_users)
            self._ask("groupName", wanted.groups, late, self._group, self._found_groups)
            self._ask("exePath", wanted.executables, late, self._files.find, self._found_files)

    def result(self) -> Resolution:
        """What is known now; from any thread, also while `run` still hangs."""
        previous = self._previous
        unmatched = dict(self._unmatched)
        users = self._answers(
            "userName", self._wanted.users, self._found_users, previous.users, unmatched
        )
        groups = self._answers(
            "groupName", self._wanted.groups, self._found_groups, previous.groups, unmatched
        )
        files = self._answers(
            "exePath", self._wanted.executables, self._found_files, previous.executables, unmatched
        )
        return Resolution(users, groups, files, unmatched)

    def _group(self, name: str) -> GroupIds:
        return self._users.group(name, self._seen)

    def _ask(
        self,
        selector: str,
        names: Collection[str],
        late: bool,
        ask: Callable[[str], T],
        found: dict[str, T],
    ) -> None:
        for name in sorted(names):
            label = f"{selector} {name}"
            if (self._previous.unmatched.get(label) == PENDING) is not late:
                continue
            try:
                found[name] = ask(name)
            except NoMatchError as error:
                self._unmatched[label] = str(error)

    @staticmethod
    def _answers(
        selector: str,
        names: Collection[str],
        found: dict[str, T],
        previous: Mapping[str, T],
        unmatched: dict[str, str],
    ) -> dict[str, T]:
        answers = {}
        for name in sorted(names):
            label = f"{selector} {name}"
            if name in found:
                answers[name] = found[name]
            elif label not in unmatched:
                unmatched[label] = PENDING
                if name in previous:
                    answers[name] = previous[name]
        return answers

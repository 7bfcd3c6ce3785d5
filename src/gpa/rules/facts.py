"""What is known of a caller and of a request, for judging without the kernel: values, and whether
these are all.

Nothing is guessed. A fact that nobody knows answers every selector with "unknown"; so does a query
value that was cut out of a record.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from gpa._native import canonical_request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gpa.endpoints import Endpoint
    from gpa.rules.model import Identity

CUT_OUT: Final = "…"
"""What stands in a record for the value of a query parameter (docs/audit.md, "What is cut out")."""

CUT_OFF: Final = "~"
"""What stands in a record at the end of a text that is longer than what was kept."""

GROUPS_KEPT: Final = 32
"""Groups in a record: of somebody with as many, others may have been left out."""

DELETED: Final = " (deleted)"
"""What /proc says behind the path of a program that was replaced while it runs."""


class Answer(enum.StrEnum):
    """Whether something holds."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"

    @property
    def opposite(self) -> Answer:
        """Of what does not hold."""
        return _OPPOSITES[self]


_OPPOSITES: Final = {
    Answer.YES: Answer.NO,
    Answer.NO: Answer.YES,
    Answer.UNKNOWN: Answer.UNKNOWN,
}


def all_of(answers: Iterable[Answer]) -> Answer:
    """Whether all hold; yes for none."""
    found = set(answers)
    if Answer.NO in found:
        return Answer.NO
    return Answer.UNKNOWN if Answer.UNKNOWN in found else Answer.YES


def any_of(answers: Iterable[Answer]) -> Answer:
    """Whether any holds; no for none."""
    return all_of(answer.opposite for answer in answers).opposite


class Fact(NamedTuple):
    """What is known of one property.

    Attributes:
        values: what the caller certainly has.
        complete: it has nothing else.
    """

    values: frozenset[str] = frozenset()
    complete: bool = False

    def has(self, value: str) -> Answer:
        """Whether the value is among them."""
        if value in self.values:
            return Answer.YES
        return Answer.NO if self.complete else Answer.UNKNOWN


UNKNOWN: Final = Fact()
NONE: Final = Fact(complete=True)
"""It is known that there is nothing, or nothing that a rule may be compared with."""


def known(*values: str) -> Fact:
    """Just these."""
    return Fact(frozenset(values), complete=True)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, by names.

    Attributes:
        uid: real user id.
        euid: effective user id.
        users: names of the real user; two names may share an id.
        groups: names of the groups that the user database gives the user, and of the captured one.
        exe_paths: paths that lead to the file which is executed.
        process_names: last component of the path by which it was executed.
        one_user: real and effective user are known to be one, also where the ids are not known.
        contents: SHA-256 of the file that is executed, in lower case.
        units: systemd's unit that the caller is in.
        cgroups: paths in cgroup v2 at or below which it is, as far as names there are root's.
        containers: id or name of its container.
    """

    uid: int | None = None
    euid: int | None = None
    users: Fact = UNKNOWN
    groups: Fact = UNKNOWN
    exe_paths: Fact = UNKNOWN
    process_names: Fact = UNKNOWN
    one_user: bool = False
    contents: Fact = UNKNOWN
    units: Fact = UNKNOWN
    cgroups: Fact = UNKNOWN
    containers: Fact = UNKNOWN

    @property
    def root(self) -> Answer:
        """Whether both ids are 0."""
        ids = (self.uid, self.euid)
        if any(number not in (None, 0) for number in ids):
            return Answer.NO
        return Answer.UNKNOWN if None in ids else Answer.YES

    @property
    def same_user(self) -> Answer:
        """Whether both ids are one; else no selector on users or groups holds."""
        if self.one_user:
            return Answer.YES
        if self.uid is None or self.euid is None:
            return Answer.UNKNOWN
        return Answer.YES if self.uid == self.euid else Answer.NO

    @property
    def uids(self) -> Fact:
        """The real user id, as text."""
        return UNKNOWN if self.uid is None else known(str(self.uid))


class Selector(NamedTuple):
    """One kind of selector.

    Attributes:
        key: its name in rules.
        wanted: what an identity has there; None for no such selector.
        answer: whether the caller is that.
        fact: what is known of the caller for it.
    """

    key: str
    wanted: Callable[[Identity], str | None]
    answer: Callable[[Caller, str], Answer]
    fact: Callable[[Caller], Fact]


SELECTORS: Final = (
    Selector(
        "userName",
        lambda identity: identity.user_name,
        lambda caller, name: all_of((caller.same_user, caller.users.has(name))),
        lambda caller: caller.users,
    ),
    Selector(
        "groupName",
        lambda identity: identity.group_name,
        lambda caller, name: all_of((caller.same_user, caller.groups.has(name))),
        lambda caller: caller.groups,
    ),
    Selector(
        "exePath",
        lambda identity: identity.exe_path,
        lambda caller, path: caller.exe_paths.has(path),
        lambda caller: caller.exe_paths,
    ),
    Selector(
        "processName",
        lambda identity: identity.process_name,
        lambda caller, name: caller.process_names.has(name),
        lambda caller: caller.process_names,
    ),
    Selector(
        "uid",
        lambda identity: None if identity.uid is None else str(identity.uid),
        lambda caller, uid: all_of((caller.same_user, caller.uids.has(uid))),
        lambda caller: caller.uids,
    ),
    Selector(
        "exeSha256",
        lambda identity: identity.exe_sha256,
        lambda caller, digest: caller.contents.has(digest.lower()),
        lambda caller: caller.contents,
    ),
    Selector(
        "systemdUnit",
        lambda identity: identity.systemd_unit,
        lambda caller, unit: caller.units.has(unit),
        lambda caller: caller.units,
    ),
    Selector(
        "cgroup",
        lambda identity: identity.cgroup,
        lambda caller, path: caller.cgroups.has(path),
        lambda caller: caller.cgroups,
    ),
    Selector(
        "containerId",
        lambda identity: identity.container_id,
        lambda caller, name: caller.containers.has(name),
        lambda caller: caller.containers,
    ),
)


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for.

    Attributes:
        endpoint: of whom.
        method: as sent.
        target: in origin-form, as sent or recorded.
        segments: of the path, in canonical form.
        query: name and value of each parameter, in canonical form; None for a value that a record
            does not tell.
        path_cut: the path goes on, and nobody knows how.
        cut: the target goes on.
    """

    endpoint: Endpoint
    method: str
    target: str
    segments: tuple[str, ...]
    query: tuple[tuple[str, str | None], ...] = ()
    path_cut: bool = False
    cut: bool = False

    @staticmethod
    def read(endpoint: Endpoint, method: str, target: str) -> Request:
        """Take what a caller sends.

        Raises:
            RequestFormError: the agent refuses it, whatever the rules.
        """
        segments, pairs = canonical_request(method, target)
        return Request(endpoint, method, _origin_form(target), tuple(segments), tuple(pairs))

    @staticmethod
    def read_recorded(endpoint: Endpoint, method: str, target: str) -> Request:
        """Take what an audit record tells, whose values may be cut out.

        Raises:
            RequestFormError: as `read`.
        """
        cut = target.endswith(CUT_OFF)
        path, mark, query = target.partition("?")
        path_cut = cut and not mark
        if path_cut:
            path = path[: path.rfind("/") + 1] or "/"
        pieces = query.split("&")[: -1 if cut else None] if mark else []
        hidden = [piece.partition("=")[2] == CUT_OUT for piece in pieces]
        plain = [
            piece.removesuffix(CUT_OUT) if secret else piece
            for piece, secret in zip(pieces, hidden, strict=True)
        ]
        segments, pairs = canonical_request(method, f"{path}?{'&'.join(plain)}" if plain else path)
        # The canonical form leaves out parameters without a name, and nothing else.
        secrets = [
            secret for piece, secret in zip(pieces, hidden, strict=True) if piece.partition("=")[0]
        ]
        return Request(
            endpoint,
            method,
            target,
            tuple(segments),
            tuple(
                (name, None if secret else value)
                for (name, value), secret in zip(pairs, secrets, strict=True)
            ),
            path_cut,
            cut,
        )

    def is_below(self, segments: tuple[str, ...]) -> Answer:
        """Whether a path covers this one, by whole segments."""
        common = min(len(segments), len(self.segments))
        if segments[:common] != self.segments[:common]:
            return Answer.NO
        if len(segments) <= len(self.segments):
            return Answer.YES
        return Answer.UNKNOWN if self.path_cut else Answer.NO

    def has(self, name: str, value: str) -> Answer:
        """Whether a parameter is there with that value."""
        values = [found for given, found in self.query if given == name]
        if value in values:
            return Answer.YES
        return Answer.UNKNOWN if None in values or self.cut else Answer.NO


def _origin_form(target: str) -> str:
    if target[:7].lower() != "http://":
        return target
    return target[target.index("/", 7) :]

"""Requests that were made, or might be, gathered for judging: each kind of caller and request once,
with how often it came and when.

A short record names a user by number and a program by the last component of its path. What the log
itself says elsewhere fills the gaps: a number's name and groups from records in full, a path where
the log shows only one program of that name run by that user. That these are all groups, and that it
is that program, is a guess, which `Known` can do without; what is not known stays unknown, and a
judgement says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, NamedTuple

from gpa.errors import RequestFormError
from gpa.rules.facts import (
    CUT_OFF,
    DELETED,
    GROUPS_KEPT,
    NONE,
    UNKNOWN,
    Answer,
    Caller,
    Fact,
    Request,
    known,
)
from gpa.rules.placed import placed

if TYPE_CHECKING:
    from collections.abc import Iterable

    import msgspec

    from gpa.endpoints import Endpoint
    from gpa.rules.records import Record

MAX_KINDS: Final = 200_000
"""Kinds of requests that are kept, some 150 MB; of the others it is counted how many came."""


class Asker(NamedTuple):
    """Who made a request, by its record; None and UNSET: the record does not say.

    Attributes:
        exe: name of the program; None where the kernel could not tell.
        path: all of its path; None where it does not end in that name, too.
        unit, container: as a judge takes them; unknown in a record in short.
    """

    uid: int | None
    euid: int | None
    user: str | None
    groups: tuple[str, ...] | None
    exe: str | msgspec.UnsetType | None
    path: str | None
    in_full: bool
    unit: Fact = UNKNOWN
    container: Fact = UNKNOWN

    @staticmethod
    def of(record: Record) -> Asker:
        """As the record tells it."""
        in_full = record.gid is not None
        euid = record.uid if record.euid is None else record.euid
        path = None if record.path is None else record.path.removesuffix(DELETED)
        # A mount of the caller's own can lead any path to his program; the name is the kernel's.
        if path is not None and path.rpartition("/")[2] != record.exe:
            path = None
        where = placed(record.unit, record.slice, record.container)
        who = (record.uid, euid, record.user, record.groups)
        return Asker(*who, record.exe, path, in_full, *where)

    @property
    def program(self) -> str | None:
        """The program's name, when that is known and whole."""
        exe = self.exe
        return exe if isinstance(exe, str) and not exe.endswith(CUT_OFF) else None


class Kind(NamedTuple):
    """One kind of request.

    Attributes:
        through: it went on to the host; None where nobody says.
        audited: only since the endpoint was in audit mode.
    """

    asker: Asker
    method: str
    target: str
    through: bool | None
    audited: bool = False


@dataclass(slots=True)
class Seen:
    """How often and when; `first` and `last` are empty for what never was."""

    count: int = 0
    first: str = ""
    last: str = ""
    unit: str | None = None

    def add(self, time: str, unit: str | None) -> None:
        """One more."""
        if not self.count or time < self.first:
            self.first = time
        self.last = max(self.last, time)
        self.unit = self.unit or unit
        self.count += 1

    def join(self, other: Seen) -> None:
        """All of another."""
        self.first = min(filter(None, (self.first, other.first)), default="")
        self.last = max(self.last, other.last)
        self.unit = self.unit or other.unit
        self.count += other.count


class Known:
    """What is known of users and programs from all of a log, and from who runs the tool.

    Args:
        programs: paths that the operator gives; a program of that name is that file.
        guess: take a program's only path in the log for that of every program of its name, and a
            user's groups in the user database for all that he has.
    """

    def __init__(self, programs: Iterable[str] = (), *, guess: bool = True) -> None:
        self._given = {path.rpartition("/")[2]: path for path in programs}
        self._guess = guess
        self._users: dict[int, set[str]] = {}
        self._groups: dict[int, frozenset[str]] = {}
        self._paths: dict[tuple[int | None, str], set[str]] = {}
        self.guessed: dict[str, str] = {}

    def name(self, uid: int, name: str, groups: Iterable[str] | None = None) -> None:
        """A user is called so."""
        self._users.setdefault(uid, set()).add(name)
        if groups is not None:
            self._groups[uid] = frozenset(groups)

    def nameless(self, asker: Asker) -> bool:
        """Whether a number is all that is known of the user."""
        return asker.uid is not None and not self.users(asker).values

    def learn(self, asker: Asker) -> None:
        """Take what a record says beside its own request."""
        if asker.uid is not None and asker.user is not None:
            self.name(asker.uid, asker.user, asker.groups)
        if asker.path is not None and asker.program is not None:
            self._paths.setdefault((asker.uid, asker.program), set()).add(asker.path)

    def users(self, asker: Asker) -> Fact:
        """Names of who asked."""
        if asker.user is not None:
            return known(asker.user)
        if asker.uid is not None and (names := self._users.get(asker.uid)):
            return known(*names)
        # The user database did not know the number, so that no rule's name leads to it.
        return NONE if asker.in_full else UNKNOWN

    def path(self, asker: Asker) -> str | None:
        """The path of the program, as far as it is known."""
        name = asker.program
        if asker.path is not None or name is None:
            return asker.path
        if given := self._given.get(name):
            return given
        paths = self._paths.get((asker.uid, name), set())
        if len(paths) != 1 or not self._guess:
            return None
        (path,) = paths
        self.guessed[name] = path
        return path

    def caller(self, asker: Asker) -> Caller:
        """Who asked, for the judge."""
        if asker.exe is None:
            paths = names = NONE  # the kernel could not tell, so nothing on programs holds
        else:
            name, path = asker.program, self.path(asker)
            names = UNKNOWN if name is None else known(name)
            paths = UNKNOWN if path is None else known(path)
            if path is None and name is not None:
                paths = PathsNamed(frozenset((name,)))
        return Caller(
            asker.uid,
            asker.euid,
            users=self.users(asker),
            groups=self._groups_of(asker),
            exe_paths=paths,
            process_names=names,
            one_user=asker.uid is None,
            units=asker.unit,
            containers=asker.container,
        )

    def _groups_of(self, asker: Asker) -> Fact:
        if asker.groups is not None:
            return Fact(frozenset(asker.groups), complete=len(asker.groups) < GROUPS_KEPT)
        if asker.in_full and asker.user is None:
            return NONE
        if asker.uid is None or asker.uid not in self._groups:
            return UNKNOWN
        # With which group it connected is not known: as a rule it is one of the user database.
        return Fact(self._groups[asker.uid], complete=self._guess)


class PathsNamed(Fact):
    """A path of which only the last component is known; `values` is that. A program that has two
    names (a hard link) is told apart by them."""

    __slots__ = ()

    def has(self, value: str) -> Answer:
        """Whether the path may be that one."""
        return Answer.UNKNOWN if value.rpartition("/")[2] in self.values else Answer.NO


@dataclass(slots=True)
class Log:
    """All kinds of requests for one endpoint.

    Attributes:
        kinds: in the order in which they came.
        known: what all of them together say of users and programs.
        records: how many were for this endpoint, within the time.
        unjudged: of these, those that no rule decides: refused for their form, telemetry, not root.
        forgotten: of these, those that did not fit.
    """

    endpoint: Endpoint
    known: Known
    kinds: dict[Kind, Seen] = field(default_factory=dict)
    records: int = 0
    unjudged: int = 0
    forgotten: int = 0

    def read(self, records: Iterable[Record], since: str = "", until: str = "") -> None:
        """Take records in.

        Args:
            since: RFC 3339; older ones are passed over.
            until: those of this time or later, too; empty for no end.
        """
        for record in records:
            asker = Asker.of(record)
            self.known.learn(asker)
            if record.endpoint != self.endpoint.value or record.time < since:
                continue
            if until and record.time >= until:
                continue
            self.records += 1
            if not record.judged:
                self.unjudged += 1
                continue
            audited = record.decision == "audit-allow"
            self.add(
                Kind(asker, record.method, record.target, record.let_through, audited),
                record.time,
                record.unit,
            )

    def add(self, kind: Kind, time: str = "", unit: str | None = None) -> None:
        """One request."""
        seen = self.kinds.get(kind)
        if seen is None:
            if len(self.kinds) >= MAX_KINDS:
                self.forgotten += 1
                return
            seen = self.kinds[kind] = Seen()
        seen.add(time, unit)


def request_of(endpoint: Endpoint, kind: Kind) -> Request | None:
    """What was asked for; None for what the agent refuses whatever the rules."""
    try:
        return Request.read_recorded(endpoint, kind.method, kind.target)
    except RequestFormError:
        return None


def without_volatile(request: Request, names: Iterable[str]) -> Request:
    """The request without the parameters that no rule names, so that those which differ from
    request to request do not make kinds of their own."""
    kept = frozenset(names)
    return replace(
        request,
        target="",
        query=tuple(pair for pair in request.query if pair[0] in kept),
    )

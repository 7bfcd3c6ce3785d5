"""Two rule sets by their effect: who may make which request by one and not by the other.

Requests fall into kinds by the paths and queries that either set names, callers by the identities.
Within a kind both sets say one thing, so it is enough to look at one request and one caller of
each. Which kinds: conditions only ever ask for something to be there. So where the sets differ for
a request, they differ already for one that has just what a privilege asks for, or, where a default
allows, what two of them ask for, or nothing; and for a caller that has just what one identity asks
for, or nothing. A test compares this with the judge on random rule sets.

What is told is what is new at a path beside what was told above it, and with a query beside what
was told without.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from gpa.rules.effect import EVERYBODY, METHOD, Effect, Pairs, Path, State, Universe, Who
from gpa.rules.model import METHODS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gpa.rules.model import EffectiveRules

T = TypeVar("T")

REFUSED: Final = "newly refused"
ALLOWED: Final = "newly allowed"

MAX_KINDS: Final = 200_000
"""Kinds of requests that are looked at: a few seconds. Beyond, the answer says that it is cut."""

MAX_DIFFERENCES: Final = 1_000
"""Differences that are told; the others are counted."""

MAX_NAMED: Final = 10
"""Exceptions and privileges that are named for one difference."""

MAX_LOOKS: Final = 200
"""Paths beneath a difference that are looked at for exceptions."""

NO_QUERY: Final[Pairs] = frozenset()

ONE_VALUE: Final = frozenset(
    {"userName", "exePath", "processName", "uid", "exeSha256", "systemdUnit", "containerId"}
)
"""Selectors of which a caller has one value, save for names of one thing by two."""


class Side(NamedTuple):
    """What one rule set says to a difference.

    Attributes:
        privileges: names of those that match; where it lets the callers through, that grant.
        default: no privilege matches.
    """

    privileges: tuple[str, ...]
    default: bool


@dataclass(frozen=True, slots=True)
class Difference:
    """A kind of request that one rule set lets through and the other refuses.

    Attributes:
        change: `newly refused` or `newly allowed`.
        path: its segments in canonical form; what lies beneath is meant, too.
        query: parameters that the request has, its method among them where that counts.
        callers: identities for which it is so; `EVERYBODY` for all.
        unless_callers: who may by both, although he is one of them.
        unless_paths: beneath `path`, where it is not so, or not for all of `callers`.
        unless_queries: with which it is not so, or not for all of `callers`.
        before: what the first rule set says.
        after: what the second one says.
    """

    change: str
    path: Path
    query: Pairs
    callers: tuple[Who, ...]
    unless_callers: tuple[Who, ...]
    unless_paths: tuple[Path, ...]
    unless_queries: tuple[Pairs, ...]
    before: Side
    after: Side


@dataclass(frozen=True, slots=True)
class Comparison:
    """All of them.

    Attributes:
        differences: the most general ones, by path.
        more: how many there are beside these.
        refused_twice: parameters that make a request ambiguous, and so refused, by the second rule
            set alone, when they are there twice with different values.
        allowed_twice: the same by the first alone.
        cut: there was too much to look at; there may be more differences.
    """

    differences: tuple[Difference, ...]
    more: int = 0
    refused_twice: tuple[str, ...] = ()
    allowed_twice: tuple[str, ...] = ()
    cut: bool = False

    @property
    def same(self) -> bool:
        """True when both let the same requests through, for all callers."""
        return not (self.differences or self.refused_twice or self.allowed_twice or self.cut)


class _Change(NamedTuple):
    """How the sets differ on one kind of request, for whom as bits; `…_but` is of everybody."""

    refused: int = 0
    allowed: int = 0
    refused_but: int | None = None
    allowed_but: int | None = None


_SAME: Final = _Change()


def compare(before: EffectiveRules | None, after: EffectiveRules | None) -> Comparison:
    """What changes when the second takes the place of the first.

    Raises:
        RulesError: a path that no request can have.
    """
    universe = Universe()
    first, second = Effect(before, universe), Effect(after, universe)
    return _Comparing(universe, first, second).run()


class _Comparing:
    def __init__(self, universe: Universe, before: Effect, after: Effect) -> None:
        self._universe = universe
        self._before = before
        self._after = after
        self._kinds: dict[Path, dict[Pairs, _Change]] = {}
        self._children: dict[Path, list[Path]] = {}
        self._budget = MAX_KINDS
        # Where some method is named by no privilege, what is told of none is told of that one.
        named = before.methods | after.methods
        self._methods = sorted(named) if named >= set(METHODS) else []

    def run(self) -> Comparison:
        for path in sorted({(), *self._before.paths, *self._after.paths}):
            above = self._above(path)
            if above is not None:
                self._children.setdefault(above, []).append(path)
            self._kinds[path] = self._changes(path)
            if self._budget < 0:
                break
        told = self._told()
        differences = tuple(self._difference(raw) for raw in islice(told, MAX_DIFFERENCES))
        before, after = self._before, self._after
        return Comparison(
            differences,
            sum(1 for _ in told),
            tuple(sorted(after.named - before.named)) if before.allows_something else (),
            tuple(sorted(before.named - after.named)) if after.allows_something else (),
            self._budget < 0,
        )

    def _above(self, path: Path) -> Path | None:
        """The nearest path above that a privilege names."""
        above = (path[:depth] for depth in range(len(path) - 1, -1, -1))
        return next((one for one in above if one in self._kinds), None)

    def _changes(self, path: Path) -> dict[Pairs, _Change]:
        changes: dict[Pairs, _Change] = {}
        for query in self._queries(path):
            for one in self._with_methods(query):
                self._budget -= 1
                if self._budget < 0:
                    return changes
                if one not in changes:
                    changes[one] = self._change(path, one)
        return changes

    def _with_methods(self, query: Pairs) -> Iterator[Pairs]:
        if not self._methods or any(name == METHOD for name, _ in query):
            yield query
        else:
            yield from (query | {(METHOD, method)} for method in self._methods)

    def _queries(self, path: Path) -> Iterator[Pairs]:
        """Queries that tell all kinds of requests for a path apart (see above)."""
        yield NO_QUERY
        first, second = self._before, self._after
        defaults = first.default_allowed or second.default_allowed
        # What is granted above a path is granted here, too: without a default that allows, it was
        # told there.
        ours = dict.fromkeys(first.queries(path, above=defaults))
        theirs = dict.fromkeys(second.queries(path, above=defaults))
        yield from ours
        yield from theirs
        # Who is granted by one and let through by the other's default loses that where the other
        # names the query as well.
        if second.default_allowed:
            yield from _unions((one for one in ours if second.state(path, one).open), theirs)
        if first.default_allowed:
            yield from _unions((one for one in theirs if first.state(path, one).open), ours)

    def _change(self, path: Path, query: Pairs) -> _Change:
        before = self._before.state(path, query)
        after = self._after.state(path, query)
        if before.open or after.open:
            if before.open and after.open:
                return _SAME
            return (
                _Change(refused_but=after.granted)
                if before.open
                else _Change(allowed_but=before.granted)
            )
        if before.granted == after.granted:
            return _SAME
        covered = self._universe.covered
        return _Change(
            before.granted & ~covered(after.granted), after.granted & ~covered(before.granted)
        )

    # What is told.

    def _told(self) -> Iterator[_Raw]:
        """What was not told above a path, nor without a query."""
        for path, changes in self._kinds.items():
            above = self._above(path)
            for query, change in changes.items():
                if change == _SAME:
                    continue
                told = [] if above is None else [self._at(above, query)]
                if query and NO_QUERY in changes:
                    told.append(changes[NO_QUERY])
                for name, more in (("refused", change.refused), ("allowed", change.allowed)):
                    for one in told:
                        more &= ~_part(one, name)[0]
                    if more:
                        yield _Raw(name, path, query, more, None)
                for name in ("refused", "allowed"):
                    but = _part(change, name)[1]
                    if but is not None and all(_part(one, name)[1] != but for one in told):
                        yield _Raw(name, path, query, 0, but)

    def _at(self, path: Path, query: Pairs) -> _Change:
        found = self._kinds[path].get(query)
        return self._change(path, query) if found is None else found

    def _difference(self, raw: _Raw) -> Difference:
        universe = self._universe
        refused = raw.name == "refused"
        states = [side.state(raw.path, raw.query) for side in (self._before, self._after)]
        lets, refuses = states if refused else states[::-1]
        sides = [_side(state, raw.mask if state is lets else -1) for state in states]
        callers = tuple(universe.members(universe.most_general(raw.mask))) or (EVERYBODY,)
        others = universe.members(universe.most_general(refuses.granted))
        more = (query for query in self._kinds[raw.path] if raw.query < query)
        return Difference(
            change=REFUSED if refused else ALLOWED,
            path=raw.path,
            query=raw.query,
            callers=callers,
            unless_callers=_some(o for o in others if any(_together(o, c) for c in callers)),
            unless_paths=_some(self._unless_paths(raw)),
            unless_queries=_some(q for q in more if not raw.holds(self._at(raw.path, q))),
            before=sides[0],
            after=sides[1],
        )

    def _unless_paths(self, raw: _Raw) -> Iterator[Path]:
        """The nearest paths beneath, where it is not so; of many, only some are looked at."""
        waiting, looks = [raw.path], MAX_LOOKS
        while waiting and looks:
            for path in self._children.get(waiting.pop(0), ()):
                looks -= 1
                if not looks:
                    return
                if raw.holds(self._at(path, raw.query)):
                    waiting.append(path)
                else:
                    yield path


class _Raw(NamedTuple):
    """A difference before it is put into words: for whom as bits, or for everybody but some."""

    name: str
    path: Path
    query: Pairs
    mask: int
    but: int | None

    def holds(self, change: _Change) -> bool:
        """Whether it is so there, for all whom it is about."""
        mask, but = _part(change, self.name)
        return but == self.but if self.but is not None else not self.mask & ~mask


def _part(change: _Change, name: str) -> tuple[int, int | None]:
    if name == "refused":
        return change.refused, change.refused_but
    return change.allowed, change.allowed_but


def _unions(some: Iterable[Pairs], others: Iterable[Pairs]) -> Iterator[Pairs]:
    """Queries that have what two ask for; one name has one value."""
    for one in some:
        for other in others:
            both = one | other
            if one and other and len(dict(both)) == len(both):
                yield both


def _some(items: Iterable[T]) -> tuple[T, ...]:
    return tuple(islice(items, MAX_NAMED))


def _side(state: State, mask: int) -> Side:
    """What one rule set says; of privileges that grant, those that do so to the callers."""
    names = (
        name
        for condition in state.conditions
        if mask < 0 or condition.granted & mask
        for name in condition.privileges
    )
    return Side(_some(names), not state.conditions)


def _together(one: Who, other: Who) -> bool:
    """Whether a caller may be both."""
    wanted = dict(other)
    return all(wanted.get(key, value) == value for key, value in one if key in ONE_VALUE)

"""What a rule set does, apart from how it is written: for `diff`, and for whoever compares.

Names, order and roles are gone here. What is left is, for each path, which queries it asks for and
to whom these are granted. A caller is what it has: a set of selectors that hold. An identity is one
such set, too, and matches every caller that has all of it; the empty set is everybody. When an
assignment holds is one more thing that a caller has, and a method one more parameter of a request.

Sets of identities are bits of a number (`Universe`): sets of thousands are compared in one step.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from itertools import combinations
from typing import TYPE_CHECKING, Final

from gpa._native import canonical_rule
from gpa.errors import RequestFormError, RulesError
from gpa.rules.extensions import moment_words
from gpa.rules.model import METHODS
from gpa.rules.windows import NOT_AFTER, NOT_BEFORE, is_timed, joined

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gpa.rules.model import Assignment, EffectiveRules, Identity, Privilege

Path = tuple[str, ...]
"""Segments in canonical form; the empty one is `/`."""

Pairs = frozenset[tuple[str, str]]
"""Query parameters in canonical form, each name with one value; `METHOD` is the method's name, as
no parameter has an empty one."""

Who = frozenset[tuple[str, str]]
"""Selectors and what each wants; `NOT_BEFORE` and `NOT_AFTER` with a time."""

METHOD: Final = ""
CGROUP: Final = "cgroup"

EVERYBODY: Final[Who] = frozenset()

_GRADED: Final = frozenset({CGROUP, NOT_BEFORE, NOT_AFTER})
"""Of which one value may imply another."""

FEW: Final = 10
"""Members of a set whose subsets are looked up one by one; above, the sets are walked instead."""


def who_of(identity: Identity) -> Who:
    """All that an identity asks for."""
    return frozenset((member, str(value)) for member, value in identity.selectors())


def when(assignment: Assignment) -> Who:
    """When it holds, as what a caller has who asks then."""
    times = ((NOT_BEFORE, assignment.not_before), (NOT_AFTER, assignment.not_after))
    return frozenset((key, moment_words(moment)) for key, moment in times if moment is not None)


def implies(one: tuple[str, str], other: tuple[str, str]) -> bool:
    """Whether who has the one certainly has the other."""
    (key, value), (other_key, wanted) = one, other
    if key != other_key or value == wanted:
        return one == other
    if key == CGROUP:
        return value.startswith(wanted + "/")
    if key not in (NOT_BEFORE, NOT_AFTER):
        return False
    later = datetime.fromisoformat(value) > datetime.fromisoformat(wanted)
    return later is (key == NOT_BEFORE)


def subsets(items: frozenset[tuple[str, str]]) -> Iterator[frozenset[tuple[str, str]]]:
    """All of them, the whole and the empty one included."""
    for size in range(len(items) + 1):
        for chosen in combinations(items, size):
            yield frozenset(chosen)


class Universe:
    """Numbers for identities, the same for both rule sets that are compared."""

    def __init__(self) -> None:
        self._bits: dict[Who, int] = {}
        self._list: list[Who] = []
        self._below: dict[int, int] = {}
        self._specials: list[int] = []
        self._timed = 0

    def bit(self, who: Who) -> int:
        """The bit of one, new or known."""
        found = self._bits.get(who)
        if found is None:
            found = self._bits[who] = 1 << len(self._list)
            self._list.append(who)
            self._timed |= found if is_timed(who) else 0
            self._specials.clear()
            self._below.clear()
        return found

    def members(self, mask: int) -> Iterator[Who]:
        """Those of a set, in the order in which they became known."""
        while mask:
            lowest = mask & -mask
            yield self._list[lowest.bit_length() - 1]
            mask ^= lowest

    def covered(self, mask: int) -> int:
        """All that are as special as one of the set, or more: who is granted with these.

        Times that follow one another without a gap count as one.
        """
        found = self._below.get(mask)
        if found is None:
            specials = self._more_special()
            found, rest = 0, mask
            while rest:
                lowest = rest & -rest
                found |= specials[lowest.bit_length() - 1]
                rest ^= lowest
            for general in joined(self.members(mask & self._timed)):
                found |= self._special_to(general)
            self._below[mask] = found
        return found

    def _special_to(self, general: Who) -> int:
        """All that have what this one asks for, whether it is known itself or not."""
        found = 0
        exact = frozenset(pair for pair in general if pair[0] not in _GRADED)
        for place, who in enumerate(self._list):
            if exact <= who and all(
                any(implies(has, wanted) for has in who) for wanted in general - exact
            ):
                found |= 1 << place
        return found

    def most_general(self, mask: int) -> int:
        """The set without those that another of it covers."""
        specials = self._more_special()
        rest, found = mask, mask
        while rest:
            lowest = rest & -rest
            found &= ~(specials[lowest.bit_length() - 1] ^ lowest)
            rest ^= lowest
        return found

    def _more_special(self) -> list[int]:
        """For each identity those that have all of its selectors, itself among them."""
        if self._specials:
            return self._specials
        self._specials = [0] * len(self._list)
        graded = {pair for who in self._list for pair in who if pair[0] in _GRADED}
        for place, who in enumerate(self._list):
            more = {other for other in graded for pair in who if implies(pair, other)}
            for general in self._covering(who | more):
                self._specials[general.bit_length() - 1] |= 1 << place
        return self._specials

    def _covering(self, has: Who) -> Iterator[int]:
        """Bits of those that ask for nothing but what somebody has."""
        if len(has) <= FEW:
            found = (self._bits.get(general) for general in subsets(has))
            yield from (bit for bit in found if bit is not None)
        else:
            yield from (bit for who, bit in self._bits.items() if who <= has)


@dataclass(slots=True)
class Condition:
    """Privileges that ask for one path and query.

    Attributes:
        privileges: their names, in order.
        granted: to whom, as bits.
    """

    privileges: list[str] = field(default_factory=list)
    granted: int = 0


@dataclass(frozen=True, slots=True)
class State:
    """What a rule set says about one kind of request.

    Attributes:
        conditions: those that the request meets.
        granted: who may ask, as bits, when some are met.
        open: everybody may: none is met, and the default allows.
    """

    conditions: tuple[Condition, ...]
    granted: int
    open: bool


class Effect:
    """One rule set by its effect.

    Args:
        rules: None is what holds where the host sent none: everybody may.
        universe: numbers for its identities.

    Attributes:
        paths: where privileges are.
        named: query parameters that some privilege names: twice with different values, they
            make a request ambiguous, which is refused.
        methods: that some privilege names.

    Raises:
        RulesError: a path that no request can have.
    """

    def __init__(self, rules: EffectiveRules | None, universe: Universe) -> None:
        self.default_allowed = rules is None or (rules.default_allowed and rules.broken is None)
        self.named: set[str] = set()
        self.methods: set[str] = set()
        self._at: dict[Path, dict[Pairs, Condition]] = {}
        if rules is None or rules.broken is not None:
            return
        identities = {one.name: who_of(one) for one in rules.rules.identities}
        of_role: dict[str, int] = {}
        for assignment in rules.rules.assignments:
            time = when(assignment)
            for name in assignment.identities:
                bit = universe.bit(identities[name] | time)
                of_role[assignment.role] = of_role.get(assignment.role, 0) | bit
        granted: dict[str, int] = {}
        for role in rules.rules.roles:
            if mask := of_role.get(role.name, 0):
                for name in role.privileges:
                    granted[name] = granted.get(name, 0) | mask
        for place, privilege in enumerate(rules.rules.privileges):
            path, queries = self._form(place, privilege)
            for pairs in queries:
                condition = self._at.setdefault(path, {}).setdefault(pairs, Condition())
                condition.privileges.append(privilege.name)
                condition.granted |= granted.get(privilege.name, 0)

    def _form(self, place: int, privilege: Privilege) -> tuple[Path, list[Pairs]]:
        """Path, and the query with each method; no query for what can never match."""
        try:
            segments, pairs = canonical_rule(privilege.path, list(privilege.query))
        except RequestFormError as error:
            where = f"rules.privileges[{place}].path"
            raise RulesError(f"{where}: {error}", ((where, str(error)),)) from None
        self.named.update(name for name, _ in pairs)
        query = frozenset(pairs)
        # Two values for one name: the request that has both is refused before.
        if len({name for name, _ in query}) < len(query):
            return tuple(segments), []
        if not privilege.methods or set(METHODS) <= set(privilege.methods):
            return tuple(segments), [query]
        self.methods.update(privilege.methods)
        return tuple(segments), [query | {(METHOD, method)} for method in privilege.methods]

    @property
    def paths(self) -> Iterable[Path]:
        """Where privileges are."""
        return self._at.keys()

    @property
    def allows_something(self) -> bool:
        """True when there is a request that somebody may make."""
        at_all = self._at.get((), {})
        return (self.default_allowed and frozenset() not in at_all) or any(
            condition.granted for here in self._at.values() for condition in here.values()
        )

    def queries(self, path: Path, *, above: bool) -> Iterator[Pairs]:
        """What the privileges of a path ask for, and if wanted those above, which cover it."""
        if not above:
            yield from self._at.get(path, ())
            return
        for here in self._above(path):
            yield from here

    def state(self, path: Path, query: Pairs) -> State:
        """What holds for requests of this path, and of no deeper one that a privilege names, whose
        query has these of the named parameters."""
        met: list[Condition] = []
        for here in self._above(path):
            if len(query) <= FEW and 1 << len(query) <= len(here):
                found = (here.get(asked) for asked in subsets(query))
                met += [condition for condition in found if condition is not None]
            else:
                met += [condition for asked, condition in here.items() if asked <= query]
        granted = 0
        for condition in met:
            granted |= condition.granted
        return State(tuple(met), granted, not met and self.default_allowed)

    def _above(self, path: Path) -> Iterator[dict[Pairs, Condition]]:
        for depth in range(len(path) + 1):
            if here := self._at.get(path[:depth]):
                yield here

"""What a log shows of each caller, on its way to rules: who, what, and by which evidence."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from gpa.rules.replay import Seen

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpa.rules.effect import Pairs, Path


class Who(NamedTuple):
    """An identity to be: what it will ask for; None for no such selector.

    Attributes:
        service: root or a service of the system, kept apart from people.
        uid: of a user without a name.
    """

    service: bool
    user: str | None
    uid: int | None
    exe: str | None
    process: str | None


class What(NamedTuple):
    """A privilege to be, in canonical form; `methods` is empty for any."""

    path: Path
    query: Pairs
    methods: frozenset[str]


@dataclass(slots=True)
class Evidence:
    """What was seen of one caller at one privilege.

    Attributes:
        seen: how often and when.
        methods: with which.
        unsure: parameters that select, and yet are not asked for.
    """

    seen: Seen = field(default_factory=Seen)
    methods: set[str] = field(default_factory=set)
    unsure: set[str] = field(default_factory=set)

    def join(self, other: Evidence) -> None:
        """All of another."""
        self.seen.join(other.seen)
        self.methods |= other.methods
        self.unsure |= other.unsure


def smallest(found: Mapping[What, Evidence]) -> dict[What, Evidence]:
    """Without privileges that another one of the same caller covers; that gets their evidence.

    Args:
        found: each for one method, or all for any.
    """
    kept: dict[What, Evidence] = {}
    # By path: a log may have tens of thousands, of which few lie above one.
    at: dict[Path, list[What]] = {}
    for what in sorted(found, key=lambda one: (len(one.path), len(one.query), one.path)):
        above = next(
            (
                one
                for depth in range(len(what.path) + 1)
                for one in at.get(what.path[:depth], ())
                if what.methods == one.methods and one.query <= what.query
            ),
            None,
        )
        if above is None:
            kept[what] = found[what]
            at.setdefault(what.path, []).append(what)
        else:
            kept[above].join(found[what])
            if above.path == what.path:  # asked for with a value, and without
                kept[above].unsure |= {name for name, _ in what.query - above.query}
    return _together(kept)


def _together(found: Mapping[What, Evidence]) -> dict[What, Evidence]:
    """One privilege of those that differ by their method only."""
    methods: dict[tuple[Path, Pairs], frozenset[str]] = {}
    for what in found:
        at = what.path, what.query
        methods[at] = methods.get(at, frozenset()) | what.methods
    joined: dict[What, Evidence] = {}
    for what, evidence in found.items():
        whole = what._replace(methods=methods[what.path, what.query])
        joined.setdefault(whole, Evidence()).join(evidence)
    return joined

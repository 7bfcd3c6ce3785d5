"""Where in cgroup v2 a record says that its caller was, for judging: unit and container."""

from __future__ import annotations

from typing import Final

from gpa.rules import units
from gpa.rules.facts import NONE, UNKNOWN, Fact, known

KEPT: Final = 128
"""Characters of such a name in a record: one as long may have been longer."""


def placed(unit: str | None, slice_: str | None, container: str | None) -> tuple[Fact, Fact]:
    """Unit and container of the caller.

    All three were read in one path: where one is there, those which are not were not in it. Where
    none is, the cgroup may have been gone before its name was asked for.

    A container beside a unit that does not itself belong to it lies somewhere below that unit,
    where a user's own manager, too, gives names; a rule counts only those that root gave, and
    which of the two this one is the record does not say.
    """
    if unit is None and slice_ is None and container is None:
        return UNKNOWN, UNKNOWN
    units_, containers = _one(unit), _one(container)
    if container is not None and unit is not None:
        itself = units.parse(f"/{slice_ or ''}/{unit}").container == container
        containers = containers if itself else UNKNOWN
    return units_, containers


def _one(name: str | None) -> Fact:
    if name is None:
        return NONE
    return known(name) if len(name) < KEPT else UNKNOWN

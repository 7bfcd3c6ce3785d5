"""What checks look at: valid rules, with what follows from them worked out once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from gpa._native import canonical_rule
from gpa.endpoints import Endpoint

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from gpa.rules.lint.machine import Machine
    from gpa.rules.model import Privilege, Rules

MAX_NAMED = 3
"""Names in a message; a longer list is counted."""


class Form(NamedTuple):
    """What a privilege is compared by.

    Attributes:
        segments: of its path.
        query: name and value of each parameter.
        methods: that are meant; empty for any.
    """

    segments: tuple[str, ...]
    query: frozenset[tuple[str, str]]
    methods: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Subject:
    """Rules that are valid.

    Attributes:
        rules: the lists.
        default_allowed: as the file says; None where it does not.
        host: the host's item, not a local file.
        endpoint: for which the rules are.
        machine: where they are to hold; None when that is not known.
        now: the time, in UTC; None when that does not matter.
    """

    rules: Rules
    default_allowed: bool | None = None
    host: bool = False
    endpoint: Endpoint = Endpoint.IMDS
    machine: Machine | None = None
    now: datetime | None = None

    @cached_property
    def forms(self) -> tuple[Form, ...]:
        """Canonical form of each privilege, in their order."""
        return tuple(_form(privilege) for privilege in self.rules.privileges)

    @cached_property
    def holders(self) -> Mapping[str, frozenset[str]]:
        """Identities that have a privilege, by its name."""
        of_role: dict[str, set[str]] = {}
        for assignment in self.rules.assignments:
            of_role.setdefault(assignment.role, set()).update(assignment.identities)
        roles_of: dict[str, list[str]] = {p.name: [] for p in self.rules.privileges}
        for role in self.rules.roles:
            for name in role.privileges:
                roles_of[name].append(role.name)
        # Privileges in the same roles share a set: thousands by thousands would fill memory.
        shared: dict[tuple[str, ...], frozenset[str]] = {}
        found = {}
        for name, roles in roles_of.items():
            key = tuple(roles)
            if key not in shared:
                shared[key] = frozenset().union(*(of_role.get(role, ()) for role in roles))
            found[name] = shared[key]
        return found


def _form(privilege: Privilege) -> Form:
    segments, query = canonical_rule(privilege.path, list(privilege.query))
    return Form(tuple(segments), frozenset(query), frozenset(privilege.methods))


def named(names: frozenset[str] | list[str]) -> str:
    """A few of the names, for a message."""
    first = sorted(names)[:MAX_NAMED]
    more = len(names) - len(first)
    words = ", ".join(ascii(name[:64]) for name in first)
    return f"{words} and {more} more" if more else words


def quoted(name: str) -> str:
    """A name or path of the file, for a message."""
    return ascii(name[:64])

"""Rules of all endpoints to the table that the engine decides from, and to what people read.

The table is JSON for `gpa._native.Snapshot` (ext/policy/table.rs): names became places in lists and
what the kernel says. Names go back by `CompiledNames`.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, TypeVar

import msgspec

from gpa.endpoints import Endpoint, Mode
from gpa.errors import RulesError
from gpa.rules.model import CGROUP_SELECTORS, EffectiveRules

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from gpa.rules.model import Identity, Privilege, Rules
    from gpa.rules.validity import Outside

T = TypeVar("T", bound="int | ExeId")


class ExeId(NamedTuple):
    """An executable file as the kernel tells it apart.

    Attributes:
        dev: device of its filesystem, `major << 20 | minor`, as in mountinfo.
        ino: inode number.
        ctime_s: time of its last change, seconds since 1970.
        ctime_ns: and nanoseconds.
    """

    dev: int
    ino: int
    ctime_s: int
    ctime_ns: int


class GroupIds(NamedTuple):
    """What a group's name stands for: its ids, and its members by the user database."""

    gids: frozenset[int] = frozenset()
    uids: frozenset[int] = frozenset()


class Known(NamedTuple):
    """What of callers has been looked at: who is not among these may yet turn out to be meant.

    Attributes:
        executables: whose content is known, or known to be beyond us.
        cgroups: whose place is known.
    """

    executables: frozenset[ExeId] = frozenset()
    cgroups: frozenset[int] = frozenset()


class Resolver(Protocol):
    """Names to what the kernel says; what is not known is empty, and then matches nobody."""

    def user(self, name: str) -> Collection[int]:
        """Uids of a user's name."""
        ...

    def group(self, name: str) -> GroupIds:
        """Ids and members of a group's name."""
        ...

    def executable(self, path: str) -> Collection[ExeId]:
        """Files behind a path, those replaced while their process lives among them."""
        ...

    def content(self, digest: str) -> Collection[ExeId]:
        """Files with this SHA-256 of what is in them."""
        ...

    def cgroups(self, selector: str, value: str) -> Collection[int]:
        """Ids of the cgroups that one of `model.CGROUP_SELECTORS` means."""
        ...

    @property
    def known(self) -> Known:
        """Callers' files and cgroups that have been looked at, whatever came out."""
        ...


class Nobody:
    """Knows no names: for looking at rules without a machine."""

    def user(self, name: str) -> Collection[int]:  # noqa: ARG002
        """Nobody has this name."""
        return ()

    def group(self, name: str) -> GroupIds:  # noqa: ARG002
        """Nobody is in it."""
        return GroupIds()

    def executable(self, path: str) -> Collection[ExeId]:  # noqa: ARG002
        """Nothing is there."""
        return ()

    def content(self, digest: str) -> Collection[ExeId]:  # noqa: ARG002
        """No file has it."""
        return ()

    def cgroups(self, selector: str, value: str) -> Collection[int]:  # noqa: ARG002
        """Nobody is in it."""
        return ()

    known = Known()


MAX_SHOWN_GRANTS: Final = 100_000
"""Pairs of privilege and identity in `computed_rules`: a small rule set can unfold into millions,
which nobody reads and which would fill memory and disk."""

NO_RULES: Final[Mapping[str, object]] = {"mode": "disabled", "broken": False, "rules": None}


def compile_table(
    endpoints: Mapping[Endpoint, EffectiveRules | None],
    modes: Mapping[Endpoint, Mode],
    resolver: Resolver,
) -> bytes:
    """The table of one epoch; an endpoint without rules has its default access."""
    entries = {
        endpoint.value: _entry(endpoints.get(endpoint), modes[endpoint], resolver)
        for endpoint in Endpoint
    }
    return msgspec.json.encode({"endpoints": entries})


def table_check(load: Callable[[bytes], object]) -> Callable[[Rules], None]:
    """A check that the engine can use rules: paths and queries have a canonical form.

    Args:
        load: takes a table, as `lambda table: gpa._native.Snapshot(0, table)`; raises
            `RulesError` or `ValueError` for one that it cannot use.
    """

    def check(rules: Rules) -> None:
        entry = _entry(EffectiveRules("-", False, rules), Mode.ENFORCE, Nobody())
        table = {e.value: entry if e is Endpoint.IMDS else NO_RULES for e in Endpoint}
        try:
            load(msgspec.json.encode({"endpoints": table}))
        except (RulesError, ValueError) as error:
            place, _, message = str(error).removeprefix(f"{Endpoint.IMDS.value}.").partition(": ")
            summary = f"the rules cannot be used: {place}: {message}"
            raise RulesError(summary, ((place, message),)) from None

    return check


def _entry(rules: EffectiveRules | None, mode: Mode, resolver: Resolver) -> Mapping[str, object]:
    broken = rules is not None and rules.broken is not None
    table = None if rules is None or broken else _rules(rules, resolver)
    return {"mode": mode.value, "broken": broken, "rules": table}


def _rules(effective: EffectiveRules, resolver: Resolver) -> dict[str, object]:
    rules = effective.rules
    privileges = {privilege.name: i for i, privilege in enumerate(rules.privileges)}
    identities = {identity.name: i for i, identity in enumerate(rules.identities)}
    roles = {role.name: i for i, role in enumerate(rules.roles)}
    # Each group once: it may have thousands of members and be named by many identities.
    groups: dict[str, int] = {}
    for identity in rules.identities:
        if identity.group_name is not None:
            groups.setdefault(identity.group_name, len(groups))
    return {
        "id": effective.id,
        "defaultAllowed": effective.default_allowed,
        "privileges": [
            {"path": p.path, "query": p.query, "methods": p.methods or None}
            for p in rules.privileges
        ],
        "groups": [_group(resolver.group(name)) for name in groups],
        "identities": [_selectors(identity, groups, resolver) for identity in rules.identities],
        "roles": [[privileges[name] for name in role.privileges] for role in rules.roles],
        "assignments": [
            (roles[a.role], [identities[name] for name in a.identities]) for a in rules.assignments
        ],
        "known": _known(rules, resolver.known),
    }


def _group(ids: GroupIds) -> dict[str, list[int]]:
    return {"gids": sorted(ids.gids), "uids": sorted(ids.uids)}


def _selectors(
    identity: Identity, groups: Mapping[str, int], resolver: Resolver
) -> dict[str, object]:
    group = identity.group_name
    return {
        "uids": _all_of(_users(identity, resolver)),
        "group": None if group is None else groups[group],
        "exes": _all_of(_files(identity, resolver)),
        "processName": identity.process_name,
        "cgroups": _all_of(
            resolver.cgroups(selector, value)
            for selector, value in identity.selectors()
            if selector in CGROUP_SELECTORS and isinstance(value, str)
        ),
    }


def _users(identity: Identity, resolver: Resolver) -> Iterator[Collection[int]]:
    if identity.user_name is not None:
        yield resolver.user(identity.user_name)
    if identity.uid is not None:
        yield (identity.uid,)


def _files(identity: Identity, resolver: Resolver) -> Iterator[Collection[ExeId]]:
    if identity.exe_path is not None:
        yield resolver.executable(identity.exe_path)
    if identity.exe_sha256 is not None:
        yield resolver.content(identity.exe_sha256)


def _all_of(sets: Iterable[Collection[T]]) -> list[T] | None:
    """What several selectors of one kind leave, sorted; None where there is none of that kind."""
    left: set[T] | None = None
    for one in sets:
        left = set(one) if left is None else left & set(one)
    return None if left is None else sorted(left)


def _known(rules: Rules, known: Known) -> dict[str, object]:
    """Callers whom no look is owed; None where no rule asks for such a look."""
    by_content = any(i.exe_sha256 is not None and i.exe_path is None for i in rules.identities)
    by_place = any(
        selector in CGROUP_SELECTORS for i in rules.identities for selector, _ in i.selectors()
    )
    return {
        "exes": sorted(known.executables) if by_content else None,
        "cgroups": sorted(known.cgroups) if by_place else None,
    }


@dataclass(frozen=True, slots=True)
class CompiledNames:
    """Places in the lists of one endpoint back to names, for audit records."""

    privileges: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    identities: tuple[str, ...] = ()

    @staticmethod
    def of(effective: EffectiveRules | None) -> CompiledNames:
        """The names of the rules that the table was compiled from."""
        if effective is None or effective.broken is not None:
            return CompiledNames()
        rules = effective.rules
        return CompiledNames(
            tuple(p.name for p in rules.privileges),
            tuple(r.name for r in rules.roles),
            tuple(i.name for i in rules.identities),
        )

    def privilege(self, place: int | None) -> str | None:
        """Name of a privilege; None for no place or one that is not there."""
        return _at(self.privileges, place)

    def role(self, place: int | None) -> str | None:
        """Name of a role."""
        return _at(self.roles, place)

    def identity(self, place: int | None) -> str | None:
        """Name of an identity."""
        return _at(self.identities, place)


def _at(names: tuple[str, ...], place: int | None) -> str | None:
    return names[place] if place is not None and 0 <= place < len(names) else None


def computed_rules(
    endpoints: Mapping[Endpoint, EffectiveRules | None],
    modes: Mapping[Endpoint, Mode],
    outside: Mapping[Endpoint, Sequence[Outside]] = MappingProxyType({}),
) -> dict[str, dict[str, object] | None]:
    """The member `computedRules` of AuthorizationRules_{time}.json (docs/protocol.md, "Files").

    Args:
        endpoints: what holds.
        modes: of all endpoints.
        outside: assignments that do not hold now.
    """
    return {e.value: _computed(endpoints.get(e), modes[e], outside.get(e, ())) for e in Endpoint}


def _computed(
    effective: EffectiveRules | None, mode: Mode, outside: Sequence[Outside]
) -> dict[str, object] | None:
    if effective is None:
        return None
    rules = effective.rules
    shown: dict[str, object] = {
        "id": effective.id,
        "mode": mode.value.title(),
        "defaultAllowed": effective.default_allowed,
        "privileges": {p.name: _shown_privilege(p) for p in rules.privileges},
        "identities": {i.name: _shown_identity(i) for i in rules.identities},
        "privilegeAssignments": _shown_grants(rules),
        # As written, so that tools can judge by this file as the engine does.
        "roles": [{"name": r.name, "privileges": list(r.privileges)} for r in rules.roles],
        "roleAssignments": [
            {"role": a.role, "identities": list(a.identities)} for a in rules.assignments
        ],
    }
    if outside:
        shown["assignmentsNotInForce"] = [
            {"role": a.role, "identities": list(a.identities), "why": why} for a, why in outside
        ]
    if effective.broken is not None:
        shown["broken"] = effective.broken
    return shown


def _shown_grants(rules: Rules) -> dict[str, list[str]]:
    """Identities by privilege, each once; cut after `MAX_SHOWN_GRANTS`."""
    identities_of: dict[str, list[str]] = {}
    for assignment in rules.assignments:
        identities_of.setdefault(assignment.role, []).extend(assignment.identities)
    shown: dict[str, dict[str, None]] = {}
    room = MAX_SHOWN_GRANTS
    for role in rules.roles:
        granted = identities_of.get(role.name, [])
        for name in role.privileges:
            room -= len(granted)
            if room < 0:
                break
            shown.setdefault(name, {}).update(dict.fromkeys(granted))
    return {name: list(granted) for name, granted in shown.items()}


def _shown_privilege(privilege: Privilege) -> dict[str, object]:
    shown: dict[str, object] = {"name": privilege.name, "path": privilege.path}
    if privilege.query:
        shown["queryParameters"] = dict(privilege.query)
    if privilege.methods:
        shown["methods"] = list(privilege.methods)
    return shown


def _shown_identity(identity: Identity) -> dict[str, str | int]:
    return {"name": identity.name, **dict(identity.selectors())}

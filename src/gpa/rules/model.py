"""Rules as values: what was checked is one of these, and nothing in them needs a second look.

docs/protocol.md, "Rules". References stay names here; `compile` turns them into places.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

HOST_SELECTORS: Final = {
    "userName": "user_name",
    "groupName": "group_name",
    "exePath": "exe_path",
    "processName": "process_name",
}
"""Selectors of the host's language: member of the JSON to attribute of `Identity`."""

CGROUP_SELECTORS: Final = {
    "systemdUnit": "systemd_unit",
    "cgroup": "cgroup",
    "containerId": "container_id",
}
"""Those of local rules that say where in cgroup v2 a caller is."""

LOCAL_SELECTORS: Final = {
    **HOST_SELECTORS,
    "uid": "uid",
    "exeSha256": "exe_sha256",
    **CGROUP_SELECTORS,
}
"""All that a local file may use."""

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH")
"""What the relay lets through at all."""


@dataclass(frozen=True, slots=True)
class Privilege:
    """A path, and the query parameters without which it is not meant.

    Attributes:
        name: unique among the privileges.
        path: as written; the one canonical form is made in the native half.
        query: name and value of each parameter, as written.
        methods: those of a request that is meant; empty for any.
    """

    name: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    methods: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Role:
    """Privileges under one name."""

    name: str
    privileges: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Identity:
    """Selectors, all of which must hold; None matches anything. At least one is not None."""

    name: str
    user_name: str | None = None
    group_name: str | None = None
    exe_path: str | None = None
    process_name: str | None = None
    uid: int | None = None
    exe_sha256: str | None = None
    systemd_unit: str | None = None
    cgroup: str | None = None
    container_id: str | None = None

    def selectors(self) -> Iterator[tuple[str, str | int]]:
        """Those that are there, by their names in the JSON."""
        for member, attribute in LOCAL_SELECTORS.items():
            value = getattr(self, attribute)
            if value is not None:
                yield member, value


@dataclass(frozen=True, slots=True)
class Assignment:
    """A role, and the identities that have it.

    Attributes:
        not_before: from when on; None for ever since.
        not_after: until when, that moment left out; None for ever.
    """

    role: str
    identities: tuple[str, ...]
    not_before: datetime | None = None
    not_after: datetime | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """The four lists; every reference is to something in them."""

    privileges: tuple[Privilege, ...] = ()
    roles: tuple[Role, ...] = ()
    identities: tuple[Identity, ...] = ()
    assignments: tuple[Assignment, ...] = ()


@dataclass(frozen=True, slots=True)
class HostItem:
    """What the host says about one endpoint, without its mode, which is the channel's.

    Attributes:
        id: of the rules; the one inside, where the host's is base64 of JSON.
        use_local: the flag beside that one; None where the id is plain text.
        default_allowed: what happens to a request that no privilege matches.
        rules: None where the host sent none.
    """

    id: str
    use_local: bool | None
    default_allowed: bool
    rules: Rules | None


@dataclass(frozen=True, slots=True)
class LocalRules:
    """A valid local file; None is what it does not say."""

    id: str | None = None
    default_allowed: bool | None = None
    rules: Rules | None = None


@dataclass(frozen=True, slots=True)
class LocalFile:
    """What became of reading a local file: `rules`, or why not, or neither when there is none.

    Attributes:
        trouble: one line; while there is one, everything is refused at the endpoint.
    """

    rules: LocalRules | None = None
    trouble: str | None = None


@dataclass(frozen=True, slots=True)
class EffectiveRules:
    """What holds for an endpoint.

    Attributes:
        id: as shown to operators.
        default_allowed: what happens to a request that no privilege matches.
        rules: host's and local, merged.
        broken: why everything is refused; None when it is not.
    """

    id: str
    default_allowed: bool
    rules: Rules = field(default_factory=Rules)
    broken: str | None = None

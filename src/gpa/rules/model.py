"""Rules as values: what was checked is one of these, and nothing in them needs a second look.

docs/protocol.md, "Rules". References stay names here; `compile` turns them into places.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Privilege:
    """A path, and the query parameters without which it is not meant.

    Attributes:
        name: unique among the privileges.
        path: as written; the one canonical form is made in the native half.
        query: name and value of each parameter, as written.
    """

    name: str
    path: str
    query: tuple[tuple[str, str], ...] = ()


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


@dataclass(frozen=True, slots=True)
class Assignment:
    """A role, and the identities that have it."""

    role: str
    identities: tuple[str, ...]


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

"""What the host shall do: one frozen value, from a TOML file or from the control API.

Keys of our own are written with underscores, items of the protocol (docs/protocol.md, "Rules") with
the protocol's own names. docs/emulator.md is the reference.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct, field

from gpa.emulator.faults import Fault  # noqa: TC001 - msgspec reads it

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gpa.emulator.message import EndpointName

Seconds = Annotated[float, Meta(ge=0, le=3600)]
Name = Annotated[str, Meta(min_length=1, max_length=256)]
GuidText = Annotated[str, Meta(pattern=r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")]
GuidOrNothing = Annotated[
    str, Meta(pattern=r"^([0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})?$")
]
ModeText = Annotated[str, Meta(pattern=r"^(?i:disabled|audit|enforce|absent)$")]
StateText = Annotated[str, Meta(pattern=r"^(?i:disabled|audit|wireserver|wireserverandimds)$")]


class Part(Struct, frozen=True, forbid_unknown_fields=True):
    """Base of what is ours."""


class Wire(Part, frozen=True, omit_defaults=True, rename="camel"):
    """Base of what the protocol names; what is absent stays absent on the wire."""


class Privilege(Wire, frozen=True):
    """A path and the query parameters that go with it."""

    name: Name
    path: Name
    query_parameters: dict[str, str] = field(default_factory=dict)


class Role(Wire, frozen=True):
    """Privileges under one name."""

    name: Name
    privileges: list[str]


class Identity(Wire, frozen=True):
    """Selectors of a caller."""

    name: Name
    user_name: str | None = None
    group_name: str | None = None
    exe_path: str | None = None
    process_name: str | None = None


class RoleAssignment(Wire, frozen=True):
    """Who has a role."""

    role: str
    identities: list[str]


class Access(Wire, frozen=True):
    """The four lists of an item."""

    privileges: list[Privilege] = field(default_factory=list)
    roles: list[Role] = field(default_factory=list)
    identities: list[Identity] = field(default_factory=list)
    role_assignments: list[RoleAssignment] = field(default_factory=list)


class Item(Wire, frozen=True, omit_defaults=False):
    """An endpoint's item in `authorizationRules`.

    Attributes:
        mode: `absent` sends no item.
        raw: JSON sent instead of all the rest, to see how an agent takes what is wrong; `mode` is
            what the host itself then goes by.
    """

    mode: ModeText = "enforce"
    default_access: Literal["allow", "deny"] = "allow"
    id: str | None = None
    rules: Access | None = None
    raw: str | None = None

    def __post_init__(self) -> None:
        """Check what the types cannot say; ValueError becomes a validation error of msgspec."""
        if self.raw is not None:
            try:
                json.loads(self.raw)
            except ValueError as error:
                raise ValueError(f"raw is not JSON: {error}") from None
        elif self.rules is not None:
            for trouble in _undefined(self.rules):
                raise ValueError(trouble)

    def wire(self, name: EndpointName) -> object:
        """As it stands in the status; None when there is none."""
        if self.raw is not None:
            return json.loads(self.raw)
        if self.mode.lower() == "absent":
            return None
        rules = None if self.rules is None else msgspec.to_builtins(self.rules)
        return {
            "defaultAccess": self.default_access,
            "mode": self.mode,
            "id": f"emulated-{name}" if self.id is None else self.id,
            "rules": rules,
        }


class Rules(Part, frozen=True):
    """Items by endpoint."""

    imds: Item | None = None
    wireserver: Item | None = None
    hostga: Item | None = None


class Channel(Part, frozen=True):
    """The secure channel.

    Attributes:
        version: `none` is a host without the protocol: its status is 404.
        state: of version 1.0.
        enabled: of version 2.0.
        incarnation: of the first key; `absent` leaves it out of every answer.
        reacquire: True lets an agent acquire a key although one is latched.
        replay_seconds: how long a signature may come again.
        clock_offset: seconds by which the host's clock is ahead of this machine's.
    """

    version: Literal["1.0", "2.0", "none"] = "2.0"
    state: StateText = "WireserverAndImds"
    enabled: bool = True
    key_delivery: Literal["http", "vtpm"] = "http"
    required_claims: list[str] = field(default_factory=lambda: ["isRoot"])
    incarnation: Annotated[int, Meta(ge=0, lt=1 << 31)] | Literal["absent"] = 1
    reacquire: bool = False
    replay_seconds: Seconds = 5.0
    clock_offset: Annotated[float, Meta(ge=-1e9, le=1e9)] = 0.0


class Latency(Part, frozen=True):
    """Seconds before each answer, by endpoint."""

    imds: Seconds = 0.0
    wireserver: Seconds = 0.0
    hostga: Seconds = 0.0


class Machine(Part, frozen=True):
    """The VM that the host believes to serve."""

    name: Name = "emulated-vm"
    location: Name = "westeurope"
    size: Name = "Standard_D2s_v5"
    vm_id: GuidText = "02aab8a4-74ef-476e-8182-f6d2ba4166a6"
    subscription: GuidText = "8d10da13-8125-4ba9-a717-bf7490507b3d"
    resource_group: Name = "emulated-group"
    tags: dict[str, str] = field(default_factory=dict)
    private_address: Name = "10.0.0.4"
    public_address: str = ""
    goal_state: Annotated[int, Meta(ge=1)] = 1
    user_data: str = ""


class Identities(Part, frozen=True):
    """The managed identity of the VM; no `client_id`: it has none.

    Attributes:
        expires_in: life of a token, seconds.
    """

    client_id: GuidOrNothing = "a9ba1a70-9a0f-4e22-ae12-3bb4e4b1a7f5"
    object_id: GuidText = "6e4f7a3d-2d2b-4c53-a4f8-0c3c6d7b1e21"
    tenant_id: GuidText = "72f988bf-86f1-41af-91ab-2d7cd011db47"
    resource_id: str = ""
    expires_in: Annotated[int, Meta(ge=1)] = 86_399


class Scenario(Part, frozen=True):
    """All of it."""

    channel: Channel = field(default_factory=Channel)
    rules: Rules = field(default_factory=Rules)
    latency: Latency = field(default_factory=Latency)
    machine: Machine = field(default_factory=Machine)
    identity: Identities = field(default_factory=Identities)
    faults: list[Fault] = field(default_factory=list)

    def item(self, endpoint: EndpointName) -> Item | None:
        """What is sent for the endpoint; without a word about it, 2.0 enforces (hostga follows)."""
        item: Item | None = getattr(self.rules, endpoint)
        if item is None and self.channel.version == "2.0" and endpoint != "hostga":
            return _ENFORCED
        return item


_ENFORCED: Final = Item()


def from_document(document: object) -> Scenario:
    """Check a scenario that is parsed already.

    Raises:
        msgspec.ValidationError: with the path of what is wrong.
    """
    return msgspec.convert(document, Scenario)


def to_document(scenario: Scenario) -> dict[str, Any]:
    """The scenario as the control API shows it, with every default."""
    document: dict[str, Any] = msgspec.to_builtins(scenario)
    return document


def merged(document: dict[str, Any], patch: Mapping[str, object]) -> dict[str, Any]:
    """RFC 7396: objects are merged, null removes, everything else replaces."""
    result = dict(document)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            below = result.get(key)
            result[key] = merged(below if isinstance(below, dict) else {}, value)
        else:
            result[key] = value
    return result


def _undefined(rules: Access) -> Iterator[str]:
    """Names that are used and defined nowhere: a slip of the pen, unless sent as `raw`."""
    privileges = {privilege.name for privilege in rules.privileges}
    roles = {role.name for role in rules.roles}
    identities = {identity.name for identity in rules.identities}
    for role in rules.roles:
        for name in role.privileges:
            if name not in privileges:
                yield f"role {role.name!r} names the privilege {name!r}, which is not defined"
    for assignment in rules.role_assignments:
        if assignment.role not in roles:
            yield f"an assignment names the role {assignment.role!r}, which is not defined"
        for name in assignment.identities:
            if name not in identities:
                yield f"an assignment names the identity {name!r}, which is not defined"

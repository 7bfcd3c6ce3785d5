"""What the host says about the secure channel: bytes of a status answer to a checked value.

Pure. docs/protocol.md, "Secure channel". An answer that is not exactly what the protocol says
raises, and the caller keeps what is in force: nothing here has a default that opens.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from gpa.endpoints import Endpoint, Mode
from gpa.errors import HostAnswerError

if TYPE_CHECKING:
    from collections.abc import Mapping

_T = TypeVar("_T")

SCHEME: Final = "Azure-HMAC-SHA256"

GUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
"""Shape of a key's name. It becomes a file's name, so nothing else may pass."""

MAX_DEPTH: Final = 64
"""Containers in one another: a dozen are in use. What takes deeper ones apart, writes them down or
compares them would at some depth fail where nobody expects it."""

_STATES_V1: Final[Mapping[str, tuple[Mode, Mode]]] = {
    # state: (WireServer and HostGAPlugin, IMDS)
    "disabled": (Mode.DISABLED, Mode.DISABLED),
    "audit": (Mode.AUDIT, Mode.AUDIT),
    "wireserver": (Mode.ENFORCE, Mode.AUDIT),
    "wireserverandimds": (Mode.ENFORCE, Mode.ENFORCE),
}
_MODES_V2: Final = {mode.value: mode for mode in (Mode.DISABLED, Mode.AUDIT, Mode.ENFORCE)}

ALL_DISABLED: Final[Mapping[Endpoint, Mode]] = MappingProxyType(
    dict.fromkeys(Endpoint, Mode.DISABLED)
)
ALL_UNKNOWN: Final[Mapping[Endpoint, Mode]] = MappingProxyType(
    dict.fromkeys(Endpoint, Mode.UNKNOWN)
)


@dataclass(frozen=True)
class ChannelStatus:
    """A valid status answer.

    Attributes:
        version: "1.0" or "2.0".
        key_guid: the key that the host has latched, or None; in lower case.
        incarnation: how often the key was reset.
        delivery: "http" or "vtpm".
        modes: of each endpoint.
        rules: the host's item of each endpoint as parsed JSON; None where it sent none.
        state: the string shown to operators.
        claims: claims that the host wants and that we do not know.
        document: the JSON it came from, to be remembered.
    """

    version: str
    key_guid: str | None
    incarnation: int | None
    delivery: str
    modes: Mapping[Endpoint, Mode]
    rules: Mapping[Endpoint, Mapping[str, object] | None]
    state: str
    claims: tuple[str, ...]
    document: Mapping[str, object]

    @property
    def enabled(self) -> bool:
        """True when some endpoint needs a key."""
        return any(mode is not Mode.DISABLED for mode in self.modes.values())


def parse_status(body: bytes) -> ChannelStatus:
    """Check a status answer.

    Raises:
        HostAnswerError: not JSON, wrong types, unknown state, version or mode, impossible guid.
    """
    try:
        document = json.loads(body.removeprefix(b"\xef\xbb\xbf"))
    except (ValueError, RecursionError) as error:
        raise HostAnswerError(f"the host's status is not JSON: {_short(error)}") from error
    return from_document(document)


def from_document(document: object) -> ChannelStatus:
    """Check a status that is parsed already; raises `HostAnswerError`."""
    if not isinstance(document, dict):
        raise HostAnswerError("the host's status is not a JSON object")
    if _is_deep(document):
        raise HostAnswerError(f"the host's status is nested more than {MAX_DEPTH} deep")
    version = _typed(document, "version", str)
    if version not in ("1.0", "2.0"):
        raise HostAnswerError(f"the host speaks an unknown version {_short(version)}")
    scheme = _typed(document, "authorizationScheme", str)
    if scheme is not None and scheme.lower() != SCHEME.lower():
        raise HostAnswerError(f"the host wants an unknown signature {_short(scheme)}")
    delivery = (_typed(document, "keyDeliveryMethod", str) or "http").lower()
    if delivery not in ("http", "vtpm"):
        raise HostAnswerError(f"the host delivers keys by unknown means {_short(delivery)}")
    guid = _typed(document, "keyGuid", str) or None
    if guid is not None and not GUID.fullmatch(guid):
        raise HostAnswerError("the host's keyGuid is not a GUID")

    items = _items(document)
    if version == "1.0":
        modes, state = _modes_v1(document)
    else:
        modes, state = _modes_v2(document, items)
    wanted = _typed(document, "requiredClaimsHeaderPairs", list) or []
    return ChannelStatus(
        version=version,
        key_guid=guid.lower() if guid else None,
        incarnation=_typed(document, "keyIncarnationId", int),
        delivery=delivery,
        modes=MappingProxyType(modes),
        rules=MappingProxyType(items),
        state=state,
        claims=tuple(_short(claim) for claim in wanted if str(claim).lower() != "isroot")[:8],
        document=document,
    )


def _is_deep(document: dict[str, Any]) -> bool:
    level: list[Any] = [document]
    for _ in range(MAX_DEPTH):
        inner = [i.values() if isinstance(i, dict) else i for i in level]
        level = [child for items in inner for child in items if isinstance(child, dict | list)]
        if not level:
            return False
    return True


def state_text(modes: Mapping[Endpoint, Mode]) -> str:
    """The state as version 2.0 has always written it, two spaces before IMDS."""
    words = {endpoint: f"{endpoint.label} {modes[endpoint].title()}" for endpoint in Endpoint}
    return f"{words[Endpoint.WIRESERVER]} -  {words[Endpoint.IMDS]} - {words[Endpoint.HOSTGA]}"


def _items(document: Mapping[str, object]) -> dict[Endpoint, Mapping[str, object] | None]:
    """Items by endpoint; HostGAPlugin without one of its own takes WireServer's."""
    rules = _typed(document, "authorizationRules", dict) or {}
    items: dict[Endpoint, Mapping[str, object] | None] = {
        endpoint: _typed(rules, endpoint.value, dict) for endpoint in Endpoint
    }
    if items[Endpoint.HOSTGA] is None or document.get("version") == "1.0":
        items[Endpoint.HOSTGA] = items[Endpoint.WIRESERVER]
    return items


def _modes_v1(document: Mapping[str, object]) -> tuple[dict[Endpoint, Mode], str]:
    state = _typed(document, "secureChannelState", str)
    if state is None:
        raise HostAnswerError("the host's status of version 1.0 has no secureChannelState")
    try:
        wireserver, imds = _STATES_V1[state.lower()]
    except KeyError:
        raise HostAnswerError(f"the host names an unknown state {_short(state)}") from None
    modes = {Endpoint.IMDS: imds, Endpoint.WIRESERVER: wireserver, Endpoint.HOSTGA: wireserver}
    return modes, state.lower()


def _modes_v2(
    document: Mapping[str, object], items: Mapping[Endpoint, Mapping[str, object] | None]
) -> tuple[dict[Endpoint, Mode], str]:
    enabled = _typed(document, "secureChannelEnabled", bool)
    if enabled is None:
        raise HostAnswerError("the host's status of version 2.0 has no secureChannelEnabled")
    modes = {endpoint: _mode(item) for endpoint, item in items.items()}
    if not enabled:
        return dict(ALL_DISABLED), "disabled"
    return modes, state_text(modes)


def _mode(item: Mapping[str, object] | None) -> Mode:
    if item is None:
        return Mode.DISABLED
    mode = _typed(item, "mode", str)
    if mode is None or mode.lower() not in _MODES_V2:
        raise HostAnswerError(f"the host names an unknown mode {_short(mode)}")
    return _MODES_V2[mode.lower()]


def _typed(document: Mapping[str, object], key: str, want: type[_T]) -> _T | None:
    value = document.get(key)
    if value is None:
        return None
    if not isinstance(value, want) or (want is int and isinstance(value, bool)):
        raise HostAnswerError(f"the host's {key} has the wrong type")
    return value


def _short(value: object) -> str:
    """At most 64 characters of something foreign, fit for a message."""
    return ascii(str(value)[:64])

"""The host's end of the secure channel: which mode holds, which key (docs/protocol.md, "Secure
channel").

A key is acquired, then attested; only then is it latched, and keys before it are dead. `reset`
forgets the latched one and counts the incarnation up, as when a VM is moved or restored.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final, Literal

from gpa.emulator.key import Key, acquire_document, make_key
from gpa.emulator.message import ENDPOINTS
from gpa.emulator.signature import SCHEME

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpa.emulator.key import KeyFile
    from gpa.emulator.message import EndpointName
    from gpa.emulator.scenario import Channel as ChannelPart
    from gpa.emulator.scenario import Scenario

MAX_PENDING: Final = 16
"""Keys acquired and not attested; an agent wants one, the oldest of more is forgotten."""

Mode = Literal["disabled", "audit", "enforce"]

_STATES: Final[dict[str, tuple[Mode, Mode]]] = {
    # state of version 1.0: (WireServer and HostGAPlugin, IMDS)
    "disabled": ("disabled", "disabled"),
    "audit": ("audit", "audit"),
    "wireserver": ("enforce", "audit"),
    "wireserverandimds": ("enforce", "enforce"),
}
_MODES: Final[dict[str, Mode]] = {
    "disabled": "disabled", "audit": "audit", "enforce": "enforce", "absent": "disabled",
}  # fmt: skip


class ChannelError(Exception):
    """A call that the host refuses.

    Attributes:
        status: what it answers.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Channel:
    """State of the channel; `scenario` may be replaced at any time."""

    def __init__(
        self, scenario: Scenario, clock: Callable[[], float], file: KeyFile | None = None
    ) -> None:
        self.scenario = scenario
        self._clock = clock
        self._file = file
        self._pending: OrderedDict[str, Key] = OrderedDict()
        self._latched: Key | None = None
        first = scenario.channel.incarnation
        self._incarnation = first if isinstance(first, int) else 0
        stored = file.load() if file else None
        if stored is not None:
            self._latched, self._incarnation = stored

    @property
    def latched(self) -> Key | None:
        """The key that requests must be signed with."""
        return self._latched

    @property
    def incarnation(self) -> int:
        """How often the key was reset, beginning with the scenario's."""
        return self._incarnation

    @property
    def pending(self) -> tuple[str, ...]:
        """Guids of keys acquired and not attested."""
        return tuple(self._pending)

    def mode(self, endpoint: EndpointName) -> Mode:
        """What the host does at an endpoint."""
        channel = self.scenario.channel
        if channel.version == "none":
            return "disabled"
        if channel.version == "1.0":
            wireserver, imds = _STATES[channel.state.lower()]
            return imds if endpoint == "imds" else wireserver
        item = self.scenario.item(endpoint)
        if endpoint == "hostga" and (item is None or item.mode.lower() == "absent"):
            item = self.scenario.item("wireserver")
        if item is None or not channel.enabled:
            return "disabled"
        return _MODES[item.mode.lower()]

    def status(self) -> dict[str, object]:
        """The status document.

        Raises:
            ChannelError: 404, this host has no secure channel.
        """
        channel = self._protocol()
        document: dict[str, object] = {
            "authorizationScheme": SCHEME,
            "keyDeliveryMethod": channel.key_delivery,
            "keyGuid": self._latched.guid if self._latched else None,
            "requiredClaimsHeaderPairs": list(channel.required_claims),
            "version": channel.version,
        }
        if channel.incarnation != "absent":
            document["keyIncarnationId"] = self._incarnation
        if channel.version == "1.0":
            document["secureChannelState"] = channel.state
        else:
            document["secureChannelEnabled"] = channel.enabled
        items = {name: self.scenario.item(name) for name in ENDPOINTS}
        document["authorizationRules"] = {
            name: item.wire(name) if item else None for name, item in items.items()
        }
        return document

    def acquire(self, scheme: object) -> dict[str, object]:
        """A new key, which counts once it is attested.

        Raises:
            ChannelError: 404 no secure channel, 400 another scheme, 403 a key is latched.
        """
        channel = self._protocol()
        if scheme != SCHEME:
            raise ChannelError(400, f"authorizationScheme must be {SCHEME}")
        if self._latched and not channel.reacquire:
            raise ChannelError(
                403, f"the key {self._latched.guid} is latched for the life of this VM"
            )
        incarnation = self._incarnation + (1 if self._latched else 0)
        key = make_key(incarnation, self._clock())
        self._pending[key.guid] = key
        if len(self._pending) > MAX_PENDING:
            self._pending.popitem(last=False)
        return acquire_document(key, with_incarnation=channel.incarnation != "absent")

    def find(self, guid: str) -> tuple[Key, Literal["latched", "pending"]] | None:
        """A key by its guid, in any case of letters."""
        guid = guid.lower()
        if self._latched and self._latched.guid == guid:
            return self._latched, "latched"
        if guid in self._pending:
            return self._pending[guid], "pending"
        return None

    def attest(self, guid: str) -> None:
        """The agent has proved that it holds the key: it is latched. Doing so again is fine.

        Raises:
            ChannelError: 404, no such key was acquired, or a newer one was attested since.
        """
        self._protocol()
        found = self.find(guid)
        if found is None:
            raise ChannelError(404, "there is no such key: acquire one first")
        key, state = found
        if state == "pending":
            if self._file:
                self._file.store(key, key.incarnation)
            self._latched, self._incarnation = key, key.incarnation
            self._pending.clear()

    def reset(self) -> int:
        """Forget every key; gives the new incarnation."""
        self._latched = None
        self._pending.clear()
        self._incarnation += 1
        if self._file:
            self._file.store(None, self._incarnation)
        return self._incarnation

    def _protocol(self) -> ChannelPart:
        if self.scenario.channel.version == "none":
            raise ChannelError(404, "this host has no secure channel")
        return self.scenario.channel

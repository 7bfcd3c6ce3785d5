"""The key latch: which key is in force and what is to be done next. A state machine without I/O.

Law: all that decides about modes and key stands in this file; `host.py` only carries out. Each
thing that happens (`status`, `key_loaded`, `attested`, …) returns the actions that follow, in
order; the shell does them and says how they went, until nothing is left to do. Trouble ends a
round: the next status begins another.

    status names a key we hold ............................ latched
    status names another key .... Load → loaded ........... latched
                                       → not there ........ Acquire
    status names none ........... Acquire → stored ........ Attest → attested .... latched
    404 twice in a row .................................... no secure channel: disabled
    anything else ......................................... what is in force stays

A key is used only after the host said that it has latched it: by attestation, or by naming it in
a status. A key of an older incarnation than one used before is never used again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from gpa.agent.channel import ALL_DISABLED, ALL_UNKNOWN, ChannelStatus

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpa.endpoints import Endpoint, Mode

MISSING_BEFORE_ABSENT: Final = 2
"""One 404 may be a host that is being updated; two in a row are a host without the protocol."""

ATTEST_TRIES: Final = 3
"""So often a key is offered that the host rejects, before a new one is asked for."""


class Key(Protocol):
    """A handle that signs; the key itself stays in native memory."""

    @property
    def guid(self) -> str:
        """Name of the key."""

    @property
    def incarnation(self) -> int | None:
        """Which reset it belongs to."""

    def authorization(
        self, method: str, target: str, fields: list[tuple[str, str]], body: bytes
    ) -> str:
        """Value of x-ms-azure-host-authorization for the request."""


@dataclass(frozen=True)
class Load:
    """Look for the key on disk, then `key_loaded` or `key_not_loaded`."""

    guid: str


@dataclass(frozen=True)
class Acquire:
    """Ask the host for a key and store it durably, then `acquired` or `acquire_failed`."""


@dataclass(frozen=True)
class Attest:
    """Tell the host, signed, that the key is stored; then `attested` or `attest_failed`."""

    key: Key


@dataclass(frozen=True)
class Publish:
    """Modes, rules or key in force have changed."""


@dataclass(frozen=True)
class Remember:
    """What is known should survive a restart: `Latch.remembered`."""


@dataclass(frozen=True)
class Report:
    """One line for operators."""

    words: str
    trouble: bool = True


Action = Load | Acquire | Attest | Publish | Remember | Report


class Latch:
    """The machine.

    Attributes:
        status_in_force: the last valid status, from this run or remembered from the one before.
        key: the key in force, None while there is none.
        known: True once the host answered in this run: a status, or that it has none.
        absent: True when the host has no secure channel.
        message: how things stand, one line for operators.
    """

    def __init__(
        self,
        remembered: ChannelStatus | None = None,
        *,
        absent: bool = False,
        newest: int | None = None,
    ) -> None:
        self.status_in_force = remembered
        self.key: Key | None = None
        self.known = False
        self.absent = absent
        self.message = "waiting for the host's first status"
        self._newest = newest
        self._pending: Key | None = None
        self._rejections = 0
        self._missing = 0
        self._last_trouble = ""

    @property
    def modes(self) -> Mapping[Endpoint, Mode]:
        """Modes in force; unknown before the first status ever."""
        if self.absent:
            return ALL_DISABLED
        return self.status_in_force.modes if self.status_in_force else ALL_UNKNOWN

    @property
    def state(self) -> str:
        """The state string shown to operators."""
        if self.absent:
            return "disabled"
        return self.status_in_force.state if self.status_in_force else "unknown"

    @property
    def latched(self) -> bool:
        """True when a key is in force."""
        return self.key is not None

    @property
    def ready(self) -> bool:
        """True when requests can be served as the host wants it."""
        if not self.known:
            return False
        return self.absent or self.latched or not (self.status_in_force and self._enabled)

    @property
    def newest_incarnation(self) -> int | None:
        """The newest incarnation whose key was in force."""
        return self._newest

    @property
    def _enabled(self) -> bool:
        return self.status_in_force is not None and self.status_in_force.enabled

    # What happens.

    def status(self, status: ChannelStatus) -> list[Action]:
        """The host answered with a valid status."""
        before = (self.known, self.absent, self.status_in_force)
        self._missing = 0
        self.known, self.absent, self.status_in_force = True, False, status
        actions: list[Action] = []
        if before != (True, False, status):
            actions += [Publish(), Remember()]
            actions += [
                Report(f"the host wants the claim {claim}, which is unknown and ignored")
                for claim in status.claims
            ]
        if not status.enabled:
            self._pending = None
            return [*actions, *self._drop_key(), *self._say("the host has disabled protection")]
        if status.delivery != "http":
            trouble = f"the host delivers keys by {status.delivery}, which is not supported"
            return [*actions, *self._trouble(trouble)]
        if status.key_guid is None:
            return [*actions, *self._none_latched()]
        return [*actions, *self._key_named(status.key_guid)]

    def status_missing(self) -> list[Action]:
        """The host answered 404."""
        self._missing += 1
        if self._missing < MISSING_BEFORE_ABSENT:
            return self._trouble("the host does not know /secure-channel/status, asking once more")
        actions: list[Action] = []
        if not self.absent:
            actions += [Publish(), Remember()]
        self.known, self.absent, self._pending = True, True, None
        words = "the host has no secure channel: nothing is protected until it answers a status"
        return [*self._drop_key(), *actions, *self._say(words, trouble=True)]

    def status_failed(self, why: str) -> list[Action]:
        """No answer, or one that is not valid: what is in force stays."""
        self._missing = 0
        return self._trouble(why)

    def key_loaded(self, key: Key) -> list[Action]:
        """The key that the status names was on disk."""
        if self._is_stale(key):
            words = f"the stored key {key.guid} is of an older incarnation and is not used"
            return [Report(words), Acquire()]
        return self._use(key, "from disk")

    def key_not_loaded(self, why: str | None) -> list[Action]:
        """It was not there (`why` None) or cannot be used."""
        reports: list[Action] = [] if why is None else [Report(why)]
        return [*reports, Acquire()]

    def acquired(self, key: Key) -> list[Action]:
        """The host gave a key and it is stored."""
        if self._is_stale(key):
            return self._trouble(
                f"the host gave the key {key.guid} of an older incarnation, which is not used"
            )
        self._pending, self._rejections = key, 0
        return [Attest(key)]

    def acquire_failed(self, why: str) -> list[Action]:
        """No key, or it could not be stored."""
        return self._trouble(why)

    def attested(self) -> list[Action]:
        """The host took the attestation of the pending key."""
        if self._pending is None:
            return []
        return self._use(self._pending, "attested")

    def attest_failed(self, why: str, *, rejected: bool) -> list[Action]:
        """The host did not take it; `rejected` when it answered and said no."""
        self._rejections += rejected
        if self._rejections >= ATTEST_TRIES:
            self._pending = None
            why += "; asking for a new key"
        return self._trouble(why)

    # What follows.

    def _none_latched(self) -> list[Action]:
        actions: list[Action] = []
        if self.key is not None:
            actions.append(Report(f"the host has reset the key {self.key.guid}: latching anew"))
            actions += self._drop_key()
        follow = Acquire() if self._pending is None else Attest(self._pending)
        return [*actions, follow]

    def _key_named(self, guid: str) -> list[Action]:
        if self.key is not None and self.key.guid.lower() == guid and not self._is_stale(self.key):
            self._pending = None
            return self._say(self._latched_words(self.key))
        if self._pending is not None and self._pending.guid.lower() == guid:
            # The answer to the attestation was lost on the way; the host has it all the same.
            return self._use(self._pending, "named by the host")
        return [*self._drop_key(), Load(guid)]

    def _use(self, key: Key, how: str) -> list[Action]:
        self.key, self._pending, self._rejections = key, None, 0
        if key.incarnation is not None:
            self._newest = max(key.incarnation, self._newest or key.incarnation)
        words = self._latched_words(key)
        self.message, self._last_trouble = words, ""
        return [Publish(), Remember(), Report(f"{words}, {how}", trouble=False)]

    def _is_stale(self, key: Key) -> bool:
        named = self.status_in_force.incarnation if self.status_in_force else None
        floor = max((n for n in (self._newest, named) if n is not None), default=None)
        return floor is not None and key.incarnation is not None and key.incarnation < floor

    def _drop_key(self) -> list[Action]:
        if self.key is None:
            return []
        self.key = None
        return [Publish()]

    @staticmethod
    def _latched_words(key: Key) -> str:
        return f"the key {key.guid} is latched"

    def _say(self, words: str, *, trouble: bool = False) -> list[Action]:
        self._last_trouble = ""
        if words == self.message:
            return []
        self.message = words
        return [Report(words, trouble=trouble)]

    def _trouble(self, words: str) -> list[Action]:
        """Show it as long as it lasts; report it when it changes, not at each poll."""
        if not self.latched:
            self.message = words
        if words == self._last_trouble:
            return []
        self._last_trouble = words
        return [Report(words)]

"""Is this request what the protocol says (docs/protocol.md, "Forwarded request" and "Signature")?

An examination begins with the head, takes the body piece by piece and ends with a verdict. Nothing
is read leniently: what an agent sends must be right to the byte.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from gpa.emulator.dates import parse_http_date
from gpa.emulator.replay import ReplayError, ReplayGuard, StaleError
from gpa.emulator.signature import AUTHORIZATION, Signature

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpa.emulator.channel import Channel
    from gpa.emulator.message import Request

CLAIMS: Final = b"x-ms-azure-host-claims"
DATE: Final = b"x-ms-azure-host-date"
PROTECTED: Final = (AUTHORIZATION, CLAIMS, DATE)

ROOT_CLAIMS: Final = {b'{ "isRoot": "true"}': True, b'{ "isRoot": "false"}': False}
"""The two values of the claims, byte for byte."""

EXEMPT: Final = {
    ("hostga", b"PUT", b"/vmagentlog"),
    ("wireserver", b"POST", b"/machine/?comp=telemetrydata"),
}
"""Large uploads that need no signature: exactly these, in any case of letters."""

UNSIGNED: Final = {
    ("wireserver", b"GET", b"/secure-channel/status"),
    ("wireserver", b"POST", b"/secure-channel/key"),
}
"""Calls of the secure channel that come before there is a key."""

_AUTHORIZATION: Final = re.compile(
    rb"Azure-HMAC-SHA256 ([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}) ([0-9a-f]{64})"
)


class Verdict(StrEnum):
    """What the host thinks of a request; only the first three are fine."""

    VALID = "valid"
    EXEMPT = "exempt"  # unsigned, and need not be signed
    DISABLED = "disabled"  # unsigned, at an endpoint that is not protected
    UNSIGNED = "unsigned"
    MALFORMED = "malformed"  # a field of ours is not as the protocol writes it
    AMBIGUOUS = "ambiguous"  # a field whose name some servers take for one of ours
    UNKNOWN_KEY = "unknown_key"
    NOT_ATTESTED = "not_attested"
    MISMATCH = "mismatch"  # another signature than what was sent asks for
    STALE = "stale"
    REPLAY = "replay"
    NOT_ROOT = "not_root"  # a caller that is not root, at an endpoint for root alone

    @property
    def is_fine(self) -> bool:
        """True when an enforcing host serves it."""
        return self in (Verdict.VALID, Verdict.EXEMPT, Verdict.DISABLED)


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict and what the record says about it.

    Attributes:
        words: why, for people; never part of a signature.
        key: guid that the request names.
        is_root: the claim; None without a readable one.
        skew: seconds by which its date is ahead of the host's clock.
    """

    verdict: Verdict
    words: str = ""
    key: str | None = None
    is_root: bool | None = None
    skew: float | None = None


class Judge:
    """Examines requests against the state of a channel."""

    def __init__(self, channel: Channel, clock: Callable[[], float]) -> None:
        self._channel = channel
        self._clock = clock
        self.replays = ReplayGuard()

    def examine(self, request: Request) -> Examination:
        """Begin with the head; `now` of the examination is this moment."""
        return Examination(self._channel, self.replays, request, self._clock())


class Examination:
    """One request: `update` with its body, then `judge`."""

    def __init__(
        self, channel: Channel, replays: ReplayGuard, request: Request, now: float
    ) -> None:
        self._channel = channel
        self._replays = replays
        self._request = request
        self._now = now
        self._signature: Signature | None = None
        self._claimed = b""
        self._guid: str | None = None
        self._trouble = self._read_head()

    @property
    def is_unsigned(self) -> bool:
        """Known from the head: it carries no signature, so its body changes nothing."""
        return self._guid is None

    def update(self, piece: bytes) -> None:
        """The next bytes of the body."""
        if self._signature is not None:
            self._signature.update(piece)

    def judge(self) -> Judgement:
        """The verdict, once the body is complete."""
        is_root, skew = self._claims(), self._skew()
        verdict, words = self._trouble or self._verify(is_root)
        return Judgement(verdict, words, self._guid, is_root, skew)

    def _read_head(self) -> tuple[Verdict, str] | None:
        """What is wrong already; None when the signature decides."""
        request = self._request
        for name, _ in request.fields:
            folded = re.sub(rb"[^a-z0-9]", b"-", name)
            if name not in PROTECTED and folded in PROTECTED:
                return Verdict.AMBIGUOUS, f"a field is called {name.decode('latin-1')}"
        values = request.values(AUTHORIZATION)
        if not values:
            return self._unsigned()
        found = _AUTHORIZATION.fullmatch(values[0])
        if found is None or len(values) > 1:
            return Verdict.MALFORMED, "the authorization is not as the protocol writes it"
        self._guid = found[1].decode().lower()
        self._claimed = bytes.fromhex(found[2].decode())
        key = self._channel.find(self._guid)
        if key is None:
            return Verdict.UNKNOWN_KEY, "the request names a key that the host does not have"
        if key[1] == "pending" and attested_guid(request) != self._guid:
            return Verdict.NOT_ATTESTED, "the request names a key that was never attested"
        self._signature = Signature(key[0].secret, request)
        return None

    def _unsigned(self) -> tuple[Verdict, str]:
        what = (self._request.endpoint, self._request.method.upper(), self._request.target.lower())
        if what in EXEMPT or what in UNSIGNED:
            return Verdict.EXEMPT, ""
        guid = attested_guid(self._request)
        if guid is None and self._channel.mode(self._request.endpoint) == "disabled":
            return Verdict.DISABLED, ""
        return Verdict.UNSIGNED, "the request is not signed"

    def _verify(self, is_root: bool | None) -> tuple[Verdict, str]:
        assert self._signature is not None  # noqa: S101 - _read_head found no trouble
        if not self._signature.verify(self._claimed):
            return Verdict.MISMATCH, "the signature is not that of what arrived"
        if is_root is None:
            return Verdict.MALFORMED, "the claims are not as the protocol writes them"
        try:
            date = self._date()
        except ValueError as error:
            return Verdict.MALFORMED, f"the date is not as the protocol writes it: {error}"
        try:
            self._replays.check_date(date, self._now)
            window = self._channel.scenario.channel.replay_seconds
            self._replays.check(self._claimed, date, self._now, window)
        except StaleError as error:
            return Verdict.STALE, str(error)
        except ReplayError as error:
            return Verdict.REPLAY, str(error)
        if self._request.endpoint != "imds" and not is_root:
            return Verdict.NOT_ROOT, "the claims say that the caller is not root"
        return Verdict.VALID, ""

    def _claims(self) -> bool | None:
        values = self._request.values(CLAIMS)
        return ROOT_CLAIMS.get(values[0]) if len(values) == 1 else None

    def _date(self) -> int:
        values = self._request.values(DATE)
        if len(values) != 1:
            raise ValueError("it must be there once")
        return parse_http_date(values[0].decode("latin-1"))

    def _skew(self) -> float | None:
        try:
            return round(self._date() - self._now, 3)
        except ValueError:
            return None


_ATTESTATION: Final = re.compile(rb"/secure-channel/key/([^/]+)/key-attestation", re.IGNORECASE)


def attested_guid(request: Request) -> str | None:
    """The guid that an attestation is about; None for every other request."""
    if request.endpoint != "wireserver":
        return None
    found = _ATTESTATION.fullmatch(request.target)
    return found[1].decode("latin-1").lower() if found else None

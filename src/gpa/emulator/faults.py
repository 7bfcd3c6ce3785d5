"""Trouble on demand: what may be spoiled, and for which requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gpa.emulator.message import Request

MAX_FAULTS: Final = 1_000
"""More than anybody can want; a loop that adds faults is stopped here."""

Seconds = Annotated[float, Meta(ge=0, le=3600)]
Times = Annotated[int, Meta(ge=1)]

Garbled = Literal[
    "not_json", "empty", "truncated", "not_an_object", "wrong_types", "no_version",
    "unknown_version", "no_state", "unknown_state", "unknown_mode", "bad_guid", "huge",
]  # fmt: skip


class _Fault(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="kind"):
    """What all have: which requests, and how often.

    Attributes:
        endpoint, method: of the requests it hits; all without.
        path: what the path of the target begins with, in any case of letters.
        times: how many requests are hit; all without.
    """

    endpoint: Literal["imds", "wireserver", "hostga"] | None = None
    method: str | None = None
    path: str | None = None
    times: Times | None = None

    def hits(self, request: Request) -> bool:
        """True for a request of this kind."""
        return (
            self.endpoint in (None, request.endpoint)
            and (self.method is None or self.method.upper() == request.verb.upper())
            and (self.path is None or request.path.startswith(self.path.lower()))
        )


class LatencyFault(_Fault, frozen=True, tag="latency", kw_only=True):
    """The answer comes so many seconds later."""

    seconds: Seconds


class HoldFault(_Fault, frozen=True, tag="hold"):
    """The answer comes when it is released."""


class InterimFault(_Fault, frozen=True, tag="interim"):
    """An interim answer first (103 Early Hints)."""


class ResetFault(_Fault, frozen=True, tag="reset"):
    """The connection is reset after the head, without an answer."""


class CloseFault(_Fault, frozen=True, tag="close"):
    """The connection is closed after the head, without an answer."""


class BlackHoleFault(_Fault, frozen=True, tag="black_hole"):
    """Nothing is ever answered, until the client leaves."""


class StatusFault(_Fault, frozen=True, tag="status", kw_only=True):
    """Another status, with a body and Retry-After if wanted."""

    status: Annotated[int, Meta(ge=200, le=599)]
    retry_after: int | None = None
    body: str | None = None


class GarbageFault(_Fault, frozen=True, tag="garbage"):
    """Bytes that are not HTTP, then the end of the connection."""


class TruncateFault(_Fault, frozen=True, tag="truncate"):
    """The answer stops after `after` bytes of its body (default: half); closed, or `reset`."""

    after: Annotated[int, Meta(ge=0)] | None = None
    reset: bool = False


class DripFault(_Fault, frozen=True, tag="drip"):
    """The body comes in pieces of so many bytes, each after a pause of so many seconds."""

    bytes: Annotated[int, Meta(ge=1)] = 16
    seconds: Seconds = 0.05


class FramingFault(_Fault, frozen=True, tag="framing", kw_only=True):
    """The end of the body is told in another way: chunks, chunks with trailers, or closing."""

    framing: Literal["chunked", "trailers", "close"]


class LastFault(_Fault, frozen=True, tag="last"):
    """The answer says `Connection: close`."""


class DropFault(_Fault, frozen=True, tag="drop"):
    """The connection is closed after the answer, which did not say so."""


class UnaskedFault(_Fault, frozen=True, tag="unasked"):
    """After the answer come bytes of another one that nobody asked for."""


class GarbledStatusFault(_Fault, frozen=True, tag="garbled_status", kw_only=True):
    """The status of the secure channel is not what the protocol says."""

    variant: Garbled


Fault = (
    LatencyFault
    | HoldFault
    | InterimFault
    | ResetFault
    | CloseFault
    | BlackHoleFault
    | StatusFault
    | GarbageFault
    | TruncateFault
    | DripFault
    | FramingFault
    | LastFault
    | DropFault
    | UnaskedFault
    | GarbledStatusFault
)


def kind(fault: Fault) -> str:
    """Its name in scenarios and records."""
    return str(fault.__struct_config__.tag)


class FaultBook:
    """The faults in force, each with an id and with what is left of it."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._next = 0
        self._faults: dict[int, tuple[Fault, int | None]] = {}
        self.replace(faults)

    def add(self, fault: Fault) -> int:
        """One more; gives its id.

        Raises:
            ValueError: there are too many.
        """
        if len(self._faults) >= MAX_FAULTS:
            raise ValueError(f"there are {MAX_FAULTS} faults already: remove some")
        self._next += 1
        self._faults[self._next] = (fault, fault.times)
        return self._next

    def remove(self, number: int) -> bool:
        """False when there is none of this id."""
        return self._faults.pop(number, None) is not None

    def replace(self, faults: Iterable[Fault]) -> None:
        """These and no others."""
        self._faults.clear()
        for fault in faults:
            self.add(fault)

    def remove_kind(self, name: str) -> None:
        """Every fault of a kind."""
        for number in [n for n, (fault, _) in self._faults.items() if kind(fault) == name]:
            del self._faults[number]

    def take(self, request: Request) -> list[Fault]:
        """Those that hit this request, in the order they were added; what is used up is removed."""
        hit = [(n, fault, left) for n, (fault, left) in self._faults.items() if fault.hits(request)]
        for number, fault, left in hit:
            if left == 1:
                del self._faults[number]
            elif left is not None:
                self._faults[number] = (fault, left - 1)
        return [fault for _, fault, _ in hit]

    def document(self) -> list[dict[str, object]]:
        """As the control API shows them: `times` is what is left."""
        rows: list[dict[str, object]] = []
        for number, (fault, left) in self._faults.items():
            row: dict[str, object] = {"id": number, **msgspec.to_builtins(fault)}
            if left is not None:
                row["times"] = left
            rows.append(row)
        return rows

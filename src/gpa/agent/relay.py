"""What Python needs of the native relay, as types.

The relay carries requests in threads of its own and never calls Python. It is given snapshots and
a clock; it gives rows of audit records and the few questions that it leaves to us.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence


class Question(NamedTuple):
    """A request to one of the agent's own endpoints.

    Attributes:
        token: names it in the answer.
        path: "/provision" or "/gpa-aggregated-status".
        caller: `struct gpa_ident`, empty when unknown.
        notify: the caller wants the host asked at once.
        tick: unix ns of x-ms-azure-time-tick, None when absent.
    """

    token: int
    path: str
    caller: bytes
    notify: bool
    tick: int | None


class Relay(Protocol):
    """`gpa._native.Relay`."""

    def listen(self, fd: int) -> int:
        """Accept on a listening socket; the descriptor is duplicated. A name for `unlisten`."""

    def unlisten(self, listener: int) -> None:
        """Accept on it no more and close the duplicate; connections made through it stay."""

    def set_records_map(self, fd: int) -> None:
        """Ask this map who is calling where a socket does not answer; duplicated."""

    def publish(self, snapshot: Any) -> None:
        """Judge by this snapshot from now on; it is native and opaque here."""

    def set_clock(self, host_unix_ns: int, boottime_ns: int) -> None:
        """The host's wall clock at a moment of CLOCK_BOOTTIME."""

    def wake_fd(self) -> int:
        """An eventfd that is written once after `arm` when there is something to take."""

    def arm(self) -> None:
        """Write the eventfd at the next record or question."""

    def take_records(self, limit: int) -> bytes:
        """Rows of `struct gpa_audit`, at most `limit` of them, oldest first."""

    def questions(self) -> Sequence[tuple[int, str, bytes, bool, int | None]]:
        """Questions that wait, see `Question`."""

    def strangers(self) -> Sequence[bytes]:
        """`struct gpa_ident` of callers whose first request waits until they were looked at."""

    def answer(self, token: int, status: int, body: bytes) -> None:
        """Answer one of them with JSON."""

    def counters(self) -> dict[str, int]:
        """Counts since the start."""

    def drain(self, seconds: float, take_waiting: bool) -> bool:
        """Finish what has begun; False when the time was over first. Blocking.

        With `take_waiting` those that wait to be accepted are served first; else they are left to
        whoever takes the listener over.
        """

    def stop(self) -> None:
        """End the threads. Blocking."""

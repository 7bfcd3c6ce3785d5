"""What arrived: a record a request, in memory and as JSON lines.

Never a key, never a signature, never a body.
"""

from __future__ import annotations

import os
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Final

import msgspec
import trio
from msgspec import Struct

from gpa.errors import CannotCreateError

if TYPE_CHECKING:
    from pathlib import Path

REMEMBERED: Final = 10_000
"""Records that the control API can still show."""

FILE_BYTES: Final = 256 << 20
"""A larger record file becomes `FILE.1`, in place of the one before."""


class Record(Struct):
    """One request; docs/emulator.md explains the fields. `None` is what is not known.

    Attributes:
        id: from 1, in the order in which requests end.
        time: when its head was complete, on the host's clock.
        connection, request: numbers, both from 1.
        body: bytes that arrived; `digest` is their SHA-256.
        signature: a verdict of `judge`, or `unjudged` when the request was never complete.
        skew: seconds by which its date is ahead of the host's clock.
        status: that was answered; None when nothing was.
        sent: bytes of the answer's body that went out; `complete` says whether those were all.
        microseconds: from the head to the end of the answer.
    """

    time: str
    endpoint: str
    peer: str
    connection: int
    request: int
    method: str
    target: str
    fields: list[str]
    id: int = 0
    mode: str = "disabled"
    body: int = 0
    digest: str | None = None
    signature: str = "unjudged"
    why: str = ""
    key: str | None = None
    is_root: bool | None = None
    skew: float | None = None
    status: int | None = None
    sent: int = 0
    complete: bool = False
    faults: list[str] = msgspec.field(default_factory=list)
    microseconds: int = 0


class Recorder:
    """Takes records as requests end."""

    def __init__(self, path: Path | None = None) -> None:
        self._ring: deque[Record] = deque(maxlen=REMEMBERED)
        self._path = path
        self._fd: int | None = None
        self._written = 0
        self._last = 0
        self._changed = trio.Event()
        self.verdicts: dict[str, int] = {}
        self.lost = 0
        if path is not None:
            self._open(path)

    def add(self, record: Record) -> None:
        """The request has ended; it gets its id, in the order in which requests end."""
        self._last += 1
        record.id = self._last
        self._ring.append(record)
        self.verdicts[record.signature] = self.verdicts.get(record.signature, 0) + 1
        self._changed.set()
        self._changed = trio.Event()
        if self._fd is not None:
            self._write(msgspec.json.encode(record) + b"\n")

    @property
    def last(self) -> int:
        """Id of the latest record, 0 before the first."""
        return self._last

    def since(self, number: int, limit: int) -> list[Record]:
        """The first `limit` of the records with a greater id."""
        return list(islice((record for record in self._ring if record.id > number), limit))

    def clear(self) -> None:
        """Forget those in memory; the file stays."""
        self._ring.clear()
        self.verdicts.clear()

    async def wait(self) -> None:
        """Until the next record."""
        await self._changed.wait()

    def close(self) -> None:
        """Close the file."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _open(self, path: Path) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._fd = os.open(path, flags, 0o600)
            self._written = os.fstat(self._fd).st_size
        except OSError as error:
            raise CannotCreateError(f"cannot write {path}: {error.strerror}") from error

    def _write(self, line: bytes) -> None:
        assert self._fd is not None and self._path is not None  # noqa: S101, PT018 - add() asked
        try:
            if self._written > FILE_BYTES:
                self._path.replace(self._path.with_name(self._path.name + ".1"))
                self.close()
                self._open(self._path)
            if self._fd is not None:
                self._written += os.write(self._fd, line)
        except (OSError, CannotCreateError):  # disk full: the judge goes on, health says so
            self.lost += 1

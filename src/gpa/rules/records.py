"""Lines of `audit.jsonl` as values, for the tools that learn from what was asked (docs/audit.md).

A log is read as it lies: by many lines at a time, whatever its size, the older parts that rotation
made before the newest, what was written by a later version read for what is known of it. A line
that is no record is counted and passed over: one that was being written when the disk was full or
the machine went down is no reason to lose the others.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from typing import TYPE_CHECKING, BinaryIO, Final

import msgspec

from gpa.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

CHUNK: Final = 1 << 20
"""Bytes read at a time: large enough that the decoder, not the loop, takes the time."""

MAX_LINE: Final = 64 << 10
"""Bytes; a record in full has at most some 12 KiB. What is longer is not one of ours."""

OLDER_PARTS: Final = 99
"""How far `audit.jsonl.1`, `.2` … are looked for; the agent keeps four."""

STDIN: Final = "-"


class Record(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """One request, as far as its record tells. None: the record does not say.

    Attributes:
        time: RFC 3339, UTC.
        endpoint: `imds`, `wireserver`, `hostga`, `local`.
        exe: last component of the executable's path; null where the kernel could not tell.
        euid: where it is not `uid`, and in every record in full.
        path: all of that path.
        user: name of `uid` in the user database, `groups` those that he is in.
        The others are as in docs/audit.md.
    """

    time: str
    id: str
    endpoint: str | None
    method: str
    target: str
    decision: str
    reason: str
    status: int = 0
    epoch: int = 0
    privilege: str | None = None
    role: str | None = None
    identity: str | None = None
    uid: int | None = None
    exe: str | msgspec.UnsetType | None = msgspec.UNSET
    euid: int | None = None
    gid: int | None = None
    egid: int | None = None
    user: str | None = None
    groups: tuple[str, ...] | None = None
    path: str | None = None
    unit: str | None = None
    slice: str | None = None
    container: str | None = None

    @property
    def judged(self) -> bool:
        """True when rules, or their absence, had a say in what became of it."""
        return self.decision in _JUDGED and self.reason not in _NO_MATTER_OF_RULES

    @property
    def let_through(self) -> bool:
        """True when it went on to the host, also when only audit mode let it."""
        return self.decision in ("allow", "audit-allow", "fail")


_JUDGED: Final = frozenset({"allow", "audit-allow", "deny", "fail"})
_NO_MATTER_OF_RULES: Final = frozenset({"exempt", "local", "not_root"})


class Reading:
    """Reads logs, one after the other.

    Attributes:
        lines: that were records.
        unreadable: lines that were not, the last one of a part excepted.
        torn: last lines without an end that were not, either: they were being written.
    """

    def __init__(self) -> None:
        self.lines = 0
        self.unreadable = 0
        self.torn = 0
        self._decoder = msgspec.json.Decoder(Record)

    def files(self, paths: Iterable[Path]) -> Iterator[Record]:
        """Records of logs and of their older parts; `-` is standard input.

        Raises:
            ConfigError: one cannot be read.
        """
        for path in with_older_parts(paths):
            with _open(path) as file:
                yield from self.stream(file)

    def stream(self, file: BinaryIO) -> Iterator[Record]:
        """Records of one open file, from where it stands."""
        rest = b""
        skipping = False
        while data := file.read(CHUNK):
            whole, newline, after = data.rpartition(b"\n")
            if not newline:
                # A piece without an end of line: part of a line, perhaps of one that never ends.
                skipping = skipping or len(rest) + len(data) > MAX_LINE
                rest = b"" if skipping else rest + data
                continue
            lines = rest + whole
            if skipping:
                self.unreadable += 1
                lines = lines.partition(b"\n")[2]
            yield from self._decode(lines)
            rest, skipping = after, False
        if rest or skipping:
            record = self._decode_one(rest)
            if record is None:
                self.torn += 1
            else:
                yield record

    def _decode(self, lines: bytes) -> Iterator[Record]:
        try:
            records = self._decoder.decode_lines(lines)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            for line in lines.split(b"\n"):
                if not line.strip():
                    continue
                record = self._decode_one(line)
                if record is None:
                    self.unreadable += 1
                else:
                    yield record
        else:
            self.lines += len(records)
            yield from records

    def _decode_one(self, line: bytes) -> Record | None:
        if len(line) > MAX_LINE:
            return None
        try:
            record = self._decoder.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        self.lines += 1
        return record


def with_older_parts(paths: Iterable[Path]) -> list[Path]:
    """Each file once, oldest part first: `audit.jsonl` brings `audit.jsonl.1` … along."""
    files: dict[Path, None] = {}
    for path in paths:
        parts = [path]
        if str(path) != STDIN:
            for number in range(1, OLDER_PARTS + 1):
                older = path.with_name(f"{path.name}.{number}")
                if not older.is_file():
                    break
                parts.append(older)
        files.update(dict.fromkeys(reversed(parts)))
    return list(files)


@contextlib.contextmanager
def _open(path: Path) -> Iterator[BinaryIO]:
    if str(path) == STDIN:
        yield sys.stdin.buffer
        return
    try:
        # Without O_NONBLOCK the open of a FIFO waits for somebody to write.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise ConfigError(f"{path} is not a plain file")
    with os.fdopen(fd, "rb") as file:
        yield file

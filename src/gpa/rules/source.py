"""A file of rules as somebody wrote it: its value, and where in the text everything stands.

For the tools on rules, and for the words of the agent about a local file that is not valid. Places
are written as `validate` writes them: `rules.roles[1].privileges[0]`.
"""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from bisect import bisect_right
from typing import TYPE_CHECKING, Final, NamedTuple

from gpa.errors import SourceError
from gpa.rules.scan import Branch, ScanError, Scanned, scan

if TYPE_CHECKING:
    from pathlib import Path

    from gpa.rules.scan import Place

MAX_BYTES: Final = 16 << 20
"""Of a file that a tool reads. The agent takes 1 MiB; what it writes about rules of that size, with
all that follows from them, is some times larger. What is read takes 30 to 100 times its text."""

WIDTH: Final = 100
"""Columns of a quoted line: a terminal has some more."""

_BOM: Final = b"\xef\xbb\xbf"
_INDEX: Final = re.compile(r"\[([0-9]{1,9})\]")
_PLAIN_KEY: Final = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")


class Position(NamedTuple):
    """A character of a text: its line and its column, both from 1."""

    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.line}:{self.column}"


class RepeatedKey(NamedTuple):
    """A key that is there twice; the later one counts.

    Attributes:
        place: of the value.
        key: the key.
        first: where it stands first.
        again: where it stands once more.
    """

    place: str
    key: str
    first: Position
    again: Position


class Source:
    """JSON text that was read. `name` is how messages call it, `value` is what it says."""

    def __init__(self, name: str, lines: _Lines, scanned: Scanned) -> None:
        self.name = name
        self.value = scanned.value
        self._scanned = scanned
        self._lines = lines

    @classmethod
    def read(cls, path: Path, limit: int = MAX_BYTES) -> Source:
        """Read and scan a file, whoever's it is. Never waits for a writer of a FIFO.

        Raises:
            SourceError: it cannot be read, is not a plain file, is too large, or is not JSON.
        """
        return cls.parse(_bytes_of(path, limit), str(path))

    @classmethod
    def parse(cls, data: bytes, name: str) -> Source:
        """Scan bytes; a byte order mark may stand before them.

        Raises:
            SourceError: they are not UTF-8, or not JSON; it has the place and the line.
        """
        data = data.removeprefix(_BOM)
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            lines = _Lines(data.decode(errors="replace"))
            offset = len(data[: error.start].decode(errors="replace"))
            words = f"is not UTF-8: byte 0x{data[error.start]:02x} cannot stand here"
            if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
                words = "is not UTF-8 but UTF-16: save it as UTF-8"
            raise _located(name, words, lines, offset) from None
        lines = _Lines(text)
        try:
            scanned = scan(text)
        except ScanError as error:
            raise _located(name, f"is not JSON: {error}", lines, error.offset) from None
        return cls(name, lines, scanned)

    def within(self, *path: str | int) -> Source | None:
        """What stands under these keys and indices, as a source with places of its own; None where
        there is nothing. `repeated` stays that of the whole."""
        value, place = self.value, self._scanned.root
        for step in path:
            if not isinstance(place, Branch):
                return None
            if isinstance(step, int):
                if not (isinstance(value, list) and 0 <= step < len(value)):
                    return None
                value, place = value[step], place.items[step]
            else:
                if not (isinstance(value, dict) and step in value):
                    return None
                value, place = value[step], place.members[step][1]
        return Source(self.name, self._lines, Scanned(value, place, self._scanned.repeated))

    @property
    def repeated(self) -> tuple[RepeatedKey, ...]:
        """Keys that some object has more than once."""
        return tuple(
            RepeatedKey(
                join(*again.path, again.key),
                again.key,
                self._lines.position(again.first),
                self._lines.position(again.again),
            )
            for again in self._scanned.repeated
        )

    def at(self, place: str) -> Position:
        """Where the value of a place begins; of one that is missing, what it is missing from."""
        return self._lines.position(self._offsets(place)[1])

    def key(self, place: str) -> Position:
        """Where the key of a place stands; where the value begins if it is in a list."""
        return self._lines.position(self._offsets(place)[0])

    def excerpt(self, position: Position) -> str:
        """The line of a position, and a caret below it: two lines, escaped, of bounded width."""
        return self._lines.excerpt(position)

    def _offsets(self, place: str) -> tuple[int, int]:
        here: Place = self._scanned.root
        key_start = start = _start(here)
        rest = place if place.startswith("[") or not place else f".{place}"
        while rest and isinstance(here, Branch) and (step := _step(here, rest)):
            length, key_start, here = step
            rest, start = rest[length:], _start(here)
        return key_start, start


def join(*path: str | int) -> str:
    """The keys and indices of a place as text."""
    steps = []
    for step in path:
        if isinstance(step, int):
            steps.append(f"[{step}]")
        elif _PLAIN_KEY.fullmatch(step):
            steps.append(f".{step}")
        else:
            steps.append(f"[{shown(step)}]")
    return "".join(steps).removeprefix(".")


def shown(text: str) -> str:
    """At most 64 characters of something foreign, fit for a message, as `validate` shows them."""
    return ascii(text[:64])


def _step(branch: Branch, rest: str) -> tuple[int, int, Place] | None:
    """The next step of a place: how long its text is, where its key stands, where it leads."""
    if index := _INDEX.match(rest):
        number = int(index[1])
        if number >= len(branch.items):
            return None
        below = branch.items[number]
        return index.end(), _start(below), below
    for key, (key_start, below) in branch.members.items():
        for step in (f".{key}", f"[{shown(key)}]"):
            if rest.startswith(step) and rest[len(step) : len(step) + 1] in ("", ".", "["):
                return len(step), key_start, below
    return None


def _start(place: Place) -> int:
    return place.start if isinstance(place, Branch) else place


def _bytes_of(path: Path, limit: int) -> bytes:
    # Without O_NONBLOCK the open of a FIFO waits for somebody to write.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    try:
        fd = os.open(path, flags)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise SourceError(f"{path} is not a plain file")
            with os.fdopen(fd, "rb", closefd=False) as file:
                data = file.read(limit + 1)
        finally:
            os.close(fd)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a file's name"
        raise SourceError(f"{path} cannot be read: {reason}") from None
    if len(data) > limit:
        raise SourceError(f"{path} is larger than {limit} bytes: nobody writes so many rules")
    return data


def _located(name: str, words: str, lines: _Lines, offset: int) -> SourceError:
    position = lines.position(offset)
    return SourceError(f"{name}:{position}: {words}", words, position, lines.excerpt(position))


class _Lines:
    """A text by lines."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._starts = [0, *(found.end() for found in re.finditer("\n", text))]

    def position(self, offset: int) -> Position:
        line = bisect_right(self._starts, offset)
        return Position(line, offset - self._starts[line - 1] + 1)

    def excerpt(self, position: Position) -> str:
        line, column = position
        start = self._starts[line - 1]
        end = self._starts[line] - 1 if line < len(self._starts) else len(self._text)
        # Only what can be seen is looked at: a line may be as long as the file.
        left = max(0, column - 1 - WIDTH // 2) if end - start > WIDTH else 0
        cut = self._text[start + left : min(end, start + left + WIDTH)].removesuffix("\r")
        before, after = cut[: column - 1 - left], cut[column - 1 - left :]
        lead = ("…" if left else "") + "".join(map(_visible, before))
        tail = "".join(map(_visible, after)) + ("…" if start + left + WIDTH < end else "")
        return f"{lead}{tail[: WIDTH * 2]}\n{' ' * sum(map(_columns, lead))}^"


def _visible(character: str) -> str:
    if character.isprintable():
        return character
    return " " if character == "\t" else character.encode("unicode_escape").decode()


def _columns(character: str) -> int:
    """How many columns of a terminal a character takes."""
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1

"""JSON text to values, and to where in the text each of them begins.

`json` and msgspec tell places only of what they cannot read, and what PyPI has besides is either
abandoned or recursive, and silent about repeated keys. This reads what RFC 8259 allows and nothing
else, in one pass with a stack of its own, so that depth is a limit and never a crash.
"""

from __future__ import annotations

import json
import re
from typing import Final, NamedTuple, TypeAlias

MAX_DEPTH: Final = 64
"""Rules are six deep; anything beyond is a mistake or an attack."""

MAX_DIGITS: Final = 1000
"""No number means anything in rules; turning a long one into a value takes quadratic time."""

Place: TypeAlias = "int | Branch"
"""Where a value begins; with what is in it, if it is an object or a list."""


class Branch:
    """An object or a list: where it begins, and where what is in it does.

    Attributes:
        start: offset of its bracket in the text.
        members: of an object: where each key stands, and the value's place.
        items: of a list: the place of each.
    """

    __slots__ = ("items", "members", "start")

    def __init__(self, start: int) -> None:
        self.start = start
        self.members: dict[str, tuple[int, Place]] = {}
        self.items: list[Place] = []


class Repeated(NamedTuple):
    """A key that an object has twice; the later one counts.

    Attributes:
        path: the keys and indices that lead to the object.
        key: the key.
        first: offset of the earlier one.
        again: offset of the later one.
    """

    path: tuple[str | int, ...]
    key: str
    first: int
    again: int


class Scanned(NamedTuple):
    """What a text says.

    Attributes:
        value: as `json.loads` has it.
        root: where everything begins.
        repeated: keys that are there more than once, in the order of the text.
    """

    value: object
    root: Place
    repeated: tuple[Repeated, ...]


class ScanError(ValueError):
    """The text is not JSON.

    Attributes:
        offset: of the first character that cannot stand there.
    """

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


# Possessive quantifiers: a text of any length is matched without a way back, hence without a stack.
_PLAIN = r'[^"\\\x00-\x1f]*+'
_STRING = rf'"{_PLAIN}(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{{4}}){_PLAIN})*+'
_NUMBER = r"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?"
_SPACE = re.compile(r"[ \t\n\r]*+")
_TOKEN = re.compile(
    rf'(?P<string>{_STRING}")|(?P<number>{_NUMBER})(?![\w.])|(?P<word>true|false|null)(?!\w)'
    r"|(?P<mark>[{}\[\],:])"
)
_BROKEN_STRING = re.compile(_STRING)
_SURROGATE = re.compile("[\ud800-\udfff]")
_WORDS: Final[dict[str, bool | None]] = {"true": True, "false": False, "null": None}

_VALUE, _FIRST_ITEM, _FIRST_KEY, _KEY, _COLON, _AFTER = range(6)
_WANTED: Final = {
    _VALUE: "a value",
    _FIRST_ITEM: "a value or ]",
    _FIRST_KEY: 'a key in quotation marks (") or }',
    _KEY: 'a key in quotation marks (")',
    _COLON: "a colon",
}


class _Frame:
    """An object or a list that is not closed yet."""

    __slots__ = ("branch", "key", "key_start", "value")

    def __init__(self, value: dict[str, object] | list[object], start: int) -> None:
        self.value = value
        self.branch = Branch(start)
        self.key = ""
        self.key_start = 0


def scan(text: str) -> Scanned:
    """Read the whole text.

    Raises:
        ScanError: it is not JSON, nested deeper than `MAX_DEPTH`, or has half a surrogate pair.
    """
    return _Scanner(text).run()


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._stack: list[_Frame] = []
        self._repeated: list[Repeated] = []
        self._state = _VALUE
        self._root: tuple[object, Place] | None = None

    def run(self) -> Scanned:
        offset = self._skip(0)
        while self._root is None or self._stack:
            found = _TOKEN.match(self._text, offset)
            if found is None:
                raise self._broken(offset)
            kind, token = found.lastgroup, found.group()
            if kind == "mark":
                self._mark(token, offset)
            elif kind == "string" and self._state in (_KEY, _FIRST_KEY):
                self._key(self._string(token, offset), offset)
            elif self._state in (_VALUE, _FIRST_ITEM):
                self._put(self._leaf(kind, token, offset), offset)
            else:
                raise self._unexpected(offset)
            offset = self._skip(found.end())
        if offset < len(self._text):
            raise ScanError("something stands behind the end of the document", offset)
        value, place = self._root
        return Scanned(value, place, tuple(self._repeated))

    def _skip(self, offset: int) -> int:
        space = _SPACE.match(self._text, offset)
        return space.end() if space else offset

    # What may stand where.

    def _mark(self, mark: str, offset: int) -> None:
        state = self._state
        inside_object = bool(self._stack) and isinstance(self._stack[-1].value, dict)
        if mark in "{[" and state in (_VALUE, _FIRST_ITEM):
            if len(self._stack) >= MAX_DEPTH:
                raise ScanError(f"is nested deeper than {MAX_DEPTH} brackets", offset)
            self._stack.append(_Frame({} if mark == "{" else [], offset))
            self._state = _FIRST_KEY if mark == "{" else _FIRST_ITEM
        elif (mark == "}" and inside_object and state in (_FIRST_KEY, _AFTER)) or (
            mark == "]" and not inside_object and state in (_FIRST_ITEM, _AFTER)
        ):
            frame = self._stack.pop()
            self._put(frame.value, frame.branch)
        elif mark == "," and state == _AFTER:
            self._state = _KEY if inside_object else _VALUE
        elif mark == ":" and state == _COLON:
            self._state = _VALUE
        else:
            raise self._unexpected(offset)

    def _key(self, key: str, offset: int) -> None:
        frame = self._stack[-1]
        frame.key, frame.key_start = key, offset
        if key in frame.branch.members:
            above = self._stack[:-1]
            path = tuple(f.key if isinstance(f.value, dict) else len(f.value) for f in above)
            first = frame.branch.members[key][0]
            self._repeated.append(Repeated(path, key, first, offset))
        self._state = _COLON

    def _put(self, value: object, place: Place) -> None:
        if not self._stack:
            self._root = value, place
            return
        frame = self._stack[-1]
        if isinstance(frame.value, dict):
            frame.value[frame.key] = value
            frame.branch.members[frame.key] = frame.key_start, place
        else:
            frame.value.append(value)
            frame.branch.items.append(place)
        self._state = _AFTER

    # Leaves.

    def _leaf(self, kind: str | None, token: str, offset: int) -> object:
        if kind == "string":
            return self._string(token, offset)
        if kind == "word":
            return _WORDS[token]
        if len(token) > MAX_DIGITS:
            raise ScanError(f"a number has more than {MAX_DIGITS} digits", offset)
        number = json.loads(token)
        if number in (float("inf"), float("-inf")):
            raise ScanError("a number is out of range", offset)
        return number

    def _string(self, token: str, offset: int) -> str:
        if "\\" not in token:
            return token[1:-1]
        text: str = json.loads(token)
        if _SURROGATE.search(text):
            raise ScanError("a string has half of a surrogate pair, which is no character", offset)
        return text

    # What is wrong.

    def _unexpected(self, offset: int) -> ScanError:
        wanted = _WANTED.get(self._state)
        if wanted is None:
            inside_object = isinstance(self._stack[-1].value, dict)
            wanted = "a comma or }" if inside_object else "a comma or ]"
        found = self._text[offset : offset + 1]
        return ScanError(f"{ascii(found) if found else 'the end'} where {wanted} must be", offset)

    def _broken(self, offset: int) -> ScanError:
        """Why no token begins here."""
        rest = self._text[offset : offset + 1]
        if rest != '"':
            return self._unexpected(offset)
        broken = _BROKEN_STRING.match(self._text, offset)
        end = broken.end() if broken else offset
        found = self._text[end : end + 1]
        if not found:
            return ScanError("a string has no end", offset)
        if found == "\\":
            escape = ascii(self._text[end : end + 2])
            return ScanError(f"a string has the escape {escape}, which JSON does not know", end)
        return ScanError(f"a string has the control character {found!a}: escape it", end)

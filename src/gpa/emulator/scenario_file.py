"""A scenario file: TOML to a checked value, every trouble with its line, its key and what to do."""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, Final

import msgspec

from gpa.emulator import scenario
from gpa.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

MAX_FILE_BYTES: Final = 4 << 20
"""Ten thousand rules fit; a larger file is a mistake."""

_TABLE: Final = re.compile(r"^\s*(\[\[?)\s*([^\[\]#]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY: Final = re.compile(r"""^\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*[\w-]+)*)\s*=""")


def load(path: Path) -> scenario.Scenario:
    """Read and check the file.

    Raises:
        ConfigError: missing, unreadable, not TOML, or not a scenario.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise ConfigError(f"there is no {path}: write one (see docs/emulator.md)") from error
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError(f"{path} is larger than {MAX_FILE_BYTES} bytes")
    return parse(data, str(path))


def parse(data: bytes, name: str) -> scenario.Scenario:
    """Check the bytes of a scenario file; `name` stands in messages."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError(f"{name}:{line}: not UTF-8") from error
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(_syntax(name, str(error))) from error
    try:
        return scenario.from_document(document)
    except msgspec.ValidationError as error:
        raise ConfigError(_explain(name, text, str(error))) from error


def _syntax(name: str, message: str) -> str:
    found = re.search(r" \(at line (\d+), column (\d+)\)$", message)
    if found is None:
        return f"{name} is not TOML: {message}"
    words = message[: found.start()]
    return f"{name}:{found[1]}:{found[2]}: not TOML: {words[:1].lower()}{words[1:]}"


def _explain(name: str, text: str, message: str) -> str:
    """The words of msgspec in ours."""
    words, _, place = message.partition(" - at `$")
    path = _path(place.rstrip("`"))
    if found := re.fullmatch(r"Object contains unknown field `(.*)`", words):
        path.append(found[1])
        words = "nobody knows this key: mend or remove it (docs/emulator.md lists all)"
    elif found := re.fullmatch(r"Object missing required field `(.*)`", words):
        words = f"the key {found[1]!r} is missing: add it"
    elif found := re.fullmatch(r"Invalid (?:enum )?value '?(.*?)'?", words):
        words = f"{found[1]!r} is not known here (docs/emulator.md lists what is)"
    elif found := re.fullmatch(r"Expected `str` matching regex (.*)", words):
        words = f"this must match {found[1]}"
    elif found := re.fullmatch(r"Expected (.*)", words):
        words = f"this must be {found[1].replace('`', '')}"
    line = locate(text, path)
    where = f"{name}:{line}" if line else name
    return f"{where}: {_dotted(path)}: {words}" if path else f"{where}: {words}"


def _path(place: str) -> list[str | int]:
    """`.faults[0].kind` to its parts; `[...]` is a key of a table that msgspec does not name."""
    parts: list[str | int] = []
    for key, index in re.findall(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]", place):
        if key:
            parts.append(key)
        elif index != "...":
            parts.append(int(index))
    return parts


def _dotted(path: list[str | int]) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.lstrip(".")


def locate(text: str, path: list[str | int]) -> int | None:
    """The line of a key, or of the closest table or key around it; counted from 1.

    Good for how people write scenarios, a key a line; inside an inline table it gives the line on
    which that begins.
    """
    best: tuple[int, int] = (0, 0)
    counts: dict[tuple[str | int, ...], int] = {}
    table: list[str | int] = []
    for number, line in enumerate(text.splitlines(), 1):
        if header := _TABLE.match(line):
            table = []
            words = _words(header[2])
            for depth, word in enumerate(words):
                table.append(word)
                spot = tuple(table)
                if header[1] == "[[" and depth == len(words) - 1:
                    counts[spot] = counts.get(spot, -1) + 1
                if spot in counts:
                    table.append(counts[spot])
            here = table
        elif key := _KEY.match(line):
            here = table + _words(key[1])
        else:
            continue
        if here == path[: len(here)] and len(here) > best[0]:
            best = (len(here), number)
    return best[1] or None


def _words(dotted: str) -> list[str | int]:
    return [word.strip().strip("\"'") for word in re.split(r"\s*\.\s*", dotted)]

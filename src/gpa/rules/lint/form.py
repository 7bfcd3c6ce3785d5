"""The file and its form: what keeps the agent from using it, or is not what it seems.

Each trouble is told once: `validate` has the words, the schema adds what is beyond the number of
troubles that `validate` tells, and which member it is that nobody knows.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Final

from gpa._native import Snapshot
from gpa.errors import RulesError
from gpa.rules.compile import table_check
from gpa.rules.lint import codes
from gpa.rules.lint.finding import Finding
from gpa.rules.lint.subject import quoted
from gpa.rules.schema import errors
from gpa.rules.source import join
from gpa.rules.validate import read_host_item, read_local_rules

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gpa.rules.model import HostItem, LocalRules
    from gpa.rules.schema import SchemaError
    from gpa.rules.source import Source

_MEND: Final = "correct it: until then the agent {}"
_CLOSED: Final = "refuses everything at this endpoint"
_KEPT: Final = "keeps the last valid rules, or without any refuses everything"

_KNOWN: Final = {
    "": ("$schema", "id", "defaultAccess", "mode", "rules"),
    "rules": ("privileges", "roles", "identities", "roleAssignments"),
}
"""Members where others are ignored. What begins with $ or // is somebody's comment."""


def read(document: object, *, host: bool) -> HostItem | LocalRules | list[Finding]:
    """The rules, or why they are not valid: by the agent's own checks, then by the schema."""
    remedy = _MEND.format(_KEPT if host else _CLOSED)
    by_schema = list(errors(document, host=host))
    try:
        found = read_host_item(document) if host else read_local_rules(document)
    except RulesError as error:
        return list(_not_valid(error, by_schema, remedy))
    if found.rules is not None:
        try:
            table_check(lambda table: Snapshot(0, table))(found.rules)
        except RulesError as error:
            return [Finding(codes.NO_SUCH_PATH, p, f"{p}: {w}", remedy) for p, w in error.problems]
    return [Finding(codes.NOT_VALID, e.place, _told(e), remedy) for e in by_schema] or found


def _not_valid(
    error: RulesError, by_schema: Sequence[SchemaError], remedy: str
) -> Iterator[Finding]:
    unknown = {(e.place, key) for e in by_schema for key in e.unknown}
    told = set()
    for place, words in error.problems:
        told.add(place)
        key = next((k for p, k in unknown if p == place and f"member {k[:64]!a}" in words), None)
        where = place if key is None else f"{place}{_step(key)}"
        said = f"{place}: {words}" if place else words
        yield Finding(codes.NOT_VALID, where, said, remedy, on_key=key is not None)
    for more in by_schema:
        # One place may be told in other words, or told of its parent.
        if not any(more.place == p or p.startswith(more.place) for p in told):
            yield Finding(codes.NOT_VALID, more.place, _told(more), remedy)


def _told(error: SchemaError) -> str:
    return f"{error.place}: {error.message}" if error.place else error.message


def _step(key: str) -> str:
    """A member as the last step of a place."""
    return join("x", key).removeprefix("x")


def ignored_members(document: object, *, host: bool) -> Iterator[Finding]:
    """Members that nobody reads, most often misspelt."""
    for place, known in _KNOWN.items():
        part = document
        if place and isinstance(part, dict):
            part = part.get(place)
        if not isinstance(part, dict):
            continue
        for key in part:
            if key in known or key.startswith(("$", "//")):
                continue
            near = difflib.get_close_matches(key[:256], known, 1)
            yield Finding(
                codes.UNKNOWN_MEMBER,
                join(*filter(None, (place, key))),
                f"the member {quoted(key)} is ignored",
                f"did you mean {quoted(near[0])}?" if near else "remove it, or begin it with //",
                on_key=True,
            )
    if not host and isinstance(document, dict) and document.get("mode") is not None:
        yield Finding(
            codes.UNKNOWN_MEMBER,
            "mode",
            "the mode of a local file is ignored: it is the host's alone",
            "remove it",
            on_key=True,
        )


def repeated_keys(source: Source) -> Iterator[tuple[Finding, tuple[int, int]]]:
    """Keys that are there twice, each with its own position: a place cannot tell them apart."""
    for again in source.repeated:
        yield (
            Finding(
                codes.REPEATED_KEY,
                again.place,
                f"the key {quoted(again.key)} is there once more, first at {again.first}: only the"
                " last one counts",
                "remove one of them",
            ),
            again.again,
        )

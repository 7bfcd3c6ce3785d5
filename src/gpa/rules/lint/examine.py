"""One file, all checks: findings with their places in the text, by line."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from gpa.endpoints import Endpoint
from gpa.errors import RulesError, SourceError
from gpa.rules.lint import (
    access,
    codes,
    form,
    identities,
    paths,
    programs,
    structure,
    tokens,
    users,
)
from gpa.rules.lint.finding import Finding
from gpa.rules.lint.subject import Subject
from gpa.rules.local import FILE_NAMES
from gpa.rules.model import HostItem, Rules
from gpa.rules.source import Position, Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime
    from pathlib import Path

    from gpa.rules.lint.machine import Machine

    Check = Callable[[Subject], Iterator[Finding]]

MAX_PER_CODE: Final = 50
"""Findings of a kind in a file; nobody reads more of them, and a file may have thousands."""

CHECKS: Final[tuple[Check, ...]] = (
    structure.privileges_that_nobody_has,
    structure.roles_that_nobody_has,
    structure.identities_without_a_role,
    structure.names_that_differ_in_case,
    structure.names_with_the_prefix,
    structure.grants_that_have_ended,
    paths.same_twice,
    paths.covered,
    paths.half_segments,
    paths.letters_that_say_nothing,
    paths.pinned_parameters,
    tokens.wide_paths,
    tokens.second_door,
    identities.names_alone,
    identities.interpreters,
    identities.launchers,
    identities.paths_that_are_not_full,
    identities.names_that_disagree,
    identities.users_who_never_get_there,
    users.unknown_users,
    users.unknown_groups,
    users.users_outside_their_group,
    programs.paths_that_match_nobody,
    programs.programs_that_others_can_replace,
    programs.setuid_programs,
    access.open_elsewhere,
    access.all_closed,
    access.overrides_host,
)


class Located(NamedTuple):
    """A finding in its text.

    Attributes:
        finding: what.
        position: its line and column.
        excerpt: the line, and a caret below it.
    """

    finding: Finding
    position: Position
    excerpt: str


@dataclass
class Examined:
    """What was found in a file.

    Attributes:
        name: of the file.
        found: in the order of the text.
        left_out: how many more there are of a code, by its number.
    """

    name: str
    found: list[Located] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def examine(
    path: Path,
    *,
    endpoint: Endpoint | None = None,
    host: bool = False,
    machine: Machine | None = None,
    now: datetime | None = None,
) -> Examined:
    """Run all checks on a file.

    Args:
        path: a local file, a host's item, or what the agent wrote (AuthorizationRules_….json).
        endpoint: for which it is; None for that of the file's name, else IMDS.
        host: it is the host's item.
        machine: where the rules are to hold; without one nothing is asked of it.
        now: the time, in UTC; without one no grant has ended.

    Raises:
        SourceError: the file cannot be read.
        RulesError: it has nothing for the endpoint.
    """
    try:
        source = Source.read(path)
    except SourceError as error:
        if error.position is None:
            raise
        finding = Finding(codes.NOT_JSON, "", error.words, "correct it")
        return Examined(str(path), [Located(finding, Position(*error.position), error.excerpt)])
    if endpoint is None:
        endpoint = Endpoint.IMDS
        if path.name == FILE_NAMES[Endpoint.WIRESERVER]:
            endpoint = Endpoint.WIRESERVER
    if isinstance(source.value, dict) and "inputRules" in source.value:
        part = source.within("inputRules", endpoint.value)
        if part is None or part.value is None:
            raise RulesError(f"{path} has no rules of the host for {endpoint.value}")
        source, host = part, True
    return examine_source(source, endpoint=endpoint, host=host, machine=machine, now=now)


def examine_source(
    source: Source,
    *,
    endpoint: Endpoint,
    host: bool,
    machine: Machine | None,
    now: datetime | None = None,
) -> Examined:
    """Run all checks on what was read."""
    located = [_at(source, f, Position(*p)) for f, p in form.repeated_keys(source)]
    findings = list(form.ignored_members(source.value, host=host))
    read = form.read(source.value, host=host)
    if isinstance(read, list):
        findings += read
    else:
        subject = Subject(
            rules=read.rules or Rules(),
            default_allowed=read.default_allowed,
            host=isinstance(read, HostItem),
            endpoint=endpoint,
            machine=machine,
            now=now,
        )
        for check in CHECKS:
            findings += check(subject)
    examined = Examined(source.name)
    counted: Counter[str] = Counter()
    for finding in findings:
        counted[finding.code.number] += 1
        if counted[finding.code.number] > MAX_PER_CODE:
            examined.left_out[finding.code.number] += 1
        else:
            place = finding.place
            position = source.key(place) if finding.on_key else source.at(place)
            located.append(_at(source, finding, position))
    examined.found = sorted(located, key=lambda one: (one.position, one.finding.code.number))
    return examined


def _at(source: Source, finding: Finding, position: Position) -> Located:
    return Located(finding, position, source.excerpt(position))

"""Paths beside paths: which covers which, and what a path says less than it seems.

A privilege covers its path and what is below, by whole segments, and any of several that match is
enough; so a deeper path takes nothing away from a shallower one.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import chain, combinations
from typing import TYPE_CHECKING, Final

from gpa.rules.lint import codes
from gpa.rules.lint.finding import Finding
from gpa.rules.lint.subject import Form, named, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpa.rules.lint.subject import Subject
    from gpa.rules.model import Privilege

MAX_PARAMETERS: Final = 6
"""A privilege with more query parameters is compared with its like and with those that have none:
all parts of so many would be too many."""

VARYING: Final = {
    "api-version": "each version of a client sends its own",
    "format": "clients leave it out or write it as they like",
}
"""Query parameters that are no part of what is asked for."""


def same_twice(subject: Subject) -> Iterator[Finding]:
    """Two privileges for the same requests."""
    first: dict[Form, Privilege] = {}
    for i, (privilege, form) in enumerate(_privileges(subject)):
        other = first.setdefault(form, privilege)
        if other is not privilege:
            yield Finding(
                codes.SAME_TWICE,
                f"rules.privileges[{i}].path",
                f"{quoted(privilege.name)} means the same requests as {quoted(other.name)}: who has"
                " one of them needs not the other, and a record names the first",
                "keep one, and give it to the roles of both",
            )


def covered(subject: Subject) -> Iterator[Finding]:
    """A privilege below a wider one: what it adds, and what it does not take away."""
    first: dict[Form, Privilege] = {}
    for privilege, form in _privileges(subject):
        first.setdefault(form, privilege)
    for i, (privilege, form) in enumerate(_privileges(subject)):
        have = subject.holders[privilege.name]
        if not have:
            continue  # said by another check
        for wider in _wider(form):
            other = first.get(wider)
            if other is None:
                continue
            more = subject.holders[other.name]
            if more - have:
                yield Finding(
                    codes.TAKES_NOTHING_AWAY,
                    f"rules.privileges[{i}].path",
                    f"{quoted(privilege.name)} lies within {quoted(other.name)}"
                    f" ({quoted(other.path)}), so that {named(more - have)}, too, may ask for it",
                    "name in the wider one only what its holders need, or accept it",
                )
                break
            if more == have:
                yield Finding(
                    codes.ADDS_NOTHING,
                    f"rules.privileges[{i}].path",
                    f"{quoted(privilege.name)} lies within {quoted(other.name)}"
                    f" ({quoted(other.path)}), which the same identities have",
                    "remove one of them",
                )
                break


def half_segments(subject: Subject) -> Iterator[Finding]:
    """`/metadata/instance` does not cover `/metadata/instances`, though its letters begin it."""
    names: dict[tuple[str, ...], set[str]] = {}
    for form in subject.forms:
        for depth, segment in enumerate(form.segments):
            names.setdefault(form.segments[:depth], set()).add(segment)
    ordered = {parent: sorted(below) for parent, below in names.items()}
    for i, (privilege, form) in enumerate(_privileges(subject)):
        if not form.segments:
            continue
        beside = ordered[form.segments[:-1]]
        last = form.segments[-1]
        after = bisect_right(beside, last)
        if after < len(beside) and beside[after].startswith(last):
            yield Finding(
                codes.HALF_SEGMENT,
                f"rules.privileges[{i}].path",
                f"{quoted(privilege.path)} does not cover {quoted(beside[after])} beside it: a path"
                " covers whole segments",
                "nothing, if that was meant; else grant both",
            )


def letters_that_say_nothing(subject: Subject) -> Iterator[Finding]:
    """A slash at the end, and capitals: compared without them."""
    for i, privilege in enumerate(subject.rules.privileges):
        path = privilege.path
        slash = len(path) > 1 and path.endswith("/")
        capitals = path != path.lower()
        if slash or capitals:
            what = " and ".join(
                words
                for there, words in ((slash, "the slash at its end"), (capitals, "capitals"))
                if there
            )
            yield Finding(
                codes.SAYS_NOTHING,
                f"rules.privileges[{i}].path",
                f"{quoted(path)}: {what} say{'' if capitals else 's'} nothing, paths are compared"
                " without",
                f"write {quoted(path.rstrip('/').lower() or '/')}",
            )


def pinned_parameters(subject: Subject) -> Iterator[Finding]:
    """A parameter that varies from client to client."""
    for i, privilege in enumerate(subject.rules.privileges):
        for name, _ in privilege.query:
            why = VARYING.get(name.lower())
            if why:
                yield Finding(
                    codes.PINNED,
                    f"rules.privileges[{i}].queryParameters[{quoted(name)}]",
                    f"{quoted(privilege.name)} matches only with this {quoted(name)}, and {why}:"
                    " other values fall to defaultAccess",
                    "leave the parameter out",
                    on_key=True,
                )


def _privileges(subject: Subject) -> Iterator[tuple[Privilege, Form]]:
    return zip(subject.rules.privileges, subject.forms, strict=True)


def _wider(form: Form) -> Iterator[Form]:
    """Every form that matches all that this one does, and more; widest path first.

    Of methods, only "any" and the same ones: a longer list that has these among others is not seen.
    """
    query = sorted(form.query)
    if len(query) <= MAX_PARAMETERS:
        sizes = range(len(query) + 1)
        parts = [frozenset(p) for p in chain(*(combinations(query, n) for n in sizes))]
    else:
        parts = [frozenset(), form.query]
    for depth in range(len(form.segments) + 1):
        for part in parts:
            for methods in dict.fromkeys((frozenset[str](), form.methods)):
                wider = Form(form.segments[:depth], part, methods)
                if wider != form:
                    yield wider

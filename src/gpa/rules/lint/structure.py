"""Names and references: what nobody uses, and names that are taken for each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpa.rules.lint import codes
from gpa.rules.lint.finding import Finding
from gpa.rules.lint.subject import quoted
from gpa.rules.merge import PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpa.rules.lint.subject import Subject


def privileges_that_nobody_has(subject: Subject) -> Iterator[Finding]:
    """A privilege that no identity has refuses its path to everybody."""
    in_roles = {name for role in subject.rules.roles for name in role.privileges}
    for i, privilege in enumerate(subject.rules.privileges):
        if subject.holders[privilege.name]:
            continue
        why = "its roles are assigned to nobody" if privilege.name in in_roles else "no role has it"
        yield Finding(
            codes.NOBODY_HAS,
            f"rules.privileges[{i}]",
            f"the privilege {quoted(privilege.name)} is nobody's, since {why}: unless another one"
            " matches, too, its path is refused to everybody, whatever defaultAccess says",
            "grant it through a role, or remove it",
        )


def roles_that_nobody_has(subject: Subject) -> Iterator[Finding]:
    """A role without an assignment."""
    assigned = {assignment.role for assignment in subject.rules.assignments}
    for i, role in enumerate(subject.rules.roles):
        if role.name not in assigned:
            yield Finding(
                codes.UNUSED_ROLE,
                f"rules.roles[{i}]",
                f"the role {quoted(role.name)} is assigned to nobody",
                "assign it, or remove it",
            )


def identities_without_a_role(subject: Subject) -> Iterator[Finding]:
    """An identity that no assignment names."""
    named = {name for assignment in subject.rules.assignments for name in assignment.identities}
    for i, identity in enumerate(subject.rules.identities):
        if identity.name not in named:
            yield Finding(
                codes.UNUSED_IDENTITY,
                f"rules.identities[{i}]",
                f"the identity {quoted(identity.name)} has no role: naming it grants nothing",
                "assign a role to it, or remove it",
            )


def names_that_differ_in_case(subject: Subject) -> Iterator[Finding]:
    """Names are told apart by case, which people overlook."""
    for place, name in _names(subject):
        first: dict[str, str] = {}
        for i, one in enumerate(name):
            other = first.setdefault(one.casefold(), one)
            if other != one:
                yield Finding(
                    codes.NAMES_BY_CASE,
                    f"{place}[{i}].name",
                    f"{quoted(one)} and {quoted(other)} differ in case only, and are two names",
                    "call one of them something else",
                )


def names_with_the_prefix(subject: Subject) -> Iterator[Finding]:
    """The prefix is what merging gives to the names of a local file."""
    for place, name in _names(subject):
        for i, one in enumerate(name):
            if one.startswith(PREFIX):
                what = (
                    "may meet that of a local file, and then the endpoint is closed"
                    if subject.host
                    else "gets the same prefix once more when it is merged with the host's"
                )
                yield Finding(
                    codes.PREFIXED_NAME,
                    f"{place}[{i}].name",
                    f"the name {quoted(one)} {what}",
                    f"take {PREFIX} away from it, in references, too",
                )


def grants_that_have_ended(subject: Subject) -> Iterator[Finding]:
    """An assignment whose time is over."""
    for i, assignment in enumerate(subject.rules.assignments):
        end = assignment.not_after
        if subject.now is not None and end is not None and end <= subject.now:
            yield Finding(
                codes.ENDED,
                f"rules.roleAssignments[{i}].notAfter",
                f"the role {quoted(assignment.role)} is not granted any more: the time is over",
                "remove the assignment, or set another time",
            )


def _names(subject: Subject) -> tuple[tuple[str, list[str]], ...]:
    rules = subject.rules
    return (
        ("rules.privileges", [item.name for item in rules.privileges]),
        ("rules.roles", [item.name for item in rules.roles]),
        ("rules.identities", [item.name for item in rules.identities]),
    )

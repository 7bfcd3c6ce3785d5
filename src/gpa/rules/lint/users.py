"""Users and groups that rules name, on the machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpa.rules.lint import codes
from gpa.rules.lint.finding import Finding
from gpa.rules.lint.subject import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpa.rules.lint.subject import Subject


def unknown_users(subject: Subject) -> Iterator[Finding]:
    """A name that the user database does not have."""
    if subject.machine is None:
        return
    for i, identity in enumerate(subject.rules.identities):
        name = identity.user_name
        if name is not None and subject.machine.user(name) is None:
            yield Finding(
                codes.NO_USER,
                f"rules.identities[{i}].userName",
                f"there is no user {quoted(name)} here: the identity matches nobody",
                "make the user, or correct the name, which is compared byte for byte",
            )


def unknown_groups(subject: Subject) -> Iterator[Finding]:
    """A name that is no group's, or that of a group in which nobody is."""
    if subject.machine is None:
        return
    for i, identity in enumerate(subject.rules.identities):
        name = identity.group_name
        if name is None:
            continue
        place = f"rules.identities[{i}].groupName"
        group = subject.machine.group(name)
        if group is None:
            yield Finding(
                codes.NO_GROUP,
                place,
                f"there is no group {quoted(name)} here: the identity matches nobody",
                "make the group, or correct the name, which is compared byte for byte",
            )
        elif not group.members:
            yield Finding(
                codes.EMPTY_GROUP,
                place,
                f"nobody is in the group {quoted(name)}: the identity matches only who connects"
                " with its group id all the same",
                "add members",
            )


def users_outside_their_group(subject: Subject) -> Iterator[Finding]:
    """A user and a group, both of which must hold."""
    if subject.machine is None:
        return
    for i, identity in enumerate(subject.rules.identities):
        if identity.user_name is None or identity.group_name is None:
            continue
        uid = subject.machine.user(identity.user_name)
        group = subject.machine.group(identity.group_name)
        if uid is not None and group is not None and group.members and uid not in group.members:
            yield Finding(
                codes.NOT_IN_GROUP,
                f"rules.identities[{i}].groupName",
                f"{quoted(identity.user_name)} is not in the group {quoted(identity.group_name)},"
                " and all selectors must hold",
                "add the user to the group, or leave one of the selectors out",
            )

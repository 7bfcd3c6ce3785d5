"""The tokens of the machine's identities: which paths lead to them.

Those of IMDS are the reason for most rules. A client gets one from `oauth2/token`; newer ones get a
certificate from `issuecredential` instead, after a look at `getplatformmetadata`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gpa.endpoints import Endpoint
from gpa.rules.lint import codes
from gpa.rules.lint.finding import Finding
from gpa.rules.lint.subject import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpa.rules.lint.subject import Subject

IDENTITY: Final = ("metadata", "identity")
TOKEN: Final = (*IDENTITY, "oauth2", "token")
SECOND: Final = (
    (*IDENTITY, "getplatformmetadata"),
    (*IDENTITY, "issuecredential"),
)


def wide_paths(subject: Subject) -> Iterator[Finding]:
    """A path above /metadata/identity, which does not say that it covers tokens."""
    if subject.endpoint is not Endpoint.IMDS:
        return
    for i, privilege in enumerate(subject.rules.privileges):
        segments, query, _ = subject.forms[i]
        above = len(segments) < len(IDENTITY) and IDENTITY[: len(segments)] == segments
        if above and not query and subject.holders[privilege.name]:
            yield Finding(
                codes.COVERS_TOKENS,
                f"rules.privileges[{i}].path",
                f"{quoted(privilege.path)} covers /metadata/identity: who has"
                f" {quoted(privilege.name)} gets tokens of the machine's identities",
                "name what is needed, as /metadata/instance",
            )


def second_door(subject: Subject) -> Iterator[Finding]:
    """Rules on oauth2/token that leave the other way to a token out."""
    if subject.endpoint is not Endpoint.IMDS:
        return
    covered = {form.segments for form in subject.forms}
    if any(door[:depth] in covered for door in SECOND for depth in range(len(door) + 1)):
        return
    for i, form in enumerate(subject.forms):
        if len(form.segments) > len(IDENTITY) and TOKEN[: len(form.segments)] == form.segments:
            what = (
                "newer clients, which go there, are refused"
                if subject.default_allowed is False
                else "where defaultAccess is allow, everybody gets a token there"
            )
            yield Finding(
                codes.SECOND_DOOR,
                f"rules.privileges[{i}].path",
                f"{quoted(subject.rules.privileges[i].path)} is one door to tokens;"
                " /metadata/identity/getplatformmetadata and …/issuecredential are another, on"
                f" which there is no rule: {what}",
                "name /metadata/identity, which covers both",
            )
            return

"""Why a request is allowed or refused, what came closest, and what would have allowed it.

Everything is a value that is JSON as it stands (docs/explain.md); `telling` puts it into words.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from gpa.errors import RulesError
from gpa.rules.facts import SELECTORS, Answer, Caller, Fact, Request
from gpa.rules.judge import ALLOW, AUDIT_ALLOW, DEPENDS, REFUSE, Judge
from gpa.rules.local import FILE_NAMES
from gpa.rules.model import Assignment, Identity, Privilege, Role
from gpa.rules.replay import PathsNamed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpa.rules.judge import Grant, Judgement, PrivilegeMatch

SHOWN: Final = 3
"""Near misses of a kind: more is a list of the rules."""

NEW: Final = "explained"
"""Name of what a remedy adds; a number follows where rules have it already."""

_FACTS: Final = {selector.key: selector.fact for selector in SELECTORS}


def explain(judge: Judge, caller: Caller, request: Request) -> dict[str, Any]:
    """Judge and tell all that led there."""
    judgement = judge.judge(caller, request)
    told: dict[str, Any] = {
        "decision": judgement.decision,
        "reason": judgement.reason,
        "outcomes": [outcome._asdict() for outcome in judgement.outcomes],
        "dependsOn": list(judgement.unknown),
        "privilege": judgement.privilege,
        "role": judgement.role,
        "identity": judgement.identity,
        "matching": [_privilege(match) for match in judgement.privileges[:SHOWN]],
        "nearestIdentities": [_grant(grant, caller) for grant in _nearest_grants(judgement)],
        "nearestPrivileges": [],
        "remedy": None,
    }
    if not judgement.privileges and judgement.decision != REFUSE:
        told["nearestPrivileges"] = [_privilege(m) for m in _nearest(judge, request)]
    if judgement.decision != ALLOW:
        told["remedy"] = remedy(judge, judgement, caller, request)
    return told


def _nearest_grants(judgement: Judgement) -> list[Grant]:
    """Those that lack least; none where one holds."""
    if any(grant.answer is Answer.YES for grant in judgement.grants):
        return [grant for grant in judgement.grants if grant.answer is Answer.YES][:1]

    def missing(grant: Grant) -> tuple[int, int]:
        answers = [selector.answer for selector in grant.identity.selectors]
        return answers.count(Answer.NO), answers.count(Answer.UNKNOWN)

    return sorted(judgement.grants, key=missing)[:SHOWN]


def _nearest(judge: Judge, request: Request) -> list[PrivilegeMatch]:
    """Privileges that do not match, nearest first: of those whose path does, then by segments."""

    def distance(match: PrivilegeMatch) -> tuple[bool, int, int]:
        wrong = sum(parameter.answer is Answer.NO for parameter in match.parameters)
        return match.path is Answer.NO, -_shared(match, request), wrong

    count = len(judge.effective.rules.privileges) if judge.effective else 0
    found = [judge.privilege(place, request) for place in range(count)]
    near = [m for m in found if m.path is not Answer.NO or _shared(m, request)]
    return sorted(near, key=distance)[:SHOWN]


def _shared(match: PrivilegeMatch, request: Request) -> int:
    count = 0
    for wanted, have in zip(match.segments, request.segments, strict=False):
        if wanted != have:
            break
        count += 1
    return count


def _privilege(match: PrivilegeMatch) -> dict[str, Any]:
    return {
        "name": match.privilege.name,
        "place": f"privileges[{match.place}]",
        "path": match.privilege.path,
        "pathMatches": match.path.value,
        "methods": list(match.privilege.methods),
        "methodMatches": match.method.value,
        "parameters": [
            {"name": p.name, "wanted": p.wanted, "answer": p.answer.value} for p in match.parameters
        ],
    }


def _grant(grant: Grant, caller: Caller) -> dict[str, Any]:
    selectors = grant.identity.selectors
    return {
        "privilege": grant.privilege.privilege.name,
        "role": grant.role,
        "identity": grant.identity.identity.name,
        "place": f"identities[{grant.identity.place}]",
        "answer": grant.answer.value,
        "selectors": [
            {
                "selector": selector.key,
                "wanted": selector.wanted,
                "answer": selector.answer.value,
                "caller": _values(_FACTS[selector.key](caller)),
            }
            for selector in selectors
        ],
    }


def _values(fact: Fact) -> list[str] | None:
    """What the caller has; None where it is not known."""
    if isinstance(fact, PathsNamed):
        return sorted(f".../{name}" for name in fact.values)
    return sorted(fact.values) if fact.values or fact.complete else None


# What would allow it.


def remedy(
    judge: Judge, judgement: Judgement, caller: Caller, request: Request
) -> dict[str, Any] | None:
    """The smallest rules that allow just this; None where no rule can, or too little is known.

    They stand on their own, since a local file cannot name what the host's rules define.
    """
    ours = {"no_identity_matched", "default_deny"}
    if judge.effective is None or not {o.reason for o in judgement.outcomes} & ours:
        return None
    if {o.decision for o in judgement.outcomes} & {REFUSE} or request.cut:
        return None
    identity = _identity(_free(judge), caller)
    if identity is None:
        return None
    privilege = _narrowest(identity.name, request)
    role = Role(identity.name, (privilege.name,))
    assignment = Assignment(role.name, (identity.name,))
    rules = judge.effective.rules
    more = replace(
        rules,
        privileges=(*rules.privileges, privilege),
        roles=(*rules.roles, role),
        identities=(*rules.identities, identity),
        assignments=(*rules.assignments, assignment),
    )
    try:
        tried = Judge(judge.endpoint, judge.mode, replace(judge.effective, rules=more))
    except RulesError:
        return None
    if tried.judge(caller, request).decision != ALLOW:
        return None
    return {
        "file": FILE_NAMES[judge.endpoint],
        "allProgramsOfTheUser": identity.exe_path is None and identity.process_name is None,
        "valuesLeftOut": [name for name, value in request.query if value is None],
        "rules": {
            "privileges": [_written(privilege)],
            "roles": [{"name": role.name, "privileges": list(role.privileges)}],
            "identities": [{"name": identity.name, **dict(identity.selectors())}],
            "roleAssignments": [
                {"role": assignment.role, "identities": list(assignment.identities)}
            ],
        },
    }


def _free(judge: Judge) -> str:
    """A name that no list of the rules has."""
    rules = judge.effective.rules if judge.effective else None
    lists = (rules.privileges, rules.roles, rules.identities) if rules else ()
    taken = {item.name for items in lists for item in items}
    name, number = NEW, 1
    while name in taken:
        number += 1
        name = f"{NEW}-{number}"
    return name


def _identity(name: str, caller: Caller) -> Identity | None:
    """The user and his program, as far as they can be named; None for nobody in particular."""
    if caller.same_user is Answer.NO:
        return None  # neither user nor group of a setuid program can be named
    user = min(caller.users.values, default=None)
    uid = caller.uid if user is None else None
    if user is None and uid is None:
        return None
    whole = (path for path in caller.exe_paths.values if path.startswith("/"))
    path = min(whole, default=None)
    # Of a program whose path is not known, its name says more than nothing.
    process = min(caller.process_names.values, default=None) if path is None else None
    return Identity(name, user, exe_path=path, process_name=process, uid=uid)


def _narrowest(name: str, request: Request) -> Privilege:
    """The request's path and parameters. One that is there with two values cannot be named."""
    values: dict[str, set[str | None]] = {}
    for parameter, value in request.query:
        values.setdefault(parameter, set()).add(value)
    query = tuple(
        (_encoded(parameter), _encoded(value))
        for parameter, found in values.items()
        if len(found) == 1 and (value := next(iter(found)))
    )
    path = "/" + "/".join(_encoded(segment) for segment in request.segments)
    return Privilege(name, path, query, (request.method,))


def _encoded(text: str) -> str:
    """As a rule must have it: decoded once, it is the text again."""
    from urllib.parse import quote

    return quote(text, safe=":/!$'()*+,@", errors="surrogateescape")


def _written(privilege: Privilege) -> Mapping[str, Any]:
    written: dict[str, Any] = {"name": privilege.name, "path": privilege.path}
    if privilege.query:
        written["queryParameters"] = dict(privilege.query)
    return {**written, "methods": list(privilege.methods)}


def is_let_through(decision: str) -> bool | None:
    """Whether it goes on to the host; None where it depends."""
    return None if decision == DEPENDS else decision in (ALLOW, AUDIT_ALLOW, "fail")

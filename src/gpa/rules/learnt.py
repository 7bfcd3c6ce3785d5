"""What was learnt, as a local file with its evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gpa.rules import phrases
from gpa.rules.model import METHODS
from gpa.rules.naming import READING, Endings, Names, identity_name, privilege_name, role_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpa.rules.effect import Path
    from gpa.rules.grants import Evidence, What, Who

EVIDENCE: Final = "//evidence"
"""The member that tells why; JSON has no comments, and what begins so is none of a rules file's."""


def document(
    grants: Mapping[Who, Mapping[What, Evidence]],
    spelling: Mapping[Path, str],
    rules_id: str | None,
    *,
    host: bool,
) -> dict[str, object]:
    """A local file: privileges by path, a role for each set of them that somebody has.

    Args:
        grants: of each caller.
        spelling: of each path.
        rules_id: of the rules.
        host: the rules are for the host, which tells no methods apart.
    """
    callers = sorted(
        grants,
        key=lambda who: (
            not who.service,
            who.user or "",
            -1 if who.uid is None else who.uid,
            who.exe or "",
            who.process or "",
        ),
    )
    whats = sorted({what for found in grants.values() for what in found}, key=_order)
    taken, endings = Names(), Endings(whats)
    privileges = {what: taken.new("privilege", privilege_name(what, endings)) for what in whats}
    identities = {who: taken.new("identity", identity_name(who)) for who in callers}
    roles: dict[tuple[bool, frozenset[What]], list[Who]] = {}
    for who in callers:
        roles.setdefault((who.service, frozenset(grants[who])), []).append(who)
    role_list, assignments, evidence = [], [], {}
    for (_, has), members in roles.items():
        granted = sorted(has, key=_order)
        called = role_name(
            [privileges[w] for w in granted],
            [identities[w] for w in members],
            reads=all(what.methods and what.methods <= READING for what in granted),
        )
        role = taken.new("role", called)
        role_list.append({"name": role, "privileges": [privileges[what] for what in granted]})
        assignments.append({"role": role, "identities": [identities[who] for who in members]})
        evidence[role] = [
            f"{identities[who]}, {privileges[what]}: {_told(who, grants[who][what], host=host)}"
            for who in members
            for what in granted
        ]
    made: dict[str, object] = {} if rules_id is None else {"id": rules_id}
    made["defaultAccess"] = "deny"
    made["rules"] = {
        "privileges": [_privilege(privileges[what], what, spelling) for what in whats],
        "roles": role_list,
        "identities": [_identity(identities[who], who) for who in callers],
        "roleAssignments": assignments,
    }
    made[EVIDENCE] = evidence
    return made


def _order(what: What) -> tuple[Path, list[tuple[str, str]], list[int]]:
    return what.path, sorted(what.query), sorted(map(METHODS.index, what.methods))


def _privilege(name: str, what: What, spelling: Mapping[Path, str]) -> dict[str, object]:
    shown: dict[str, object] = {"name": name, "path": spelling[what.path]}
    if what.query:
        shown["queryParameters"] = {
            key.replace("%", "%25"): value.replace("%", "%25") for key, value in sorted(what.query)
        }
    if what.methods:
        shown["methods"] = [method for method in METHODS if method in what.methods]
    return shown


def _identity(name: str, who: Who) -> dict[str, object]:
    selectors = {
        "userName": who.user,
        "uid": who.uid,
        "exePath": who.exe,
        "processName": who.process,
    }
    given = {key: value for key, value in selectors.items() if value is not None}
    return {"name": name, **given}


def _told(who: Who, evidence: Evidence, *, host: bool) -> str:
    """What was seen, and what is granted beyond it."""
    seen = evidence.seen
    words = f"{seen.count:,} x {'/'.join(sorted(evidence.methods))}"
    words += f", {phrases.span(seen.first, seen.last)}" if seen.first else ""
    words += f", in {seen.unit}" if seen.unit else ""
    if evidence.unsure:
        names = ", ".join(sorted(evidence.unsure))
        words += f"; whatever the {names}: it was not always there, there twice, or is not known"
    if host:
        words += "; any method: the host's rules do not tell them apart"
    if who.uid is not None:
        words += f"; the name of uid {who.uid} is not known"
    if who.process is not None:
        words += f"; the path of {who.process} is not known: any program called so"
    return words

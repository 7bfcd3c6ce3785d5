"""From an audit log to the smallest rules that would have allowed it, each with its evidence.

Learnt is what went on to the host, in audit mode too: those are the rules with which enforce mode
breaks nothing that ran. Nothing is granted beyond what was seen, as far as the language can say it:

- a caller is a user and a program, by full path where it is known, else by name;
- what is asked for is a path, and those parameters that select what is given (`SELECTING`) with the
  value that was seen. How it is given (`api-version`, `format`) is not told apart;
- a privilege holds beneath its path, too. Where that, or a parameter that cannot be told, grants
  more than was seen, the evidence says so.

What cannot be expressed narrowly is left out and told, with what would have to be asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from gpa._native import canonical_rule
from gpa.rules import phrases
from gpa.rules.naming import Names, identity_name, privilege_name, role_name
from gpa.rules.replay import Seen, request_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpa.rules.effect import Pairs, Path
    from gpa.rules.facts import Request
    from gpa.rules.replay import Asker, Kind, Log

SELECTING: Final = frozenset({"comp", "resource", "type"})
"""Parameters that say what is asked for: which document of WireServer, a token for whom."""

PEOPLE: Final = 1000
"""The first uid of people; below are root and the system's services."""

BY: Final = ("user+exe", "user", "exe")
"""What an identity may be made of."""


class Who(NamedTuple):
    """An identity to be: what it will ask for; None for no such selector.

    Attributes:
        service: root or a service of the system, kept apart from people.
    """

    service: bool
    user: str | None
    exe: str | None
    process: str | None


class What(NamedTuple):
    """A privilege to be, in canonical form."""

    path: Path
    query: Pairs


@dataclass(slots=True)
class Evidence:
    """What was seen of one caller at one privilege.

    Attributes:
        seen: how often and when.
        methods: with which.
        unsure: parameters that select, and yet are not asked for.
    """

    seen: Seen = field(default_factory=Seen)
    methods: set[str] = field(default_factory=set)
    unsure: set[str] = field(default_factory=set)

    def join(self, other: Evidence) -> None:
        """All of another."""
        self.seen.join(other.seen)
        self.methods |= other.methods
        self.unsure |= other.unsure


@dataclass(slots=True)
class Learnt:
    """Rules, and what there is to say about them.

    Attributes:
        document: a local file.
        requests: how many it is learnt from.
        left_out: what is not granted, why, and how often it was seen.
    """

    document: dict[str, object]
    requests: int
    left_out: Mapping[str, Seen]


def learn(
    log: Log,
    *,
    rules_id: str | None = None,
    by: str = "user+exe",
    widen_query: bool = False,
    depth: int | None = None,
    include_refused: bool = False,
) -> Learnt:
    """Make rules of a log.

    Args:
        log: what was asked for.
        rules_id: of the rules.
        by: one of `BY`; without the user or the program, more is granted than was seen.
        widen_query: ask for no parameter.
        depth: grant the first so many segments of a path, and all beneath.
        include_refused: learn from what was refused, too.
    """
    gathered = _Gathering(log, by, widen_query=widen_query, depth=depth)
    for kind, seen in log.kinds.items():
        if kind.through or include_refused:
            gathered.add(kind, seen)
    grants = {who: _smallest(found) for who, found in gathered.grants.items()}
    document = _document(grants, gathered.spelling, rules_id)
    total = sum(e.seen.count for found in grants.values() for e in found.values())
    return Learnt(document, total, gathered.left_out)


class _Gathering:
    def __init__(self, log: Log, by: str, *, widen_query: bool, depth: int | None) -> None:
        self.grants: dict[Who, dict[What, Evidence]] = {}
        self.spelling: dict[Path, str] = {}
        self.left_out: dict[str, Seen] = {}
        self._log = log
        self._by = by
        self._depth = depth
        wanted = frozenset() if widen_query else SELECTING
        self._twice = wanted & self._ambiguous()
        self._selecting = wanted - self._twice

    def _ambiguous(self) -> frozenset[str]:
        """Parameters that some request had twice: named in a rule, they would have it refused."""
        found = set()
        for kind in self._log.kinds:
            if "&" not in kind.target or (request := request_of(self._log.endpoint, kind)) is None:
                continue
            names = [name for name, _ in request.query]
            values = set(request.query)
            found |= {
                name
                for name in SELECTING.intersection(names)
                if names.count(name) > 1
                and (len([n for n, _ in values if n == name]) > 1 or (name, None) in values)
            }
        return frozenset(found)

    def add(self, kind: Kind, seen: Seen) -> None:
        """One kind of request."""
        request = request_of(self._log.endpoint, kind)
        if request is None:
            return self._leave("its form is refused, whatever the rules", seen)
        who = self._who(kind.asker)
        if isinstance(who, str):
            return self._leave(who, seen)
        if request.path_cut:
            return self._leave("the path did not fit into the record", seen)
        known = {n: v for n, v in request.query if n in self._selecting and v is not None}
        unsure = {n for n, v in request.query if n in self._selecting and v is None}
        unsure |= {n for n, _ in request.query if n in self._twice}
        if request.cut:
            unsure |= self._selecting - known.keys()
        # A rule asks for a value, and cannot ask that there be none.
        query = {name: value for name, value in known.items() if _can_be_asked(value)}
        what = What(request.segments[: self._depth], frozenset(query.items()))
        if not (what.path or what.query):
            return self._leave("the path / covers every path", seen)
        spelling = _spelling(kind, request, len(what.path))
        self.spelling.setdefault(what.path, spelling)
        evidence = self.grants.setdefault(who, {}).setdefault(what, Evidence())
        evidence.join(Evidence(seen, {kind.method}, unsure | (known.keys() - query.keys())))
        return None

    def _leave(self, why: str, seen: Seen) -> None:
        self.left_out.setdefault(why, Seen()).join(seen)

    def _who(self, asker: Asker) -> Who | str:
        """Whom a rule would mean; or why there can be none."""
        if asker.uid is None:
            return "who asked is not known"
        user = exe = process = None
        if "user" in self._by:
            if asker.uid != asker.euid:
                return "real and effective user differ, so that no rule on users holds"
            names = sorted(self._log.known.users(asker).values)
            if not names:
                return f"uid {asker.uid} has no name in the log (--machine, --users)"
            user = names[0]
        if "exe" in self._by:
            exe = self._log.known.path(asker)
            process = None if exe else asker.program
            if exe is None and (process is None or user is None):
                return "the program's path is not known (--exe, or --by user for all programs)"
        return Who(user is not None and asker.uid < PEOPLE, user, exe, process)


def _can_be_asked(value: str) -> bool:
    """Whether a rule may have the value: text, and not blank."""
    return bool(value.strip()) and not any("\ud800" <= c <= "\udfff" for c in value)


def _spelling(kind: Kind, request: Request, depth: int) -> str:
    """The path as the caller wrote it where a rule may have it so, else in canonical form."""
    path = kind.target.partition("?")[0]
    if path.startswith("/") and canonical_rule(path, [])[0] == list(request.segments):
        segments: list[str] = [one for one in path.split("/") if one]
    else:
        segments = [segment.replace("%", "%25") for segment in request.segments]
    return "/" + "/".join(segments[:depth])


def _smallest(found: dict[What, Evidence]) -> dict[What, Evidence]:
    """Without privileges that another one of the same caller covers; that gets their evidence."""
    kept: dict[What, Evidence] = {}
    for what in sorted(found, key=lambda one: (len(one.path), len(one.query), one.path)):
        above = next(
            (
                one
                for one in kept
                if what.path[: len(one.path)] == one.path and one.query <= what.query
            ),
            None,
        )
        if above is None:
            kept[what] = found[what]
        else:
            kept[above].join(found[what])
            if above.path == what.path:  # asked for with a value, and without
                kept[above].unsure |= {name for name, _ in what.query - above.query}
    return kept


def _document(
    grants: Mapping[Who, Mapping[What, Evidence]],
    spelling: Mapping[Path, str],
    rules_id: str | None,
) -> dict[str, object]:
    """A local file: privileges by path, a role for each set of them that somebody has."""
    callers = sorted(
        grants,
        key=lambda who: (not who.service, who.user or "", who.exe or "", who.process or ""),
    )
    whats = sorted({what for found in grants.values() for what in found}, key=_order)
    taken = Names()
    privileges = {what: taken.new("privilege", privilege_name(what, whats)) for what in whats}
    identities = {who: taken.new("identity", identity_name(who)) for who in callers}
    roles: dict[tuple[bool, frozenset[What]], list[Who]] = {}
    for who in callers:
        roles.setdefault((who.service, frozenset(grants[who])), []).append(who)
    role_list, assignments, evidence = [], [], {}
    for (_, has), members in roles.items():
        granted = sorted(has, key=_order)
        methods = {m for who in members for what in granted for m in grants[who][what].methods}
        called = role_name(
            [privileges[w] for w in granted], [identities[w] for w in members], methods
        )
        role = taken.new("role", called)
        role_list.append({"name": role, "privileges": [privileges[what] for what in granted]})
        assignments.append({"role": role, "identities": [identities[who] for who in members]})
        evidence[role] = [
            f"{identities[who]}, {privileges[what]}: {_told(who, grants[who][what])}"
            for who in members
            for what in granted
        ]
    document: dict[str, object] = {} if rules_id is None else {"id": rules_id}
    document["defaultAccess"] = "deny"
    document["rules"] = {
        "privileges": [_privilege(privileges[what], what, spelling) for what in whats],
        "roles": role_list,
        "identities": [_identity(identities[who], who) for who in callers],
        "roleAssignments": assignments,
    }
    document["evidence"] = evidence
    return document


def _order(what: What) -> tuple[Path, list[tuple[str, str]]]:
    return what.path, sorted(what.query)


def _privilege(name: str, what: What, spelling: Mapping[Path, str]) -> dict[str, object]:
    shown: dict[str, object] = {"name": name, "path": spelling[what.path]}
    if what.query:
        shown["queryParameters"] = {
            key.replace("%", "%25"): value.replace("%", "%25") for key, value in sorted(what.query)
        }
    return shown


def _identity(name: str, who: Who) -> dict[str, str]:
    selectors = {"userName": who.user, "exePath": who.exe, "processName": who.process}
    return {"name": name} | {key: value for key, value in selectors.items() if value is not None}


def _told(who: Who, evidence: Evidence) -> str:
    """What was seen, and what is granted beyond it."""
    seen = evidence.seen
    words = f"{seen.count:,} x {'/'.join(sorted(evidence.methods))}"
    words += f", {phrases.span(seen.first, seen.last)}" if seen.first else ""
    words += f", in {seen.unit}" if seen.unit else ""
    if evidence.unsure:
        names = ", ".join(sorted(evidence.unsure))
        words += f"; whatever the {names}: it was not always there, there twice, or is not known"
    if who.process is not None:
        words += f"; the path of {who.process} is not known: any program called so"
    return words

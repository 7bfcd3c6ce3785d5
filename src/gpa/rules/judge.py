"""What the engine would decide, from names, also where something is not known: yes, no, unknown.

For tools, which have a record or an operator's words instead of the kernel's. Follows
docs/protocol.md, "The decision", step by step, as ext/policy/decide.rs does; a test compares the
two. What is not known never becomes a certain answer: a judgement has every outcome that is left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from gpa._native import canonical_rule
from gpa.endpoints import Endpoint, Mode
from gpa.errors import RequestFormError, RulesError
from gpa.rules.facts import SELECTORS, Answer, Caller, Request, all_of, any_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gpa.rules.model import EffectiveRules, Identity, Privilege

ALLOW: Final = "allow"
AUDIT_ALLOW: Final = "audit-allow"
DENY: Final = "deny"
REFUSE: Final = "refuse"
DEPENDS: Final = "depends"
"""Decisions, the words of an audit record; the last is no decision."""

_CALLERS_KEPT: Final = 256
"""Callers whose identities are remembered: the records of a log come from few."""

_EXEMPT: Final = {
    (Endpoint.HOSTGA, "PUT", "/vmagentlog"),
    (Endpoint.WIRESERVER, "POST", "/machine/?comp=telemetrydata"),
}
"""Telemetry that root sends unjudged (docs/protocol.md, "Forwarded request")."""


class Outcome(NamedTuple):
    """A decision and its reason, by the words of docs/audit.md."""

    decision: str
    reason: str


class SelectorMatch(NamedTuple):
    """One selector of an identity beside the caller."""

    key: str
    wanted: str
    answer: Answer


@dataclass(frozen=True, slots=True)
class IdentityMatch:
    """An identity beside the caller; `place` is its place in the list."""

    place: int
    identity: Identity
    selectors: tuple[SelectorMatch, ...]

    @property
    def answer(self) -> Answer:
        """Whether all of its selectors hold."""
        return all_of(selector.answer for selector in self.selectors)


class ParameterMatch(NamedTuple):
    """One query parameter of a privilege beside the request, in canonical form."""

    name: str
    wanted: str
    answer: Answer


@dataclass(frozen=True, slots=True)
class PrivilegeMatch:
    """A privilege beside the request.

    Attributes:
        place: in the list of privileges.
        privilege: as written.
        segments: of its path, in canonical form.
        path: whether its path covers the request's.
        parameters: each that it asks for.
        method: whether the request's method is one of its.
    """

    place: int
    privilege: Privilege
    segments: tuple[str, ...]
    path: Answer
    parameters: tuple[ParameterMatch, ...]
    method: Answer = Answer.YES

    @property
    def answer(self) -> Answer:
        """Whether path, parameters and method hold."""
        parameters = (parameter.answer for parameter in self.parameters)
        return all_of((self.path, self.method, *parameters))


class Grant(NamedTuple):
    """A way to be allowed: the privilege is granted to the identity through the role.

    Attributes:
        answer: whether both match.
    """

    privilege: PrivilegeMatch
    identity: IdentityMatch
    role: str
    answer: Answer


@dataclass(frozen=True, slots=True)
class Judgement:
    """What becomes of a request, and why.

    Attributes:
        outcomes: each that is possible; one where everything that matters is known.
        unknown: what is not known and matters: keys of selectors, `query NAME`, `uid`, `target`.
        privilege: name of the one that decides, where that is certain.
        role: name of the role that allows.
        identity: name of the identity that allows.
        privileges: those that match the request, or may, in the order of the rules.
        grants: of these privileges, in the order in which they are tried.
    """

    outcomes: tuple[Outcome, ...]
    unknown: tuple[str, ...] = ()
    privilege: str | None = None
    role: str | None = None
    identity: str | None = None
    privileges: tuple[PrivilegeMatch, ...] = ()
    grants: tuple[Grant, ...] = ()

    @property
    def decision(self) -> str:
        """The one decision, or `depends`."""
        decisions = {outcome.decision for outcome in self.outcomes}
        return decisions.pop() if len(decisions) == 1 else DEPENDS

    @property
    def reason(self) -> str | None:
        """The one reason; None where it depends."""
        reasons = {outcome.reason for outcome in self.outcomes}
        return reasons.pop() if len(reasons) == 1 else None


class Judge:
    """Judges requests by the rules of one endpoint.

    Args:
        endpoint: whose rules they are.
        mode: of the endpoint; one that is not known is judged as enforce.
        effective: the rules; None where the host sent none. Every assignment in them holds:
            `validity.split` takes out those that do not at some moment.

    Raises:
        RulesError: a path that no request can have.
    """

    def __init__(self, endpoint: Endpoint, mode: Mode, effective: EffectiveRules | None) -> None:
        self.endpoint = endpoint
        self.mode = mode
        self.effective = effective
        self._forms: list[tuple[tuple[str, ...], tuple[tuple[str, str], ...]]] = []
        self._by_path: dict[tuple[str, ...], list[int]] = {}
        self._named: set[str] = set()
        self._granted: dict[int, tuple[tuple[int, str], ...]] = {}
        self._assignments_of: dict[str, list[int]] = {}
        self._identities: dict[Caller, dict[int, IdentityMatch]] = {}
        rules = effective.rules if effective is not None and effective.broken is None else None
        self._privileges = rules.privileges if rules else ()
        self._identity_list = rules.identities if rules else ()
        self._roles = {role.name: role for role in rules.roles} if rules else {}
        self._assignments = rules.assignments if rules else ()
        self._index()

    def _index(self) -> None:
        for place, privilege in enumerate(self._privileges):
            try:
                segments, pairs = canonical_rule(privilege.path, list(privilege.query))
            except RequestFormError as error:
                where = f"rules.privileges[{place}].path"
                raise RulesError(f"{where}: {error}", ((where, str(error)),)) from None
            self._forms.append((tuple(segments), tuple(pairs)))
            self._by_path.setdefault(tuple(segments), []).append(place)
            self._named.update(name for name, _ in pairs)
        self._places = {identity.name: i for i, identity in enumerate(self._identity_list)}
        roles_of: dict[str, list[str]] = {}
        for role in self._roles.values():
            for name in role.privileges:
                roles_of.setdefault(name, []).append(role.name)
        assigned: dict[str, list[int]] = {}
        for i, assignment in enumerate(self._assignments):
            assigned.setdefault(assignment.role, []).append(i)
        self._assignments_of = {
            name: sorted({i for role in roles for i in assigned.get(role, ())})
            for name, roles in roles_of.items()
        }

    # One request.

    def judge(self, caller: Caller, request: Request) -> Judgement:
        """What the engine decides about a request that has passed as to its form."""
        if self.mode is Mode.DISABLED:
            return Judgement((Outcome(ALLOW, "disabled"),))
        outcomes: list[Outcome] = []
        unknown: list[str] = []
        root = caller.root
        exempt = (self.endpoint, request.method, request.target.lower()) in _EXEMPT
        ambiguous = self._ambiguous(request)
        # Each step adds what it may end with, and goes on while that is not certain.
        steps = (
            (root if exempt else Answer.NO, Outcome(ALLOW, "exempt")),
            (ambiguous, Outcome(REFUSE, "ambiguous_query")),
            (
                Answer.NO if self.endpoint is Endpoint.IMDS else root.opposite,
                Outcome(DENY, "not_root"),
            ),
        )
        for answer, outcome in steps:
            if answer is not Answer.NO:
                outcomes.append(outcome)
            if answer is Answer.YES:
                return Judgement(tuple(outcomes), tuple(unknown))
            if answer is Answer.UNKNOWN:
                unknown += self._unread(request) if outcome.decision == REFUSE else ("uid",)
        if self.effective is None:
            outcomes.append(Outcome(ALLOW, "no_rules"))
        elif self.effective.broken is not None:
            outcomes.append(self._refusal("rules_broken"))
        else:
            return self._by_rules(
                caller, request, outcomes, unknown, default_allowed=self.effective.default_allowed
            )
        return Judgement(tuple(outcomes), tuple(dict.fromkeys(unknown)))

    def _by_rules(
        self,
        caller: Caller,
        request: Request,
        outcomes: list[Outcome],
        unknown: list[str],
        *,
        default_allowed: bool,
    ) -> Judgement:
        certain_so_far = not outcomes
        matching = tuple(self._matching(request))
        grants = tuple(grant for match in matching for grant in self._grants(match, caller))
        matched = any_of(match.answer for match in matching)
        granted = any_of(grant.answer for grant in grants)
        if granted is not Answer.NO:
            outcomes.append(Outcome(ALLOW, "rule_matched"))
        if granted is not Answer.YES:
            if matched is not Answer.NO:
                outcomes.append(self._refusal("no_identity_matched"))
            if matched is not Answer.YES:
                default = Outcome(ALLOW, "default_allow")
                outcomes.append(default if default_allowed else self._refusal("default_deny"))
        if len(outcomes) > 1:
            unknown += _unknown_of(matching, grants)
        first = next((grant for grant in grants if grant.answer is not Answer.NO), None)
        privilege, role, identity = None, None, None
        if certain_so_far and first is not None and first.answer is Answer.YES:
            privilege, role = first.privilege.privilege.name, first.role
            identity = first.identity.identity.name
        elif certain_so_far and granted is Answer.NO and matching:
            earliest = matching[0]
            privilege = earliest.privilege.name if earliest.answer is Answer.YES else None
        return Judgement(
            outcomes=tuple(outcomes),
            unknown=tuple(dict.fromkeys(unknown)),
            privilege=privilege,
            role=role,
            identity=identity,
            privileges=matching,
            grants=grants,
        )

    def _refusal(self, reason: str) -> Outcome:
        return Outcome(AUDIT_ALLOW if self.mode is Mode.AUDIT else DENY, reason)

    def _ambiguous(self, request: Request) -> Answer:
        """Whether a parameter that some privilege names has two values."""
        values: dict[str, list[str | None]] = {}
        for name, value in request.query:
            if name in self._named:
                values.setdefault(name, []).append(value)
        if any(len(set(found) - {None}) > 1 for found in values.values()):
            return Answer.YES
        twice = any(len(found) > 1 and None in found for found in values.values())
        return Answer.UNKNOWN if twice or (request.cut and self._named) else Answer.NO

    def _unread(self, request: Request) -> Iterator[str]:
        """What a record does not tell of the parameters that rules name."""
        for name, value in request.query:
            if value is None and name in self._named:
                yield f"query {name}"
        if request.cut:
            yield "target"

    # Privileges.

    def privilege(self, place: int, request: Request) -> PrivilegeMatch:
        """One privilege beside the request, whether it matches or not."""
        segments, pairs = self._forms[place]
        parameters = tuple(
            ParameterMatch(name, value, request.has(name, value)) for name, value in pairs
        )
        privilege = self._privileges[place]
        fits = not privilege.methods or request.method in privilege.methods
        method = Answer.YES if fits else Answer.NO
        path = request.is_below(segments)
        return PrivilegeMatch(place, privilege, segments, path, parameters, method)

    def _matching(self, request: Request) -> Iterator[PrivilegeMatch]:
        places: Iterable[int]
        if request.path_cut:
            places = range(len(self._privileges))
        else:
            ways = (request.segments[:depth] for depth in range(len(request.segments) + 1))
            places = sorted(place for way in ways for place in self._by_path.get(way, ()))
        for place in places:
            match = self.privilege(place, request)
            if match.answer is not Answer.NO:
                yield match

    # Identities.

    def identity(self, place: int, caller: Caller) -> IdentityMatch:
        """One identity beside the caller."""
        known = self._identities.get(caller)
        if known is None:
            if len(self._identities) >= _CALLERS_KEPT:
                self._identities.clear()
            known = self._identities.setdefault(caller, {})
        if place not in known:
            identity = self._identity_list[place]
            known[place] = IdentityMatch(
                place,
                identity,
                tuple(
                    SelectorMatch(selector.key, wanted, selector.answer(caller, wanted))
                    for selector in SELECTORS
                    if (wanted := selector.wanted(identity)) is not None
                ),
            )
        return known[place]

    def _grants(self, match: PrivilegeMatch, caller: Caller) -> Iterator[Grant]:
        for place, role in self.granted(match.place):
            identity = self.identity(place, caller)
            answer = all_of((match.answer, identity.answer))
            yield Grant(match, identity, role, answer)

    def granted(self, place: int) -> tuple[tuple[int, str], ...]:
        """Places of the identities that have a privilege, in order, each with its first role."""
        if place not in self._granted:
            roles: dict[int, str] = {}
            for i in self._assignments_of.get(self._privileges[place].name, ()):
                assignment = self._assignments[i]
                for name in assignment.identities:
                    roles.setdefault(self._places[name], assignment.role)
            self._granted[place] = tuple(sorted(roles.items()))
        return self._granted[place]


def _unknown_of(matching: Iterable[PrivilegeMatch], grants: Iterable[Grant]) -> Iterator[str]:
    for match in matching:
        if match.path is Answer.UNKNOWN:
            yield "target"
        for parameter in match.parameters:
            if parameter.answer is Answer.UNKNOWN:
                yield f"query {parameter.name}"
    for grant in grants:
        if grant.identity.answer is Answer.UNKNOWN:
            for selector in grant.identity.selectors:
                if selector.answer is Answer.UNKNOWN:
                    yield selector.key

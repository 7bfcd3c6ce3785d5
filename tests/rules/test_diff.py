"""Two rule sets compared by what they do; the judge is asked whether it is true."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from tests.rules import corpus, generate
from tests.rules.test_engine import rule_set_of

from gpa.endpoints import Endpoint, Mode
from gpa.errors import RulesError
from gpa.rules import diff
from gpa.rules.diff import ALLOWED, REFUSED, Comparison, compare
from gpa.rules.effect import EVERYBODY, METHOD, Pairs, Path, Who, implies, who_of
from gpa.rules.facts import NONE, Caller, Request, known
from gpa.rules.judge import ALLOW, REFUSE, Judge
from gpa.rules.model import METHODS, Assignment, EffectiveRules, Identity, Privilege, Role, Rules

if TYPE_CHECKING:
    from collections.abc import Iterable

BATCHES = 6
PAIRS = 60
REQUESTS = 30
NOBODY = 4321

ALICE = Identity("alice", user_name="alice")
CURL = Identity("curl", exe_path="/usr/bin/curl")
ALICE_CURL = Identity("alice-curl", user_name="alice", exe_path="/usr/bin/curl")
BOB = Identity("bob", user_name="bob")


def rules(
    *grants: tuple[str, Identity] | tuple[str, Identity, dict[str, str]],
    allowed: bool = False,
    more: Iterable[Privilege] = (),
) -> EffectiveRules:
    """A rule set that grants each path to each identity."""
    privileges, roles, assignments = list(more), [], []
    identities: dict[str, Identity] = {}
    for number, (path, identity, *query) in enumerate(grants):
        asked = tuple(query[0].items()) if query else ()
        privileges.append(Privilege(f"p{number}", path, asked))
        roles.append(Role(f"r{number}", (f"p{number}",)))
        assignments.append(Assignment(f"r{number}", (identity.name,)))
        identities[identity.name] = identity
    lists: Any = (privileges, roles, identities.values(), assignments)
    return EffectiveRules("-", allowed, Rules(*map(tuple, lists)))


def told(comparison: Comparison) -> list[tuple[str, str, dict[str, str], list[Who]]]:
    return [
        (d.change, "/" + "/".join(d.path), dict(d.query), list(d.callers))
        for d in comparison.differences
    ]


def caller_with(who: Iterable[tuple[str, str]]) -> Caller:
    """Somebody who has just these."""

    def fact(key: str) -> Any:
        values = [value for name, value in who if name == key]
        return known(*values) if values else NONE

    uids = [int(value) for key, value in who if key == "uid"]
    uid = uids[0] if uids else NOBODY
    return Caller(
        uid,
        uid,
        users=fact("userName"),
        groups=fact("groupName"),
        exe_paths=fact("exePath"),
        process_names=fact("processName"),
        contents=fact("exeSha256"),
        units=fact("systemdUnit"),
        cgroups=fact("cgroup"),
        containers=fact("containerId"),
    )


def request_for(path: Path, query: Iterable[tuple[str, str]], unnamed: str = "GET") -> Request:
    """`unnamed` is the method where the query says none."""
    method = dict(query).get(METHOD, unnamed)
    return Request(Endpoint.IMDS, method, "/", path, tuple(pair for pair in query if pair[0]))


def lets(rule_set: EffectiveRules | None, caller: Caller, request: Request) -> bool:
    decision = Judge(Endpoint.IMDS, Mode.ENFORCE, rule_set).judge(caller, request).decision
    assert decision in (ALLOW, REFUSE, "deny")
    return decision == ALLOW


# By hand.


def test_how_rules_are_written_makes_no_difference() -> None:
    one = rules(("/Metadata/identity/", ALICE, {"Resource": "A%20b"}), ("/x", BOB))
    other = EffectiveRules(
        "another",
        False,
        Rules(
            (Privilege("b", "/x"), Privilege("a", "/metadata/%69dentity", (("resource", "a B"),))),
            (Role("all", ("b",)), Role("few", ("a",)), Role("nobody", ("a", "b"))),
            (Identity("2", user_name="bob"), Identity("1", user_name="alice")),
            (Assignment("few", ("1",)), Assignment("all", ("2",)), Assignment("all", ("2",))),
        ),
    )
    assert compare(one, other).same
    assert compare(one, one).same


def test_a_grant_that_is_gone_is_told_where_it_was() -> None:
    comparison = compare(rules(("/a", ALICE), ("/b", BOB)), rules(("/b", BOB)))
    assert told(comparison) == [(REFUSED, "/a", {}, [who_of(ALICE)])]
    (difference,) = comparison.differences
    assert (difference.before.privileges, difference.before.default) == (("p0",), False)
    assert (difference.after.privileges, difference.after.default) == ((), True)


def test_who_is_granted_in_another_way_is_not_told() -> None:
    """An identity with fewer selectors covers one with more."""
    assert compare(rules(("/a", ALICE_CURL), ("/a", ALICE)), rules(("/a", ALICE))).same
    comparison = compare(rules(("/a", ALICE)), rules(("/a", ALICE_CURL)))
    assert told(comparison) == [(REFUSED, "/a", {}, [who_of(ALICE)])]
    assert comparison.differences[0].unless_callers == (who_of(ALICE_CURL),)


def test_the_most_general_is_told_once() -> None:
    before = rules(("/a", ALICE), ("/a/b", ALICE), ("/a/b/c", ALICE), ("/a", ALICE_CURL))
    assert told(compare(before, rules())) == [(REFUSED, "/a", {}, [who_of(ALICE)])]


def test_exceptions_beneath_a_path_and_with_a_query_are_named() -> None:
    after = rules(("/a/b", ALICE), ("/a", ALICE, {"x": "1"}))
    (difference,) = compare(rules(("/a", ALICE)), after).differences
    assert (difference.path, difference.query) == (("a",), frozenset())
    assert difference.unless_paths == (("a", "b"),)
    assert difference.unless_queries == (frozenset({("x", "1")}),)


def test_a_privilege_that_nobody_has_takes_away_what_the_default_gave() -> None:
    comparison = compare(rules(allowed=True), rules(("/a", ALICE), allowed=True))
    assert told(comparison) == [(REFUSED, "/a", {}, [EVERYBODY])]
    assert comparison.differences[0].unless_callers == (who_of(ALICE),)
    assert compare(rules(), rules(more=[Privilege("p", "/a")])).same, "refused either way"


def test_no_rules_are_a_default_that_allows_and_broken_ones_refuse() -> None:
    assert compare(None, rules(allowed=True)).same
    broken = EffectiveRules("-", True, rules(("/a", ALICE)).rules, broken="not JSON")
    assert compare(broken, rules()).same
    assert told(compare(broken, None)) == [(ALLOWED, "/", {}, [EVERYBODY])]


def test_what_only_two_queries_together_tell_apart_is_found() -> None:
    """The default of one gives to /a?x=1 what it refuses as soon as y=1 is there, too."""
    before = rules(("/a", ALICE, {"x": "1"}), allowed=True)
    after = rules(("/a", BOB, {"y": "1"}), allowed=True)
    found = told(compare(before, after))
    assert (REFUSED, "/a", {"x": "1", "y": "1"}, [who_of(ALICE)]) in found
    assert (ALLOWED, "/a", {"x": "1"}, [EVERYBODY]) in found


def test_a_parameter_that_only_one_names_may_not_be_there_twice() -> None:
    one = rules(("/a", ALICE), ("/a", ALICE, {"x": "1"}))
    other = rules(("/a", ALICE))
    assert compare(one, other).allowed_twice == ("x",)
    assert compare(other, one).refused_twice == ("x",)
    assert compare(rules(more=[Privilege("p", "/a", (("x", "1"),))]), rules()).same


def test_a_privilege_that_asks_for_two_values_never_matches() -> None:
    more = [Privilege("p", "/a", (("x", "1"), ("X", "2")))]
    comparison = compare(rules(("/a", ALICE), more=more), rules(("/a", ALICE)))
    assert (comparison.differences, comparison.allowed_twice) == ((), ("x",))


def test_methods_are_told_where_they_make_a_difference() -> None:
    def granted(*methods: str) -> EffectiveRules:
        one = rules(("/a", ALICE))
        (privilege,) = one.rules.privileges
        return replace(
            one, rules=replace(one.rules, privileges=(replace(privilege, methods=methods),))
        )

    assert compare(granted("GET", "PUT"), granted("PUT", "GET")).same
    assert compare(granted(), granted(*METHODS)).same
    found = told(compare(granted("GET", "PUT"), granted("PUT")))
    assert found == [(REFUSED, "/a", {METHOD: "GET"}, [who_of(ALICE)])]
    (difference,) = compare(granted(), granted("GET")).differences
    assert (difference.query, difference.unless_queries) == (
        frozenset(),
        (frozenset({(METHOD, "GET")}),),
    )


def test_a_time_and_a_cgroup_within_another_ask_for_more() -> None:
    def holding(begin: int | None, end: int | None, cgroup: str = "/a") -> EffectiveRules:
        one = rules(("/a", Identity("i", cgroup=cgroup)))
        times = (None if n is None else datetime(2026, 1, n, tzinfo=UTC) for n in (begin, end))
        (assignment,) = one.rules.assignments
        held = Assignment(assignment.role, assignment.identities, *times)
        return replace(one, rules=replace(one.rules, assignments=(held,)))

    assert compare(holding(1, 9), holding(1, 9)).same
    for wide, narrow in (
        (holding(None, None), holding(1, None)),
        (holding(1, 9), holding(2, 8)),
        (holding(1, None, "/a"), holding(1, None, "/a/b")),
    ):
        (difference,) = compare(wide, narrow).differences
        assert difference.change == REFUSED
        (difference,) = compare(narrow, wide).differences
        assert difference.change == ALLOWED
    shifted = compare(holding(1, 5), holding(2, 6))
    assert {difference.change for difference in shifted.differences} == {REFUSED, ALLOWED}


def test_a_path_that_no_request_can_have_is_an_error() -> None:
    with pytest.raises(RulesError, match=r"rules\.privileges\[0\]\.path"):
        compare(rules(more=[Privilege("p", "/a/../b")]), None)


# By chance.


def selectors_of(*rule_sets: EffectiveRules | None) -> list[tuple[str, str]]:
    identities = [i for one in rule_sets if one is not None for i in one.rules.identities]
    return sorted({pair for identity in identities for pair in who_of(identity)})


def timeless(rule_set: EffectiveRules | None) -> EffectiveRules | None:
    if rule_set is None:
        return None
    assignments = tuple(Assignment(a.role, a.identities) for a in rule_set.rules.assignments)
    return replace(rule_set, rules=replace(rule_set.rules, assignments=assignments))


def unnamed(*rule_sets: EffectiveRules | None) -> str:
    """A method that no privilege names; where there is none, every difference says one."""
    privileges = [p for one in rule_sets if one is not None for p in one.rules.privileges]
    named = {m for p in privileges if len(p.methods) < len(METHODS) for m in p.methods}
    return next((method for method in METHODS if method not in named), "NONE")


def some_of(random: Random, owned: list[tuple[str, str]]) -> Who:
    """Selectors that one caller may meet: one uid at most, and each cgroup with those above."""
    chosen = random.sample(owned, min(len(owned), random.randrange(6)))
    uids = [pair for pair in chosen if pair[0] == "uid"]
    return frozenset(
        {pair for pair in chosen if pair not in uids[1:]}
        | {other for other in owned for pair in chosen if implies(pair, other)}
    )


def covers(difference: diff.Difference, who: Who, path: Path, query: Pairs) -> bool:
    return (
        path[: len(difference.path)] == difference.path
        and difference.query <= query
        and any(one <= who for one in difference.callers)
    )


def mutated(random: Random, rule_set: EffectiveRules) -> EffectiveRules:
    """A rule set near another one, as a change under review is."""
    lists = rule_set.rules
    return EffectiveRules(
        "-",
        rule_set.default_allowed if random.random() < 0.8 else not rule_set.default_allowed,
        Rules(
            tuple(random.sample(lists.privileges, len(lists.privileges))),
            lists.roles,
            lists.identities,
            tuple(a for a in lists.assignments if random.random() < 0.8),
        ),
    )


@pytest.mark.parametrize("seed", range(BATCHES))
def test_what_is_told_is_true_and_is_all(seed: int) -> None:
    random = Random(seed)  # noqa: S311 - to be repeatable
    differing = same = 0
    for _ in range(PAIRS):
        before = corpus.effective_of(rule_set_of(random))
        after = corpus.effective_of(rule_set_of(random))
        # A caller has a time only here: the judge is asked about rules that hold always.
        before, after = timeless(before), timeless(after)
        if before is not None and before.broken is None and random.random() < 0.7:
            after = mutated(random, before)
        comparison = compare(before, after)
        assert not comparison.cut
        for difference in comparison.differences:
            request = request_for(difference.path, difference.query, unnamed(before, after))
            for who in difference.callers:
                caller = caller_with(who)
                assert lets(before, caller, request) is (difference.change == REFUSED)
                assert lets(after, caller, request) is (difference.change == ALLOWED)
            for other in difference.unless_callers:
                both = [caller_with(who | other) for who in difference.callers]
                assert any(lets(before, one, request) and lets(after, one, request) for one in both)
        owned = selectors_of(before, after)
        known_paths = [
            {"path": p.path, "queryParameters": dict(p.query)}
            for one in (before, after)
            if one is not None
            for p in one.rules.privileges
        ]
        for _ in range(REQUESTS):
            who = some_of(random, owned)
            method, _, target = generate.request(random, known_paths).rpartition(" ")
            request = Request.read(Endpoint.IMDS, method or "GET", target)
            names = [name for name, _ in request.query]
            twice = {n for n in names if len({v for m, v in request.query if m == n}) > 1}
            had, has = (lets(one, caller_with(who), request) for one in (before, after))
            query = frozenset((n, v) for n, v in request.query if v is not None and n not in twice)
            query |= {(METHOD, request.method)}
            found = {
                difference.change
                for difference in comparison.differences
                if covers(difference, who, request.segments, query)
            }
            differing += had != has
            same += had == has
            if had and not has:
                assert REFUSED in found or twice & set(comparison.refused_twice)
            if has and not had:
                assert ALLOWED in found or twice & set(comparison.allowed_twice)
    assert differing > 50
    assert same > 50


def test_large_rule_sets_take_seconds() -> None:
    identities = tuple(Identity(f"i{n}", user_name=f"u{n}", exe_path="/bin/x") for n in range(1000))
    privileges = tuple(
        Privilege(f"p{n}", f"/a/{n % 100}/{n // 4}", (("r", str(n % 4)),) if n % 4 else ())
        for n in range(10_000)
    )
    roles = tuple(Role(f"r{n}", tuple(p.name for p in privileges[n::500])) for n in range(500))
    random = Random(1)  # noqa: S311 - to be repeatable

    def some() -> EffectiveRules:
        chosen = (random.sample(identities, 20) for _ in roles)
        assignments = tuple(
            Assignment(role.name, tuple(i.name for i in who))
            for role, who in zip(roles, chosen, strict=True)
        )
        return EffectiveRules("-", False, Rules(privileges, roles, identities, assignments))

    start = time.perf_counter()
    comparison = compare(some(), some())
    assert time.perf_counter() - start < 5
    assert len(comparison.differences) == diff.MAX_DIFFERENCES
    assert comparison.more > 10_000
    assert not comparison.cut


def test_too_much_to_look_at_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diff, "MAX_KINDS", 3)
    comparison = compare(rules(("/a", ALICE), ("/b", ALICE), ("/c", ALICE)), None)
    assert comparison.cut
    assert not comparison.same

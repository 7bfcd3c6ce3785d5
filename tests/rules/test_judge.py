"""The judge over names beside the compiled engine: all known, and with facts missing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from random import Random

import pytest
from tests.rules import corpus, generate, oracle
from tests.rules.native import NativeSnapshot
from tests.rules.test_engine import rule_set_of

from gpa.endpoints import Endpoint, Mode
from gpa.errors import RulesError
from gpa.rules import units, validity
from gpa.rules.facts import NONE, UNKNOWN, Answer, Caller, Fact, Request, all_of, any_of, known
from gpa.rules.judge import DEPENDS, Judge, Outcome
from gpa.rules.model import Assignment, EffectiveRules, Identity, Privilege, Role, Rules

BATCHES = 8
SETS = 12
REQUESTS = 40
NOW = datetime.fromtimestamp(generate.NOW, UTC)
WORDS = {"audit_allow": "audit-allow", "refused": "refuse"}


def named(machine: oracle.Machine, caller: oracle.Caller) -> Caller:
    """The caller by names, as somebody who looks everything up would say it."""
    believed = caller.userns == oracle.INITIAL_USERNS and caller.sbmagic != oracle.NFS
    files = [path for path, file in machine.files.items() if file == caller.exe]
    content = machine.contents.get(caller.exe) if caller.exe else None
    place = "/" + "/".join(machine.place_of(caller.cgroup_id))
    outermost = units.parse(place)
    above = [place[:end] for end, c in enumerate(f"{place}/") if c == "/" and end]
    return Caller(
        uid=caller.uid,
        euid=caller.euid,
        users=known(*machine.names_of(caller.uid)),
        groups=known(*machine.groups_of(caller.uid, caller.gid)),
        exe_paths=known(*files) if believed else NONE,
        process_names=known(caller.exe_name) if believed and caller.exe_name else NONE,
        contents=known(content) if believed and content else NONE,
        units=known(outermost.unit) if outermost.unit else NONE,
        cgroups=known(*above),
        containers=known(outermost.container) if outermost.container else NONE,
    )


def poorer(random: Random, caller: Caller) -> Caller:
    """The same caller, of whom less is known."""

    def less(fact: Fact) -> Fact:
        if random.random() < 0.5:
            return fact
        some = frozenset(value for value in fact.values if random.random() < 0.5)
        return random.choice((UNKNOWN, Fact(some)))

    ids = (caller.uid, caller.euid)
    uid, euid = (number if random.random() < 0.6 else None for number in ids)
    return Caller(
        uid,
        euid,
        less(caller.users),
        less(caller.groups),
        less(caller.exe_paths),
        less(caller.process_names),
        one_user=caller.uid == caller.euid and random.random() < 0.5,
        contents=less(caller.contents),
        units=less(caller.units),
        cgroups=less(caller.cgroups),
        containers=less(caller.containers),
    )


def recorded(random: Random, target: str) -> str:
    """The target as a record may have it: values cut out, the end cut off."""
    path, mark, query = target.partition("?")
    pieces = [
        f"{piece.partition('=')[0]}=…" if "=" in piece and random.random() < 0.4 else piece
        for piece in query.split("&")
    ]
    text = path + mark + "&".join(pieces)
    if random.random() < 0.3:
        return text[: random.randrange(1, len(text) + 1)].removesuffix("…") + "~"
    return text


@pytest.mark.parametrize("seed", range(BATCHES))
def test_the_judge_decides_as_the_engine_and_is_never_wrongly_certain(seed: int) -> None:
    random = Random(seed)  # noqa: S311 - to be repeatable
    uncertain = 0
    for _ in range(SETS):
        rule_set, machine = rule_set_of(random), generate.machine(random)
        effective = corpus.effective_of(rule_set)
        snapshot = NativeSnapshot(effective, corpus.table_of(machine, rule_set))
        endpoint = Endpoint(rule_set["endpoint"])
        holding = validity.split(effective, NOW)[0] if effective is not None else None
        judge = Judge(endpoint, Mode(rule_set["mode"]), holding)
        rules = oracle.effective(rule_set["item"], rule_set["local"])
        for _ in range(REQUESTS):
            caller = generate.caller(random)
            asked = generate.request(random, rules["privileges"] if rules else [])
            wanted = snapshot.decide(endpoint.value, caller, asked)
            method, _, target = asked.rpartition(" ")
            method = method or "GET"
            outcome = Outcome(WORDS.get(wanted.decision, wanted.decision), wanted.reason)
            told = (rule_set, caller, asked)

            full = judge.judge(named(machine, caller), Request.read(endpoint, method, target))
            assert (full.outcomes, full.unknown) == ((outcome,), ()), told
            names = (full.privilege, full.role, full.identity)
            assert names == (wanted.privilege, wanted.role, wanted.identity), told

            less = Request.read_recorded(endpoint, method, recorded(random, target))
            poor = judge.judge(poorer(random, named(machine, caller)), less)
            assert outcome in poor.outcomes, (told, less)
            assert poor.privilege in (None, wanted.privilege), (told, less)
            assert poor.role in (None, wanted.role)
            assert poor.identity in (None, wanted.identity)
            assert bool(poor.unknown) == (len(poor.outcomes) > 1), (told, less)
            uncertain += len(poor.outcomes) > 1
    assert uncertain > SETS * REQUESTS // 20


ALICE = Caller(1000, 1000, known("alice"), known("alice", "ops"), known("/usr/bin/curl"), NONE)
RULES = EffectiveRules(
    "test",
    default_allowed=False,
    rules=Rules(
        privileges=(Privilege("token", "/metadata/identity", (("client_id", "a%62"),)),),
        roles=(Role("reader", ("token",)),),
        identities=(Identity("backup", "backup", exe_path="/usr/bin/restic"),),
        assignments=(Assignment("reader", ("backup",)),),
    ),
)


def judged(caller: Caller, target: str, *, recorded: bool = False) -> list[Outcome]:
    judge = Judge(Endpoint.IMDS, Mode.ENFORCE, RULES)
    read = Request.read_recorded if recorded else Request.read
    return list(judge.judge(caller, read(Endpoint.IMDS, "GET", target)).outcomes)


def test_each_selector_is_told_beside_what_the_caller_is() -> None:
    judge = Judge(Endpoint.IMDS, Mode.ENFORCE, RULES)
    request = Request.read(Endpoint.IMDS, "GET", "/metadata/identity?CLIENT_ID=AB")
    judgement = judge.judge(replace(ALICE, exe_paths=UNKNOWN), request)
    assert (judgement.decision, judgement.reason) == ("deny", "no_identity_matched")
    assert [tuple(s) for s in judgement.grants[0].identity.selectors] == [
        ("userName", "backup", Answer.NO),
        ("exePath", "/usr/bin/restic", Answer.UNKNOWN),
    ]


def test_a_value_that_a_record_hides_decides_nothing() -> None:
    hidden = "/metadata/identity/oauth2?=…&client_id=…&b=1"
    assert judged(ALICE, hidden, recorded=True) == [
        Outcome("deny", "no_identity_matched"),
        Outcome("deny", "default_deny"),
    ]
    plain = Request.read_recorded(Endpoint.IMDS, "GET", hidden)
    assert plain.query == (("client_id", None), ("b", "1"))
    again = f"{hidden}&client_id=ab"
    assert Outcome("refuse", "ambiguous_query") in judged(ALICE, again, recorded=True)


def test_a_caller_of_whom_nothing_is_known_gets_every_answer() -> None:
    judge = Judge(Endpoint.WIRESERVER, Mode.ENFORCE, RULES)
    target = "/metadata/identity?client_id=ab"
    judgement = judge.judge(Caller(), Request.read(Endpoint.WIRESERVER, "GET", target))
    assert judgement.decision == DEPENDS
    assert judgement.reason is None
    assert judgement.unknown == ("uid", "userName", "exePath")
    assert {o.reason for o in judgement.outcomes} == {
        "not_root",
        "rule_matched",
        "no_identity_matched",
    }


@pytest.mark.parametrize("target", ["/machine/?comp=telemetrydata", "/Machine/?Comp=TelemetryData"])
def test_telemetry_of_root_is_exempt_before_the_rules(target: str) -> None:
    judge = Judge(Endpoint.WIRESERVER, Mode.ENFORCE, RULES)
    request = Request.read(Endpoint.WIRESERVER, "POST", f"http://168.63.129.16{target}")
    assert judge.judge(Caller(0, 0), request).outcomes == (Outcome("allow", "exempt"),)
    assert judge.judge(ALICE, request).outcomes == (Outcome("deny", "not_root"),)


def test_a_path_that_no_request_can_have_is_an_error_with_its_place() -> None:
    rules = Rules(privileges=(Privilege("a", "/a"), Privilege("b", "/a/../b")))
    with pytest.raises(RulesError, match=r"rules\.privileges\[1\]\.path: the path has dot"):
        Judge(Endpoint.IMDS, Mode.ENFORCE, EffectiveRules("", default_allowed=True, rules=rules))


def test_answers_of_three_kinds_are_joined() -> None:
    yes, no, unknown = Answer.YES, Answer.NO, Answer.UNKNOWN
    assert (all_of([]), all_of([yes, unknown]), all_of([unknown, no])) == (yes, unknown, no)
    assert (any_of([]), any_of([no, unknown]), any_of([unknown, yes])) == (no, unknown, yes)

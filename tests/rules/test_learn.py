"""Rules learnt from a log allow what it shows, and nothing else that the language tells apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpa.cli.rules.learn import readable
from gpa.endpoints import Endpoint, Mode
from gpa.rules.facts import NONE, Caller, Request, known
from gpa.rules.in_force import read_rules_file
from gpa.rules.judge import ALLOW, Judge
from gpa.rules.learn import SELECTING, Learnt, learn
from gpa.rules.learnt import EVIDENCE
from gpa.rules.model import METHODS, EffectiveRules
from gpa.rules.naming import slug
from gpa.rules.records import Reading, Record
from gpa.rules.replay import Known, Log, request_of
from gpa.rules.validate import read_local_rules

VECTOR = Path(__file__).parents[1] / "vectors/audit/audit.jsonl"
TOKEN = "/metadata/identity/oauth2/token"
VAULT = "https://vault.azure.net"
ANY_TOKEN = {"name": "token", "path": TOKEN, "methods": ["GET"]}

DEFAULTS: dict[str, Any] = {
    "time": "2026-11-25T10:00:00.000Z",
    "id": "d-1",
    "endpoint": "imds",
    "method": "GET",
    "target": "/metadata/instance",
    "decision": "allow",
    "reason": "rule_matched",
    "uid": 1000,
    "exe": "curl",
}
FULL = {"euid": 1000, "gid": 1000, "user": "alice", "groups": ["alice"], "path": "/usr/bin/curl"}


def record(**more: Any) -> Record:
    return msgspec.convert(DEFAULTS | more, Record)


def log_of(*records: Record, programs: tuple[str, ...] = ()) -> Log:
    log = Log(Endpoint.IMDS, Known(programs))
    log.known.name(1000, "alice")
    log.known.name(0, "root")
    log.read(records)
    return log


def rules_of(learnt: Learnt) -> EffectiveRules:
    local = read_local_rules(json.loads(json.dumps(learnt.document)))
    assert local.default_allowed is False
    assert local.rules is not None
    return EffectiveRules("-", False, local.rules)


def lists(learnt: Learnt) -> Any:
    return learnt.document["rules"]


def test_a_request_becomes_one_rule_with_its_evidence() -> None:
    log = log_of(
        record(**FULL, decision="audit-allow", unit="web.service"),
        record(time="2026-11-25T11:00:00.000Z", target="/metadata/instance?api-version=1"),
    )
    assert learn(log, rules_id="site-8").document == {
        "id": "site-8",
        "defaultAccess": "deny",
        "rules": {
            "privileges": [{"name": "instance", "path": "/metadata/instance", "methods": ["GET"]}],
            "roles": [{"name": "instance-reader", "privileges": ["instance"]}],
            "identities": [{"name": "alice-curl", "userName": "alice", "exePath": "/usr/bin/curl"}],
            "roleAssignments": [{"role": "instance-reader", "identities": ["alice-curl"]}],
        },
        "//evidence": {
            "instance-reader": [
                "alice-curl, instance: 2 x GET, 2026-11-25T10:00:00.000Z to"
                " 2026-11-25T11:00:00.000Z, in web.service"
            ]
        },
    }


@pytest.mark.parametrize(
    ("decision", "reason", "learnt"),
    [
        ("allow", "no_rules", True),
        ("audit-allow", "default_deny", True),
        ("fail", "host_down", True),
        ("deny", "default_deny", False),
        ("deny", "not_root", False),
        ("allow", "exempt", False),
        ("refuse", "bad_host", False),
    ],
)
def test_learnt_is_what_went_on_to_the_host(decision: str, reason: str, learnt: bool) -> None:
    log = log_of(record(decision=decision, reason=reason))
    assert learn(log).requests == int(learnt)
    refused = decision == "deny" and reason == "default_deny"
    assert learn(log, include_refused=True).requests == int(learnt or refused)


def test_a_parameter_that_selects_is_asked_for_and_how_it_is_given_is_not() -> None:
    target = f"{TOKEN}?api-version=2018-02-01&Resource=https%3A%2F%2Fvault.azure.net"
    (privilege,) = lists(learn(log_of(record(target=target))))["privileges"]
    assert privilege == {
        "name": "token-vault.azure.net",
        "path": TOKEN,
        "queryParameters": {"resource": VAULT},
        "methods": ["GET"],
    }
    (privilege,) = lists(learn(log_of(record(target=target)), widen_query=True))["privileges"]
    assert privilege == ANY_TOKEN


@pytest.mark.parametrize("target", [f"{TOKEN}?resource=…", f"{TOKEN}?resource=", f"{TOKEN}?x=…~"])
def test_a_value_that_cannot_be_asked_for_is_told(target: str) -> None:
    learnt = learn(log_of(record(target=target)))
    assert lists(learnt)["privileges"] == [ANY_TOKEN]
    told = str(learnt.document[EVIDENCE])
    assert "; whatever the " in told
    assert "resource" in told.partition("; whatever the ")[2]


def test_what_was_asked_with_and_without_a_value_is_one_privilege_that_says_so() -> None:
    log = log_of(record(target=TOKEN), record(target=f"{TOKEN}?resource={VAULT}"))
    learnt = learn(log)
    assert lists(learnt)["privileges"] == [ANY_TOKEN]
    assert "2 x GET" in str(learnt.document[EVIDENCE])
    assert "whatever the resource" in str(learnt.document[EVIDENCE])


def test_a_parameter_that_somebody_sends_twice_is_asked_for_by_no_rule() -> None:
    """Named, it would make his request ambiguous."""
    twice = record(target=f"{TOKEN}?resource=a&resource=b")
    log = log_of(twice, record(target=f"{TOKEN}?resource={VAULT}"))
    assert lists(learn(log))["privileges"] == [ANY_TOKEN]


def test_every_path_is_never_granted() -> None:
    learnt = learn(log_of(record(target="/")))
    assert (learnt.requests, list(learnt.left_out)) == (0, ["the path / covers every path"])
    (privilege,) = lists(learn(log_of(record(target="/?comp=versions"))))["privileges"]
    assert privilege == {
        "name": "versions",
        "path": "/",
        "queryParameters": {"comp": "versions"},
        "methods": ["GET"],
    }


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"uid": None}, "who asked is not known"),
        ({"euid": 0}, "real and effective user differ"),
        ({"exe": None}, "the program's path is not known"),
        ({"exe": "cu~"}, "the program's path is not known"),
        ({"target": "/metadata/inst~"}, "the path did not fit into the record"),
    ],
)
def test_what_cannot_be_said_narrowly_is_left_out_and_told(more: Any, why: str) -> None:
    learnt = learn(log_of(record(**more)))
    assert learnt.requests == 0
    ((words, seen),) = learnt.left_out.items()
    assert words.startswith(why)
    assert seen.count == 1


def test_a_path_that_does_not_end_in_the_programs_name_is_not_believed() -> None:
    """Who mounts his program over another's path has that path in /proc."""
    full = FULL | {"path": "/usr/bin/restic"}
    (identity,) = lists(learn(log_of(record(**full, decision="audit-allow"))))["identities"]
    assert identity == {"name": "alice-curl", "userName": "alice", "processName": "curl"}


def test_a_name_of_two_programs_stays_a_name() -> None:
    log = log_of(record(**FULL), record(**FULL | {"path": "/opt/curl"}), record(target="/a"))
    selectors = [
        {key: value for key, value in identity.items() if key != "name"}
        for identity in lists(learn(log))["identities"]
    ]
    assert {"userName": "alice", "exePath": "/usr/bin/curl"} in selectors
    assert {"userName": "alice", "exePath": "/opt/curl"} in selectors
    assert {"userName": "alice", "processName": "curl"} in selectors
    assert len(selectors) == 3


def test_the_operator_may_say_which_file_a_program_is_and_widen_callers() -> None:
    log = log_of(record(), record(uid=0), programs=("/usr/bin/curl",))
    identities = lists(learn(log))["identities"]
    assert [identity["name"] for identity in identities] == ["root-curl", "alice-curl"]
    assert {identity["exePath"] for identity in identities} == {"/usr/bin/curl"}
    assert lists(learn(log, by="exe"))["identities"] == [
        {"name": "curl", "exePath": "/usr/bin/curl"}
    ]
    assert lists(learn(log, by="user"))["identities"] == [
        {"name": "root", "userName": "root"},
        {"name": "alice", "userName": "alice"},
    ]


def test_services_and_people_share_no_role() -> None:
    learnt = lists(learn(log_of(record(), record(uid=0))))
    assert [role["privileges"] for role in learnt["roles"]] == [["instance"], ["instance"]]
    assert [a["identities"] for a in learnt["roleAssignments"]] == [["root-curl"], ["alice-curl"]]


def test_a_depth_grants_what_lies_beneath() -> None:
    log = log_of(record(target="/Metadata/instance/compute"), record(target="/metadata/instance/x"))
    assert len(lists(learn(log))["privileges"]) == 2
    (privilege,) = lists(learn(log, depth=2))["privileges"]
    assert privilege["path"].lower() == "/metadata/instance"


def test_names_tell_rules_apart() -> None:
    log = log_of(*(record(target=target) for target in ("/a/x", "/b/x", "/b/y", "/B/%79/z?type=1")))
    names = [privilege["name"] for privilege in lists(learn(log))["privileges"]]
    assert names == ["a-x", "b-x", "y"]
    assert slug("Größe / 1") == "gr-e-1"


def test_a_real_log_gives_a_file_that_the_agent_reads(tmp_path: Path) -> None:
    log = Log(Endpoint.IMDS, Known())
    log.read(Reading().files([VECTOR]))
    learnt = learn(log)
    path = tmp_path / "IMDS_Rules.json"
    path.write_text(readable(learnt.document))
    assert json.loads(path.read_text()) == learnt.document
    effective = read_rules_file(path).endpoints[Endpoint.IMDS].effective
    assert effective is not None
    assert [identity.name for identity in effective.rules.identities] == [
        "backup-restic",
        "backup-rsync",
        "root-agentd",
        "web-curl",
        "web-agentd",
    ]


# By chance.

USERS = {0: "root", 1000: "alice", 1001: "bob"}
PROGRAMS = ("/usr/bin/curl", "/usr/bin/restic", "/opt/curl")
segments = st.sampled_from(["metadata", "Metadata", "identity", "%69dentity", "a", "b%25", "ä"])
paths = st.lists(segments.map(lambda s: s.replace("ä", "%C3%A4")), max_size=4)
values = st.sampled_from(["1", "x", "https%3A%2F%2Fa.b", "%25", "%FF", "", "…"])
queries = st.lists(
    st.tuples(st.sampled_from(["resource", "Comp", "type", "api-version", "x"]), values), max_size=3
)


@st.composite
def targets(draw: st.DrawFn) -> str:
    path = "/" + "/".join(draw(paths))
    query = "&".join(f"{name}={value}" for name, value in draw(queries))
    return f"{path}?{query}" if query else path


@st.composite
def records(draw: st.DrawFn) -> Record:
    uid = draw(st.sampled_from([*USERS, 4321]))
    program = draw(st.sampled_from(PROGRAMS))
    more: dict[str, Any] = {"uid": uid, "exe": program.rpartition("/")[2]}
    more |= {"target": draw(targets()), "method": draw(st.sampled_from(["GET", "HEAD", "PUT"]))}
    more["decision"] = draw(st.sampled_from(["allow", "audit-allow", "deny"]))
    if more["decision"] != "allow":
        more |= {"euid": uid, "gid": uid, "user": USERS.get(uid), "path": program}
    return record(**more)


def twice(log: Log) -> set[str]:
    """Parameters that some request has more than once: no rule may name them."""
    found = set()
    for kind in log.kinds:
        request = request_of(Endpoint.IMDS, kind)
        names = [name for name, _ in request.query] if request else []
        found |= {name for name in names if names.count(name) > 1}
    return found


def allows(judge: Judge, caller: Caller, request: Request) -> bool:
    return judge.judge(caller, request).decision == ALLOW


@given(
    st.lists(records(), min_size=1, max_size=8),
    st.lists(
        st.tuples(
            st.sampled_from(METHODS),
            targets(),
            # A number that has a name is nobody's by itself.
            st.sampled_from([*((5, name) for name in USERS.values()), (5, "eve"), (4321, None)]),
        ),
        max_size=8,
    ),
)
def test_what_was_seen_is_allowed_and_nothing_else(
    seen: list[Record], tried: list[tuple[str, str, tuple[int, str | None]]]
) -> None:
    log = log_of(*seen)
    log.known.name(1001, "bob")
    learnt = learn(log)
    through = [kind for kind in log.kinds if kind.through]
    left_out = sum(one.count for one in learnt.left_out.values())
    assert learnt.requests + left_out == sum(log.kinds[kind].count for kind in through)
    judge = Judge(Endpoint.IMDS, Mode.ENFORCE, rules_of(learnt))
    not_asked = twice(log)
    granted = []
    for kind in through:
        request = request_of(Endpoint.IMDS, kind)
        if request is None or not (request.segments or request.query):
            continue
        caller = log.known.caller(kind.asker)
        if request.segments:
            outcomes = judge.judge(caller, request).outcomes
            assert ALLOW in {outcome.decision for outcome in outcomes}
            if not any(value is None for _, value in request.query):
                assert allows(judge, caller, request)
        granted.append((caller, request))
    # Beside what chance finds, everything that was seen with every method.
    tries = list(tried)
    for kind in through:
        uid = kind.asker.uid
        assert uid is not None
        who_asked = (5, USERS[uid]) if uid in USERS else (uid, None)
        if request_of(Endpoint.IMDS, kind) is not None:
            tries += [(method, kind.target, who_asked) for method in METHODS]
    for method, target, (uid, user) in tries:
        request = Request.read(Endpoint.IMDS, method, target.replace("…", "y"))
        users = NONE if user is None else known(user)
        for program in PROGRAMS:
            name = program.rpartition("/")[2]
            caller = Caller(
                uid, uid, users=users, exe_paths=known(program), process_names=known(name)
            )
            if allows(judge, caller, request):
                assert any(
                    (who.uid == uid if user is None else user in who.users.values)
                    and what.method == method
                    and name in who.process_names.values
                    and who.exe_paths.has(program) != "no"
                    and request.segments[: len(what.segments)] == what.segments
                    and all(
                        pair in request.query or pair[1] is None or not pair[1].isprintable()
                        for pair in what.query
                        if pair[0] in SELECTING - not_asked and pair[1]
                    )
                    for who, what in granted
                )

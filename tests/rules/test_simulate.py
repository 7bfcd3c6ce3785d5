"""Requests of logs and lists, judged by rules that are not in force."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from tests.rules.test_diff import ALICE, ALICE_CURL, BOB, rules
from tests.rules.test_learn import FULL, TOKEN, VAULT, log_of, record

from gpa.endpoints import Endpoint, Mode
from gpa.errors import ConfigError
from gpa.rules.judge import Judge
from gpa.rules.model import EffectiveRules, Identity, Privilege
from gpa.rules.records import Reading
from gpa.rules.replay import Known, Log
from gpa.rules.requests import read_requests
from gpa.rules.simulate import Change, Line, Simulation, simulate

VECTOR = Path(__file__).parents[1] / "vectors/audit/audit.jsonl"
OPS = Identity("ops", group_name="ops")


def only(simulation: Simulation) -> Line:
    (line,) = simulation.lines
    return line


@pytest.mark.parametrize(
    ("decision", "candidate", "change"),
    [
        ("allow", rules(("/metadata", ALICE)), Change.STILL_ALLOWED),
        ("allow", rules(("/metadata", BOB)), Change.NEWLY_REFUSED),
        ("audit-allow", rules(), Change.NEWLY_REFUSED),
        ("fail", rules(), Change.NEWLY_REFUSED),
        ("deny", rules(("/metadata", ALICE)), Change.NEWLY_ALLOWED),
        ("deny", rules(), Change.STILL_REFUSED),
        ("allow", None, Change.STILL_ALLOWED),
    ],
)
def test_what_changes(decision: str, candidate: EffectiveRules | None, change: Change) -> None:
    simulation = simulate(log_of(record(decision=decision)), candidate)
    assert only(simulation).change is change
    assert simulation.for_the_worse is (change is Change.NEWLY_REFUSED)


def test_a_line_tells_who_what_how_often_and_when() -> None:
    log = log_of(
        record(time="2026-11-25T10:00:02.000Z", target="/Metadata/instance?incarnation=1"),
        record(time="2026-11-25T10:00:01.000Z", target="/metadata/instance?incarnation=2"),
    )
    ((line, seen),) = simulate(log, rules(("/metadata", ALICE))).lines.items()
    assert line == Line(
        change=Change.STILL_ALLOWED,
        uid=1000,
        user="alice",
        program="curl",
        method="GET",
        path=("metadata", "instance"),
        query=(),
        privilege="p0",
        role="r0",
        identity="alice",
        reason="rule_matched",
        unknown=(),
        audited=False,
        through=True,
    )
    assert (seen.count, seen.first[-7:-1], seen.last[-7:-1]) == (2, "01.000", "02.000")


def test_a_value_that_was_cut_out_is_what_it_depends_on() -> None:
    candidate = rules((TOKEN, ALICE, {"resource": VAULT}))
    for target, change in (
        (f"{TOKEN}?resource=…", Change.DEPENDS),
        (f"{TOKEN}?resource=https%3a%2f%2fvault.azure.net", Change.STILL_ALLOWED),
        (f"{TOKEN}?resource=other&x=…", Change.NEWLY_REFUSED),
        (f"{TOKEN}?x=…~", Change.DEPENDS),
    ):
        line = only(simulate(log_of(record(target=target)), candidate))
        assert line.change is change, target
    line = only(simulate(log_of(record(target=f"{TOKEN}?resource=…")), candidate))
    assert (line.unknown, line.reason, line.identity) == (("query resource",), None, None)


def test_a_program_is_known_by_its_name_and_guessed_by_the_rest_of_the_log() -> None:
    candidate = rules(("/metadata", ALICE_CURL))
    assert only(simulate(log_of(record()), candidate)).unknown == ("exePath",)
    named_otherwise = simulate(log_of(record(exe="wget")), candidate)
    assert only(named_otherwise).change is Change.NEWLY_REFUSED
    given = simulate(log_of(record(), programs=("/usr/bin/curl",)), candidate)
    assert only(given).change is Change.STILL_ALLOWED
    log = log_of(record(), record(**FULL, endpoint="hostga"))
    assert only(simulate(log, candidate)).change is Change.STILL_ALLOWED
    assert log.known.guessed == {"curl": "/usr/bin/curl"}
    strict = Log(Endpoint.IMDS, Known(guess=False))
    strict.read([record(), record(**FULL, endpoint="hostga")])
    assert only(simulate(strict, candidate)).change is Change.DEPENDS


def test_groups_are_those_of_the_user_database() -> None:
    candidate = rules(("/metadata", OPS))
    assert only(simulate(log_of(record()), candidate)).unknown == ("groupName",)
    other = record(**FULL | {"groups": ["ops"]}, target="/x", decision="deny")
    lines = simulate(log_of(record(), other), candidate).lines
    assert Change.STILL_ALLOWED in {line.change for line in lines}


def test_who_has_two_user_ids_is_no_user_of_a_rule() -> None:
    line = only(simulate(log_of(record(euid=0)), rules(("/metadata", ALICE))))
    assert line.change is Change.NEWLY_REFUSED


def test_rules_are_compared_with_others_instead_of_the_log() -> None:
    log = log_of(record(decision="deny"))
    against = Judge(Endpoint.IMDS, Mode.ENFORCE, rules(("/metadata", ALICE)))
    simulation = simulate(log, rules(), against)
    assert only(simulation).change is Change.NEWLY_REFUSED


def test_a_parameter_that_the_candidate_names_may_not_be_there_twice() -> None:
    log = log_of(record(target="/metadata?r=1&r=2"))
    more = [Privilege("p", "/elsewhere", (("R", "1"),))]
    line = only(simulate(log, rules(("/metadata", ALICE), more=more)))
    assert (line.change, line.reason) == (Change.NEWLY_REFUSED, "ambiguous_query")


def test_times_and_endpoints_choose_records() -> None:
    log = Log(Endpoint.IMDS, Known())
    times = ["2026-11-24T23:59:59.999Z", "2026-11-25T00:00:00.000Z", "2026-11-26T00:00:00.000Z"]
    log.read((record(time=time) for time in times), since="2026-11-25", until="2026-11-26")
    log.read([record(endpoint="wireserver"), record(endpoint="local"), record(endpoint=None)])
    log.read([record(decision="refuse", reason="bad_host")])
    assert (log.records, log.unjudged) == (2, 1)
    assert [seen.first for seen in log.kinds.values()] == [times[1]]


def test_what_does_not_fit_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpa.rules.replay.MAX_KINDS", 1)
    log = log_of(record(), record(target="/a"), record(target="/b"), record())
    assert (len(log.kinds), log.forgotten, next(iter(log.kinds.values())).count) == (1, 2, 2)


def test_a_real_log_by_the_rules_of_the_page() -> None:
    log = Log(Endpoint.IMDS, Known())
    log.read(Reading().stream(io.BytesIO(VECTOR.read_bytes())))
    restic = Identity("backup", user_name="backup", exe_path="/usr/bin/restic")
    simulation = simulate(log, rules((TOKEN, restic)))
    assert {change: simulation.count(change) for change in Change if simulation.count(change)} == {
        Change.NEWLY_REFUSED: 11,
        Change.DEPENDS: 1,
        Change.STILL_REFUSED: 4,
    }
    with_path = Log(Endpoint.IMDS, Known(["/usr/bin/restic"]))
    with_path.read(Reading().stream(io.BytesIO(VECTOR.read_bytes())))
    assert simulate(with_path, rules((TOKEN, restic))).count(Change.STILL_ALLOWED) == 1


# Lists.


def listed(tmp_path: Path, *lines: dict[str, Any] | str) -> Log:
    path = tmp_path / "requests.jsonl"
    path.write_text("\n".join(e if isinstance(e, str) else json.dumps(e) for e in lines))
    log = Log(Endpoint.IMDS, Known())
    for kind in read_requests(path, Endpoint.IMDS):
        log.add(kind)
    return log


@pytest.mark.parametrize(
    ("asked", "change"),
    [
        ({"user": "alice"}, Change.ALLOWED),
        ({"user": "bob"}, Change.REFUSED),
        ({"user": "bob", "expect": "allow"}, Change.NEWLY_REFUSED),
        ({"user": "bob", "expect": "deny"}, Change.STILL_REFUSED),
        ({"user": "alice", "expect": "deny"}, Change.NEWLY_ALLOWED),
        ({}, Change.DEPENDS),
        ({"uid": 1000}, Change.DEPENDS),
        ({"groups": ["ops"]}, Change.ALLOWED),
        ({"user": "bob", "groups": ["ops"]}, Change.ALLOWED),
        ({"user": "bob", "exe": "/usr/bin/curl"}, Change.REFUSED),
    ],
)
def test_a_list_says_what_it_expects(tmp_path: Path, asked: Any, change: Change) -> None:
    candidate = rules(("/metadata", ALICE), ("/metadata", OPS))
    log = listed(tmp_path, {"groups": [], "url": "/metadata/instance"} | asked)
    assert only(simulate(log, candidate)).change is change


def test_an_address_says_the_endpoint(tmp_path: Path) -> None:
    log = listed(
        tmp_path,
        {"url": "http://169.254.169.254/metadata/instance?x=1"},
        "",
        {"url": "http://168.63.129.16/machine?comp=goalstate"},
        {"url": "http://168.63.129.16:32526/versions"},
        {"url": "/versions", "endpoint": "hostga"},
        {"url": "http://169.254.169.254", "method": "HEAD"},
    )
    asked = [(kind.method, kind.target) for kind in log.kinds]
    assert asked == [("GET", "/metadata/instance?x=1"), ("HEAD", "/")]


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        "{}",
        '{"url": "/a", "usr": "alice"}',
        '{"url": "/a/../b"}',
        '{"url": "http://example.com/"}',
        '{"url": "http://169.254.169.254:x/"}',
        '{"url": "a"}',
        '{"url": "/a", "uid": "0"}',
        '{"url": "/a", "expect": "maybe"}',
    ],
)
def test_a_mistake_in_a_list_is_an_error_with_its_line(tmp_path: Path, line: str) -> None:
    with pytest.raises(ConfigError, match=r"requests\.jsonl:2: "):
        listed(tmp_path, {"url": "/a"}, line)

"""How wide a learnt grant is: methods, users without a name, and what the host's rules can say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.rules.test_learn import FULL, lists, log_of, record, rules_of

from gpa.__main__ import main
from gpa.endpoints import Endpoint, Mode
from gpa.rules.facts import Request
from gpa.rules.judge import ALLOW, DENY, Judge
from gpa.rules.learn import Learnt, learn
from gpa.rules.learnt import EVIDENCE
from gpa.rules.model import METHODS
from gpa.rules.schema import errors
from gpa.rules.validate import read_host_item

if TYPE_CHECKING:
    from gpa.rules.replay import Log

VECTOR = Path(__file__).parents[1] / "vectors/audit/audit.jsonl"


def paths(learnt: Learnt) -> dict[str, Any]:
    return {one["name"]: (one["path"], one.get("methods")) for one in lists(learnt)["privileges"]}


def allowed(log: Log, learnt: Learnt, target: str) -> set[str]:
    """Methods that the one caller of a log may use."""
    judge = Judge(Endpoint.IMDS, Mode.ENFORCE, rules_of(learnt))
    (asker,) = {kind.asker for kind in log.kinds}
    caller = log.known.caller(asker)
    found = {
        method: judge.judge(caller, Request.read(Endpoint.IMDS, method, target)).decision
        for method in METHODS
    }
    assert set(found.values()) <= {ALLOW, DENY}
    return {method for method, decision in found.items() if decision == ALLOW}


def test_only_the_methods_that_were_seen_are_granted() -> None:
    log = log_of(record(target="/a"), record(target="/a", method="HEAD"))
    learnt = learn(log)
    assert paths(learnt) == {"a-get-head": ("/a", ["GET", "HEAD"])}
    assert [role["name"] for role in lists(learnt)["roles"]] == ["a-get-head-reader"]
    assert "2 x GET/HEAD" in str(learnt.document[EVIDENCE])
    assert allowed(log, learnt, "/a/b") == {"GET", "HEAD"}


def test_get_implies_nothing_else() -> None:
    log = log_of(record(target="/a"))
    assert allowed(log, learn(log), "/a") == {"GET"}
    assert allowed(log, learn(log, any_method=True), "/a") == set(METHODS)
    assert paths(learn(log, any_method=True)) == {"a": ("/a", None)}


def test_a_method_below_a_path_is_not_granted_above() -> None:
    log = log_of(record(target="/a"), record(target="/a/b", method="PUT"), record(target="/a/b"))
    learnt = learn(log)
    assert paths(learnt) == {"a": ("/a", ["GET"]), "b-put": ("/a/b", ["PUT"])}
    assert [role["name"] for role in lists(learnt)["roles"]] == ["a-and-b-put-user"]
    assert allowed(log, learnt, "/a") == {"GET"}
    assert allowed(log, learnt, "/a/b") == {"GET", "PUT"}
    assert paths(learn(log, any_method=True)) == {"a": ("/a", None)}


def test_what_one_caller_did_is_not_granted_to_another() -> None:
    log = log_of(record(), record(uid=0, method="POST"))
    assert paths(learn(log)) == {
        "instance": ("/metadata/instance", ["GET"]),
        "instance-post": ("/metadata/instance", ["POST"]),
    }
    given = {one["name"]: one["privileges"] for one in lists(learn(log))["roles"]}
    assert given == {
        "instance-post-user": ["instance-post"],
        "instance-reader": ["instance"],
    }


def test_a_method_that_never_comes_through_is_left_out() -> None:
    learnt = learn(log_of(record(method="TRACE")))
    assert (learnt.requests, len(learnt.left_out)) == (0, 1)


def test_a_user_without_a_name_is_meant_by_number() -> None:
    log = log_of(record(uid=4321))
    learnt = learn(log)
    assert lists(learnt)["identities"] == [
        {"name": "uid-4321-curl", "uid": 4321, "processName": "curl"}
    ]
    assert "; the name of uid 4321 is not known;" in str(learnt.document[EVIDENCE])
    assert allowed(log, learnt, "/metadata/instance") == {"GET"}
    assert lists(learn(log, by="user"))["identities"] == [{"name": "uid-4321", "uid": 4321}]


def test_rules_for_the_host_say_what_it_can_read_and_what_is_wider() -> None:
    log = log_of(record(), record(uid=4321), record(method="HEAD"))
    learnt = learn(log, rules_id="site-8", host=True)
    read_host_item(json.loads(json.dumps(learnt.document)))
    assert list(errors(learnt.document, host=True)) == []
    assert paths(learnt) == {"instance": ("/metadata/instance", None)}
    assert (
        "2 x GET/HEAD, at 2026-11-25T10:00:00.000Z; any method: the host's rules do not tell"
        in str(learnt.document[EVIDENCE])
    )
    assert list(learnt.left_out) == [
        "uid 4321 has no name in the log (--machine), and the host needs one"
    ]


@pytest.mark.parametrize("options", [(), ("--any-method",), ("--host", "--id", "a")])
def test_what_is_learnt_stands_before_lint_and_refuses_nothing_of_its_log(
    options: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "audit.jsonl"
    lines = VECTOR.read_text()
    stranger = json.dumps(
        {"time": "2026-11-25T12:00:00.000Z", "id": "d-1", "endpoint": "imds", "method": "PUT"}
        | {"target": "/metadata/a", "decision": "allow", "reason": "no_rules"}
        | {"uid": 4321, "exe": "curl"}
    )
    log.write_text(lines if "--host" in options else f"{lines}{stranger}\n")
    assert main(["rules", "learn", "--log", str(log), *options]) == 0
    rules = tmp_path / "learnt.json"
    rules.write_text(capsys.readouterr().out)
    host = "--host" in options
    assert list(errors(json.loads(rules.read_text()), host=host)) == []
    lint = ["rules", "lint", "--no-machine", "--fail-on", "error", str(rules)]
    assert main([*lint, *(["--host"] if host else [])]) == 0
    assert "evidence" not in capsys.readouterr().out
    assert main(["rules", "simulate", "--rules", str(rules), "--log", str(log), "--json"]) == 0
    counts = json.loads(capsys.readouterr().out)["counts"]
    assert (counts["newly refused"], counts["depends"]) == (0, 0)
    assert counts["still allowed"] == (12 if host else 13)


def test_the_unit_of_a_record_in_full_is_no_other_caller() -> None:
    """Learnt rules do not ask for it: the next record of the same caller may not say it."""
    log = log_of(record(**FULL, decision="audit-allow", unit="a.service"), record(**FULL))
    assert len({kind.asker.unit for kind in log.kinds}) == 2
    assert len(lists(learn(log))["identities"]) == 1

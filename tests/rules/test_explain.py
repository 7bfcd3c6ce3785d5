"""`gpa explain`: what is told of a record and of a request before the fact, and what would help."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import trio
from tests.rules import corpus, generate, oracle
from tests.rules.test_engine import rule_set_of
from tests.rules.test_judge import named

from gpa.__main__ import main
from gpa.agent.log import Level, Log
from gpa.agent.reports import Reports
from gpa.config import Config
from gpa.endpoints import Endpoint, Mode
from gpa.errors import EXIT_CONFIG, EXIT_NO, EXIT_OK, EXIT_USAGE
from gpa.rules.compile import computed_rules
from gpa.rules.explain import explain
from gpa.rules.facts import Request
from gpa.rules.in_force import judged_by, read_rules_file, rules_files
from gpa.rules.judge import Judge
from gpa.rules.merge import merge
from gpa.rules.validate import read_host_item, read_local_rules

if TYPE_CHECKING:
    from pathlib import Path

RULES = {
    "privileges": [{"name": "token", "path": "/metadata/identity/oauth2/token"}],
    "roles": [{"name": "reader", "privileges": ["token"]}],
    "identities": [{"name": "backup", "userName": "backup", "exePath": "/usr/bin/restic"}],
    "roleAssignments": [{"role": "reader", "identities": ["backup"]}],
}
ITEM = {"id": "site", "mode": "enforce", "defaultAccess": "deny", "rules": RULES}
RECORD = {
    "id": "d-42",
    "endpoint": "imds",
    "method": "GET",
    "target": "/metadata/identity/oauth2/token?api-version=2018-02-01&client_id=…",
    "decision": "deny",
    "reason": "no_identity_matched",
    "status": 403,
    "epoch": 2,
    "uid": 4000,
    "euid": 4000,
    "gid": 4000,
    "mode": "enforce",
    "exe": "curl",
    "user": "alice",
    "groups": ["alice"],
    "path": "/usr/bin/curl",
}


def line(**members: object) -> str:
    return json.dumps({**RECORD, "time": "2100-01-01T00:00:00.000Z", **members}) + "\n"


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """A folder as the agent writes it, with the rules of epoch 1 and a record."""
    effective = merge(read_host_item(ITEM))
    endpoints, modes = {Endpoint.IMDS: effective}, dict.fromkeys(Endpoint, Mode.ENFORCE)
    document = {"inputRules": {}, "computedRules": computed_rules(endpoints, modes)}
    reports = Reports(Config(log_folder=tmp_path), Log(None, Level.ERROR, stderr=False))
    trio.run(reports.rules, document, 1)
    (tmp_path / "audit.jsonl").write_text(line())
    return tmp_path


def told(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


def test_a_refusal_is_told_by_the_id_of_its_answer(
    logs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = str(logs / "audit.jsonl")
    assert main(["explain", "d-42", "--log", log, "--no-machine"], "gpa") == EXIT_NO
    text = capsys.readouterr().out
    assert "refused: rules name this request, and none of them this user and program" in text
    assert "userName is 'backup': the caller's is 'alice'" in text
    assert "exePath is '/usr/bin/restic': the caller's is '/usr/bin/curl'" in text
    assert '"exePath": "/usr/bin/curl"' in text
    assert "does not agree" not in text
    assert "the host does not ask for the local file" in text

    assert main(["explain", "42", "--log", log, "--no-machine", "--json"], "gpa") == EXIT_NO
    [one] = told(capsys)
    assert (one["agrees"], one["decision"]) == (True, "deny")
    assert one["explanation"]["remedy"]["rules"]["privileges"][0] == {
        "name": "explained",
        "path": "/metadata/identity/oauth2/token",
        "queryParameters": {"api-version": "2018-02-01"},
        "methods": ["GET"],
    }


def test_the_newest_of_several_is_taken(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (logs / "audit.jsonl.1").write_text(line(user="older") + line(user="old"))
    log = ["--log", str(logs / "audit.jsonl"), "--no-machine", "--json"]
    main(["explain", "d-42", *log], "gpa")
    [one] = told(capsys)
    assert (one["record"]["user"], one["sameId"]) == ("alice", 3)
    main(["explain", "d-42", "--all", *log], "gpa")
    assert [one["record"]["user"] for one in told(capsys)] == ["alice", "old", "older"]


@pytest.mark.parametrize(("until", "holds"), [("2026-11-25", False), ("2027-01-01", True)])
def test_a_grant_counts_at_the_time_of_the_record(
    until: str, holds: bool, logs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    local: dict[str, Any] = {key: ITEM[key] for key in ("id", "defaultAccess")}
    assignment = {"role": "reader", "identities": ["backup"], "notAfter": f"{until}T00:00:00Z"}
    local["rules"] = {**RULES, "roleAssignments": [assignment]}
    (logs / "local.json").write_text(json.dumps(local))
    allowed = {"decision": "allow", "reason": "rule_matched", "status": 200}
    who = {"user": "backup", "groups": [], "exe": "restic", "path": "/usr/bin/restic"}
    (logs / "audit.jsonl").write_text(line(time="2026-11-25T12:00:00.000Z", **allowed, **who))
    words = ["--log", str(logs / "audit.jsonl"), "--rules", str(logs / "local.json")]
    main(["explain", "d-42", *words, "--no-machine", "--json"], "gpa")
    (one,) = told(capsys)
    assert one["agrees"] is holds


def test_what_is_not_there_is_said(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = ["--log", str(logs / "audit.jsonl")]
    assert main(["explain", "d-7", *log], "gpa") == EXIT_CONFIG
    assert "rotated away" in capsys.readouterr().err
    assert main(["explain", "seven", *log], "gpa") == EXIT_USAGE
    (logs / "audit.jsonl").write_text(line(time="2000-01-01T00:00:00.000Z"))
    assert main(["explain", "d-42", *log], "gpa") == EXIT_NO
    assert "not there any more" in capsys.readouterr().out


def test_a_form_that_is_refused_is_told_with_what_to_do(
    logs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused = line(decision="refuse", reason="ambiguous_path", target="/a%2fb")
    (logs / "audit.jsonl").write_text(refused)
    assert main(["explain", "d-42", "--log", str(logs / "audit.jsonl")], "gpa") == EXIT_NO
    assert "ask for the plain path" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("who", "code", "decision"),
    [
        (["--user", "backup", "--exe", "/usr/bin/restic"], EXIT_OK, "allow"),
        (["--user", "alice"], EXIT_NO, "deny"),
        (["--user", "backup"], EXIT_NO, "depends"),
    ],
)
def test_a_request_is_told_before_the_fact(
    who: list[str],
    code: int,
    decision: str,
    logs: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rules = ["--rules", str(rules_files(logs)[0]), "--no-machine", "--json"]
    url = "http://169.254.169.254/metadata/identity/oauth2/token"
    assert main(["explain", *who, *rules, "GET", url], "gpa") == code
    one = json.loads(capsys.readouterr().out)
    assert one["decision"] == decision
    assert one["explanation"]["dependsOn"] == (["exePath"] if decision == "depends" else [])


def test_a_path_alone_is_taken_for_one_of_imds_and_that_is_said(
    logs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["explain", "--user", "alice", "--rules", str(rules_files(logs)[0]), "--no-machine"]
    main([*words, "GET", "/metadata/identity/oauth2/token"], "gpa")
    assert "a path without an address is taken for one of imds" in capsys.readouterr().out
    main([*words, "--json", "GET", "/metadata/identity/oauth2/token"], "gpa")
    one = json.loads(capsys.readouterr().out)
    assert (one["endpoint"], one["endpointAssumed"]) == ("imds", True)
    main([*words, "--endpoint", "imds", "GET", "/metadata/identity/oauth2/token"], "gpa")
    assert "without an address" not in capsys.readouterr().out


@pytest.mark.parametrize(("mode", "code"), [("disabled", EXIT_OK), ("audit", EXIT_NO)])
def test_the_path_of_a_disabled_endpoint_is_not_looked_at(
    mode: str, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = tmp_path / "item.json"
    rules.write_text(json.dumps({**ITEM, "mode": mode}))
    assert main(["explain", "--rules", str(rules), "--json", "GET", "/a/../b"], "gpa") == code
    one = json.loads(capsys.readouterr().out)
    assert one["reason"] == ("path_traversal" if code else "disabled")


def test_a_record_is_read_with_the_rules_of_its_run_and_epoch(logs: Path) -> None:
    file = read_rules_file(rules_files(logs)[0])
    assert file.endpoints[Endpoint.IMDS].effective == merge(read_host_item(ITEM))
    first = replace(file, started="2026-01-01T00:00:00.000Z", epoch=1)
    files = [replace(first, epoch=4), first, replace(first, started="2026-01-02T00:00:00.000Z")]
    assert judged_by(files, "2026-01-01T12:00:00.000Z", 3) is first
    assert judged_by(files, "2026-01-01T12:00:00.000Z", 5) is files[0]
    assert judged_by(files, "2026-01-02T12:00:00.000Z", 5) is files[2]
    assert judged_by(files, "2025-01-01T12:00:00.000Z", 5) is None


def test_a_remedy_is_valid_and_allows_that_request() -> None:
    random, helped = Random(5), 0  # noqa: S311 - to be repeatable
    for _ in range(60):
        rule_set, machine = rule_set_of(random), generate.machine(random)
        effective = corpus.effective_of(rule_set)
        endpoint = Endpoint(rule_set["endpoint"])
        judge = Judge(endpoint, Mode(rule_set["mode"]), effective)
        rules = oracle.effective(rule_set["item"], rule_set["local"])
        for _ in range(10):
            method, _, target = generate.request(
                random, rules["privileges"] if rules else []
            ).rpartition(" ")
            request = Request.read(endpoint, method or "GET", target)
            found = explain(judge, named(machine, generate.caller(random)), request)
            if found["remedy"] is not None:
                assert read_local_rules({"rules": found["remedy"]["rules"]}).rules is not None
                helped += 1
    assert helped > 20


def test_fifty_mebibytes_are_searched_in_no_time(
    logs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = (line(id="d-1") * 2000)[: 10 << 20]
    for number in range(1, 5):
        (logs / f"audit.jsonl.{number}").write_text(other * 13)
    start = time.monotonic()
    main(["explain", "d-42", "--log", str(logs / "audit.jsonl"), "--no-machine"], "gpa")
    assert time.monotonic() - start < 3
    assert capsys.readouterr().out

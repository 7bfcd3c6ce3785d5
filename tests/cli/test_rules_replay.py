"""`gpa rules simulate`, `learn` and `diff`, as commands over files."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gpa.__main__ import main

if TYPE_CHECKING:
    from collections.abc import Callable

LOG = Path(__file__).parents[1] / "vectors/audit/audit.jsonl"
RULES: Any = {
    "id": "site-7",
    "defaultAccess": "deny",
    "rules": {
        "privileges": [{"name": "token", "path": "/metadata/identity/oauth2/token"}],
        "roles": [{"name": "token-reader", "privileges": ["token"]}],
        "identities": [{"name": "backup", "userName": "backup", "exePath": "/usr/bin/restic"}],
        "roleAssignments": [{"role": "token-reader", "identities": ["backup"]}],
    },
}


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, Any], Path]:
    def made(name: str, document: Any) -> Path:
        path = tmp_path / name
        path.write_text(json.dumps(document))
        return path

    return made


def gpa(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = main(["rules", *map(str, words)])
    out, err = capsys.readouterr()
    return code, out, err


def test_diff_tells_what_changes_for_whom(
    write: Callable[[str, Any], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    narrower = json.loads(json.dumps(RULES))
    narrower["rules"]["privileges"][0] |= {
        "name": "vault",
        "queryParameters": {"resource": "https://vault.azure.net"},
    }
    narrower["rules"]["roles"][0]["privileges"] = ["vault"]
    a, b = write("a.json", RULES), write("b.json", narrower)
    assert gpa(capsys, "diff", a, a) == (
        0,
        "no difference: both let the same requests of the same callers through\n",
        "",
    )
    code, out, _ = gpa(capsys, "diff", a, b)
    assert code == 1
    assert out.splitlines() == [
        "newly refused",
        "  user backup running /usr/bin/restic",
        "    /metadata/identity/oauth2/token and beneath, except with"
        " resource=https://vault.azure.net",
        "      before: allowed by privilege 'token'; after: refused, no privilege matches and the"
        " default is to deny",
        "newly refused: requests that have twice, with different values, resource",
    ]
    code, out, _ = gpa(capsys, "diff", "--json", b, a)
    shown = json.loads(out)
    assert (code, shown["same"], shown["allowedTwice"]) == (1, False, ["resource"])
    assert shown["differences"][0] == {
        "change": "newly allowed",
        "path": "/metadata/identity/oauth2/token",
        "method": None,
        "query": {},
        "callers": [{"exePath": "/usr/bin/restic", "userName": "backup"}],
        "unlessCallers": [],
        "unlessPaths": [],
        "unlessQueries": [{"method": None, "query": {"resource": "https://vault.azure.net"}}],
        "before": {"privileges": [], "default": True},
        "after": {"privileges": ["token"], "default": False},
    }


def test_diff_says_what_else_there_is_to_know(
    write: Callable[[str, Any], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    a = write("a.json", RULES | {"mode": "audit", "defaultAccess": "allow"})
    b = write("b.json", {"rules": RULES["rules"]})
    code, out, _ = gpa(capsys, "diff", "--endpoint", "wireserver", a, b)
    assert code == 1
    assert f"note: {b} has no defaultAccess, the host's would count: taken as deny\n" in out
    assert "note: whatever the rules, only root is let through at this endpoint\n" in out
    assert "  everybody\n    /, every path, except /metadata/identity/oauth2/token\n" in out


def test_simulate_tells_what_would_be_refused(
    write: Callable[[str, Any], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    candidate = write("a.json", RULES)
    code, out, _ = gpa(capsys, "simulate", "--rules", candidate, "--log", LOG)
    assert code == 1
    assert "newly refused: 11 requests\n" in out
    assert "depends: 1 request\n" in out
    assert "on the program's path, not in the record\n" in out
    assert "privilege 'token' is not granted to this caller;" in out
    assert "audit mode let it through" in out
    words = ("simulate", "--rules", candidate, "--log", LOG, "--json", "--exe", "/usr/bin/restic")
    code, out, _ = gpa(capsys, *words)
    shown = json.loads(out)
    assert (code, shown["ok"], shown["counts"]["depends"]) == (1, False, 0)
    assert shown["changes"]["still allowed"] == [
        {
            "uid": 34,
            "user": "backup",
            "program": "/usr/bin/restic",
            "method": "GET",
            "path": "/metadata/identity/oauth2/token",
            "query": [],
            "privilege": "token",
            "role": "token-reader",
            "identity": "backup",
            "reason": "rule_matched",
            "unknown": [],
            "audited": False,
            "count": 1,
            "first": "2026-11-25T11:28:02.085Z",
            "last": "2026-11-25T11:28:02.085Z",
        }
    ]


def test_a_list_of_requests_is_a_test_of_rules(
    tmp_path: Path, write: Callable[[str, Any], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    candidate, requests = write("a.json", RULES), tmp_path / "requests.jsonl"
    asked = {"user": "backup", "exe": "/usr/bin/restic", "groups": []}
    asked |= {"url": "/metadata/identity/oauth2/token?resource=x"}
    for expect, code in (("allow", 0), ("deny", 1)):
        requests.write_text(json.dumps(asked | {"expect": expect}))
        assert gpa(capsys, "simulate", "--rules", candidate, "--requests", requests)[0] == code
    requests.write_text(json.dumps(asked | {"exe": "/usr/bin/curl", "expect": "allow"}))
    code, out, _ = gpa(capsys, "simulate", "--rules", candidate, "--requests", requests)
    assert (code, out.partition("\n")[0]) == (1, "refused, not as expected: 1 request")
    requests.write_text(json.dumps({"url": asked["url"], "expect": "allow"}))
    assert gpa(capsys, "simulate", "--rules", candidate, "--requests", requests)[0] == 1
    requests.write_text(json.dumps({"url": asked["url"]}))
    assert gpa(capsys, "simulate", "--rules", candidate, "--requests", requests)[0] == 0
    requests.write_text(json.dumps(asked | {"exe": "/usr/bin/curl", "expect": "allow"}))
    words = ("simulate", "--rules", candidate, "--requests", requests, "--against", candidate)
    code, out, _ = gpa(capsys, *words)
    assert (code, out.partition("\n")[0]) == (0, "still refused: 1 request")


def test_learnt_rules_refuse_nothing_of_what_they_were_learnt_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = gpa(capsys, "learn", "--log", LOG, "--id", "site-8")
    assert code == 0
    assert "learnt 2 privileges for 5 callers from 12 requests\n" in err
    assert "note: agentd was taken for /usr/bin/agentd, its only path in the log\n" in err
    path = tmp_path / "IMDS_Rules.json"
    path.write_text(out)
    assert json.loads(out)["id"] == "site-8"
    code, out, _ = gpa(capsys, "simulate", "--rules", path, "--log", LOG)
    assert code == 0
    assert "still allowed: 12 requests\n" in out
    assert "newly refused" not in out
    assert "depends" not in out


def test_learn_has_its_report_in_the_json(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("learn", "--log", LOG, "--json", "--endpoint", "hostga", "--until", "2026-11-25T11:28")
    code, out, err = gpa(capsys, *words)
    assert (code, err) == (1, "")
    assert json.loads(out) == {
        "ok": False,
        "endpoint": "hostga",
        "requests": 0,
        "rules": None,
        "leftOut": [],
        "unjudged": 0,
        "unreadable": 0,
        "guessed": {},
    }
    code, out, _ = gpa(capsys, *words[:-2])
    shown = json.loads(out)
    (identity,) = shown["rules"]["rules"]["identities"]
    assert (code, shown["requests"]) == (0, 1)
    assert identity == {"name": "root-agentd", "userName": "root", "exePath": "/usr/bin/agentd"}


def test_nothing_to_learn_from_is_said_and_no_rules_are_written(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, err = gpa(capsys, "learn", "--log", LOG, "--since", "2030")
    assert (code, out) == (1, "")
    assert err.startswith("there is nothing to learn from")


def test_a_log_may_come_on_standard_input_and_be_torn(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Stdin:
        buffer = io.BytesIO(LOG.read_bytes() + b'no record\n{"time":')

    monkeypatch.setattr("sys.stdin", Stdin())
    code, _, err = gpa(capsys, "learn", "--log", "-")
    assert code == 0
    assert "note: 2 lines could not be read\n" in err


def test_this_machine_may_be_asked_for_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "audit.jsonl"
    line = next(line for line in LOG.read_text().splitlines() if '"uid":0' in line)
    log.write_text(line + "\n")
    code, out, err = gpa(capsys, "learn", "--log", log)
    assert json.loads(out)["rules"]["identities"][0]["uid"] == 0
    assert (code, "; the name of uid 0 is not known" in err) == (0, True)
    told = "gpa: --host needs --id: rules of the host have one\n"
    assert gpa(capsys, "learn", "--log", log, "--host") == (2, "", told)
    code, _, err = gpa(capsys, "learn", "--log", log, "--host", "--id", "x")
    assert code == 1
    assert "left out: 1 request, uid 0 has no name in the log (--machine)" in err
    code, out, _ = gpa(capsys, "learn", "--log", log, "--machine")
    assert code == 0
    assert json.loads(out)["rules"]["identities"][0]["userName"] == "root"


def test_foreign_text_cannot_speak_to_the_terminal(
    tmp_path: Path, write: Callable[[str, Any], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    record = json.loads(LOG.read_text().splitlines()[0])
    log = tmp_path / "audit.jsonl"
    log.write_text(json.dumps(record | {"exe": "\x1b[31m\n", "user": "\u202eeve"}) + "\n")
    candidate = write("a.json", RULES)
    for words in (("simulate", "--rules", candidate), ("learn",)):
        _, out, err = gpa(capsys, *words, "--log", log)
        assert "\x1b" not in out + err
        assert "\u202e" not in err
        assert "\u202e" not in out or words[0] == "learn"


@pytest.mark.parametrize(
    "words",
    [
        ("simulate", "--rules", "x"),
        ("simulate", "--log", "x"),
        ("learn",),
        ("learn", "--log", "x", "--depth", "0"),
        ("learn", "--log", "x", "--exe", "curl"),
        ("learn", "--log", "x", "--any-method=GET"),
        ("diff", "x"),
    ],
)
def test_wrong_usage_is_told(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        gpa(capsys, *words)
    assert ended.value.code == 2


def test_a_missing_file_is_a_clear_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    none = tmp_path / "none"
    assert gpa(capsys, "learn", "--log", none) == (
        78,
        "",
        f"gpa: {none} cannot be read: No such file or directory\n",
    )
    assert gpa(capsys, "diff", none, none)[0] == 78


def test_simulate_judges_by_the_assignments_that_hold_at_a_time(
    write: Callable[[str, Any], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    timed = json.loads(json.dumps(RULES))
    timed["rules"]["roleAssignments"][0]["notAfter"] = "2026-11-30T00:00:00Z"
    candidate, always = write("a.json", timed), write("b.json", RULES)
    words = ("simulate", "--log", LOG, "--exe", "/usr/bin/restic", "--rules")
    _, out, _ = gpa(capsys, *words, candidate, "--at", "2026-11-29T23:59:59Z")
    assert ("still allowed: 1 request\n" in out, "not in force" in out) == (True, False)
    # The same moment as the end, written with an offset.
    end = ("--at", "2026-11-30T01:00:00+01:00")
    code, out, _ = gpa(capsys, *words, candidate, *end)
    assert code == 1
    assert out.startswith(
        f"note: at 2026-11-30T00:00:00Z these of {candidate} do not hold, and are left out:\n"
        "  role 'token-reader' of backup: no longer in force since 2026-11-30T00:00:00Z\n"
        "newly refused: 12 requests\n"
    )
    code, out, _ = gpa(capsys, *words, always, "--against", candidate, *end, "--json")
    shown = json.loads(out)
    assert (code, shown["at"], shown["notInForce"]) == (0, "2026-11-30T00:00:00Z", [])
    assert shown["counts"]["newly allowed"] == 1
    assert shown["notInForceAgainst"] == [
        {
            "role": "token-reader",
            "identities": ["backup"],
            "why": "no longer in force since 2026-11-30T00:00:00Z",
        }
    ]
    with pytest.raises(SystemExit):
        gpa(capsys, *words, candidate, "--at", "2026-11-30T00:00:00")

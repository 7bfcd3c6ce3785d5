"""Rows to lines: bounded, on one line each, without secrets."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpa.agent import redact, words
from gpa.agent.audit import ALLOWED_BYTES, Auditor
from gpa.agent.identity import Exe, Names, Program, User
from gpa.agent.summary import ROWS, Summary
from gpa.endpoints import Endpoint
from gpa.rules.compile import CompiledNames
from gpa.rules.units import Unit

if TYPE_CHECKING:
    from gpa._native.records import AuditRow

ROOT = Path(__file__).resolve().parents[2]

CALLER = {
    "uid": 1000,
    "gid": 1000,
    "euid": 1000,
    "egid": 1000,
    "loginuid": None,
    "tgid": 4242,
    "ppid": 1,
    "start_boottime": 77,
    "exe": None,
    "cgroup_id": 9,
    "exe_name": "curl",
    "comm": "curl",
    "direct": False,
}


def row(**more: Any) -> AuditRow:
    base = {
        "caller": CALLER,
        "unix_ns": 1_767_225_600_123_456_789,
        "decision_id": 42,
        "epoch": 3,
        "request_bytes": 0,
        "response_bytes": 512,
        "duration_us": 812,
        "status": 200,
        "endpoint": 0,
        "decision": 0,
        "reason": 0,
        "privilege": 0,
        "role": 0,
        "identity": None,
        "signed": True,
        "mode": 3,
        "method": "GET",
        "target": "/metadata/instance?api-version=2021-02-01&sig=SECRET",
    }
    return cast("AuditRow", base | more)


class FakeNames(Names):
    def user(self, uid: int) -> User:
        return User("app", ("app", "web"))

    def program(self, tgid: int, start_boottime: int, exe: Exe | None = None) -> Program:
        return Program("/usr/bin/curl", "curl -s http://169.254.169.254/")

    def unit(self, cgroup_id: int) -> Unit:
        return Unit("web.service", "system.slice", "")


@pytest.fixture
def auditor() -> Auditor:
    made = Auditor(FakeNames(), Summary())
    made.epochs.add(3, {Endpoint.IMDS: CompiledNames(("instance",), ("readers",), ("apps",))})
    return made


def test_an_allowed_request_is_one_short_line(auditor: Auditor) -> None:
    audit, connections = auditor.lines([row()])
    assert json.loads(audit) == {
        "time": "2026-01-01T00:00:00.123Z",
        "id": "d-42",
        "endpoint": "imds",
        "method": "GET",
        "target": "/metadata/instance?api-version=2021-02-01&sig=…",
        "decision": "allow",
        "reason": "rule_matched",
        "status": 200,
        "us": 812,
        "epoch": 3,
        "signed": True,
        "privilege": "instance",
        "role": "readers",
        "uid": 1000,
        "pid": 4242,
        "exe": "curl",
    }
    assert connections == b""


def test_a_target_that_filled_its_row_is_told_to_be_cut(auditor: Auditor) -> None:
    """With values cut out nobody could see from its length that parameters may be missing."""
    full = "/metadata?id=".ljust(288, "x")
    for target, shown in ((full, "/metadata?id=…~"), (full[:-1], "/metadata?id=…")):
        for decision in (0, 2):
            audit, _ = auditor.lines([row(target=target, decision=decision)])
            assert json.loads(audit)["target"] == shown


def test_an_effective_user_is_told_where_it_is_another(auditor: Auditor) -> None:
    """No rule on users holds for him, so that absent has to mean the same."""
    audit, _ = auditor.lines([row(caller=CALLER | {"euid": 0})])
    assert json.loads(audit)["euid"] == 0


def test_the_threads_name_is_not_told_for_that_of_a_program(auditor: Auditor) -> None:
    """It is chosen by whoever has it."""
    audit, _ = auditor.lines([row(caller=CALLER | {"exe_name": None, "comm": "curl"})])
    assert json.loads(audit)["exe"] is None
    assert json.loads(audit)["comm"] == "curl"


def test_a_denied_request_is_told_in_full_in_both_files(auditor: Auditor) -> None:
    audit, connections = auditor.lines([row(decision=2, reason=21, status=403, signed=False)])
    record = json.loads(audit)
    assert record["reason"] == "no_identity_matched"
    assert record["path"] == "/usr/bin/curl"
    assert record["user"] == "app"
    assert record["groups"] == ["app", "web"]
    assert (record["unit"], record["slice"]) == ("web.service", "system.slice")
    assert "container" not in record, "unknown is absent"
    text, _, tail = connections.decode().partition(" {")
    assert text == (
        "2026-01-01T00:00:00.123Z [WARN] deny GET"
        " /metadata/instance?api-version=2021-02-01&sig=\\u2026"
        " of user app (uid 1000): no_identity_matched, status 403"
    )
    assert json.loads("{" + tail) == record


def test_everything_goes_to_the_connection_log_when_asked_for() -> None:
    auditor = Auditor(FakeNames(), Summary(), everything=True)
    _, connections = auditor.lines([row(), row(caller=None, decision=3, status=421)])
    assert connections.count(b"\n") == 2
    assert b"nobody known" in connections


def test_names_of_a_forgotten_epoch_are_left_out(auditor: Auditor) -> None:
    for epoch in range(4, 30):
        auditor.epochs.add(epoch, {})
    assert "privilege" not in json.loads(auditor.lines([row()])[0])


nasty = st.text(max_size=300) | st.sampled_from(["\n" * 288, '"' * 288, "\x1b[31m", "\u2028"])


@given(target=nasty, exe=nasty, name=nasty, decision=st.integers(0, 4))
def test_whatever_a_client_sends_is_one_line_and_short_when_allowed(
    target: str, exe: str, name: str, decision: int
) -> None:
    auditor = Auditor(FakeNames(), Summary(), everything=True)
    auditor.epochs.add(3, {Endpoint.IMDS: CompiledNames((name,), (name,), (name,))})
    made = row(
        target=target[:288], caller=CALLER | {"exe_name": exe[:64]}, decision=decision, identity=0
    )
    audit, connections = auditor.lines([made])
    for data in (audit, connections):
        assert data.count(b"\n") == 1
        assert all(32 <= byte < 127 for byte in data[:-1])
    json.loads(audit)
    if decision == 0:
        assert len(audit) <= ALLOWED_BYTES


def test_numbers_of_the_native_half_have_their_words() -> None:
    source = (ROOT / "ext" / "error.rs").read_text()
    numbers = dict(re.findall(r"^    (\w+) = (\d+),", source, re.MULTILINE))
    codes = dict(re.findall(r'R::(\w+) => "([a-z_]+)",', source))
    assert {int(n): codes[name] for name, n in numbers.items()} == words.REASONS
    assert words.reason(9999) == "reason_9999"
    assert words.decision(9) == "decision_9"
    assert words.mode(9) == "mode_9"
    assert words.endpoint(255) is None


def test_the_page_names_every_reason_and_field(auditor: Auditor) -> None:
    page = (ROOT / "docs" / "audit.md").read_text()
    fields = set(json.loads(auditor.lines([row(decision=2, identity=0)])[0]))
    missing = [word for word in [*words.REASONS.values(), *fields] if f"`{word}`" not in page]
    assert missing == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/a", "/a"),
        ("/a?", "/a?"),
        ("/a?comp=goalstate", "/a?comp=goalstate"),
        ("/a?Comp=x&b=c&d", "/a?Comp=x&b=…&d"),
        (
            "/a?resource=https%3a%2f%2fstorage.azure.com%2f",
            "/a?resource=https%3a%2f%2fstorage.azure.com%2f",
        ),
        ("/a?resource=https%3a%2f%2fx%2f%3Fsig%3dS3", "/a?resource=…"),
        ("/a?api-version=" + "x" * 200, "/a?api-version=…"),
        ("/a?sig=S3?comp=x", "/a?sig=…"),
        ("/a?=S3", "/a?=…"),
    ],
)
def test_targets_are_redacted(text: str, shown: str) -> None:
    assert redact.target(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "mysql --password=S3CRET -u x",
        "mysql --password S3CRET",
        "tool --client-secret S3CRET",
        "curl -H 'Authorization: Bearer S3CRET.S3CRET'",
        "curl https://user:S3CRET@host/",
        "azcopy https://x.blob.core.windows.net/c?sv=1&sig=S3CRET%3d&se=2",
        "x DefaultEndpointsProtocol=https;AccountKey=S3CRET==;Suffix=y",
        'x {"token": "S3CRET"}',
        "env API_KEY=S3CRET run",
        "x Azure-HMAC-SHA256 S3CRET S",
    ],
)
def test_command_lines_are_redacted(text: str) -> None:
    shown = redact.command_line(text)
    assert "S3CRET" not in shown
    assert "…" in shown
    assert shown[:4] == text[:4]


def test_command_lines_are_bounded_and_quick() -> None:
    assert redact.command_line("curl -s http://x/") == "curl -s http://x/"
    for text in ("a" * 10**6, "--password " * 10**5, "key=" * 10**5, "://" * 10**5):
        assert len(redact.command_line(text)) <= redact.CMDLINE_LIMIT


def test_summaries_count_and_are_capped() -> None:
    summary = Summary()
    program = Program("/usr/bin/curl", "curl")
    for _ in range(3):
        summary.count(row(), User("app", ("web",)), program)
    summary.count(row(decision=2, status=403, endpoint=2), None, None)
    assert summary.rows()[0] == {
        "userName": "app",
        "userGroups": ["web"],
        "ip": "169.254.169.254",
        "port": 80,
        "processFullPath": "/usr/bin/curl",
        "processCmdLine": "curl",
        "responseStatus": "200 OK",
        "count": 3,
    }
    assert [(r["port"], r["responseStatus"]) for r in summary.failed_rows()] == [
        (32526, "403 Forbidden")
    ]
    for number in range(2 * ROWS):
        summary.count(row(decision=2, status=599), None, Program(f"/p{number}", ""))
    assert len(summary.rows()) <= ROWS + 1
    assert summary.rows()[-1]["userName"] == "other"
    assert sum(r["count"] for r in summary.rows()) == summary.total == 4 + 2 * ROWS

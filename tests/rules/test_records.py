"""Reading audit logs: what is there is read, what is not is counted."""

from __future__ import annotations

import io
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpa.errors import ConfigError
from gpa.rules import records
from gpa.rules.records import Reading, Record, with_older_parts

ROOT = Path(__file__).resolve().parents[2]


def line(**more: Any) -> bytes:
    record = {
        "time": "2026-11-25T10:00:00.000Z",
        "id": "d-1",
        "endpoint": "imds",
        "method": "GET",
        "target": "/metadata/instance",
        "decision": "allow",
        "reason": "rule_matched",
        "status": 200,
        "us": 771,
        "epoch": 4,
        "signed": True,
        "uid": 1000,
        "pid": 4242,
        "exe": "curl",
    }
    return json.dumps(record | more).encode() + b"\n"


def read(data: bytes) -> tuple[list[Record], Reading]:
    reading = Reading()
    return list(reading.stream(io.BytesIO(data))), reading


def test_a_short_record_says_what_it_says_and_no_more() -> None:
    ((record,), reading) = read(line())
    assert (record.uid, record.exe, record.target) == (1000, "curl", "/metadata/instance")
    assert (record.path, record.user, record.groups, record.euid) == (None, None, None, None)
    assert (reading.lines, reading.unreadable, reading.torn) == (1, 0, 0)


def test_a_full_record_has_names() -> None:
    data = line(user="app", groups=["app", "web"], path="/usr/bin/curl", euid=1000, later=[{}])
    ((record,), _) = read(data)
    assert (record.user, record.groups, record.path) == ("app", ("app", "web"), "/usr/bin/curl")


@pytest.mark.parametrize(
    ("decision", "reason", "judged", "through"),
    [
        ("allow", "rule_matched", True, True),
        ("allow", "disabled", True, True),
        ("allow", "exempt", False, True),
        ("allow", "local", False, True),
        ("audit-allow", "default_deny", True, True),
        ("deny", "no_identity_matched", True, False),
        ("deny", "not_root", False, False),
        ("fail", "host_down", True, True),
        ("refuse", "bad_host", False, False),
        ("whatever-comes", "later", False, False),
    ],
)
def test_what_rules_had_a_say_in(decision: str, reason: str, judged: bool, through: bool) -> None:
    ((record,), _) = read(line(decision=decision, reason=reason))
    assert (record.judged, record.let_through) == (judged, through)


@pytest.mark.parametrize(
    "bad",
    [
        b"garbage\n",
        b"[]\n",
        b"{}\n",
        b'{"time": 1}\n',
        b"\xff\xfe\n",
        b"[" * 5000 + b"\n",
        line().replace(b"1000", b'"root"'),
        b"\0" * 200_000 + b"\n",
    ],
)
def test_a_line_that_is_no_record_costs_only_itself(bad: bytes) -> None:
    found, reading = read(line(id="d-1") + bad + line(id="d-2"))
    assert [record.id for record in found] == ["d-1", "d-2"]
    assert (reading.lines, reading.unreadable, reading.torn) == (2, 1, 0)


def test_a_torn_last_line_is_not_called_unreadable() -> None:
    for end in range(1, len(line()) - 2):
        found, reading = read(line() + line()[:end])
        assert len(found) == 1
        assert (reading.unreadable, reading.torn) == (0, 1), end
    found, reading = read(line() + line()[:-1])
    assert (len(found), reading.torn) == (2, 0), "only its end of line is missing"


def test_a_line_without_an_end_does_not_fill_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(io.RawIOBase):
        sent = 0

        def read(self, size: int = -1) -> bytes:
            self.sent += 1
            return b"" if self.sent > 64 else b"x" * 4096

    monkeypatch.setattr(records, "CHUNK", 4096)
    reading = Reading()
    assert list(reading.stream(Endless())) == []  # type: ignore[arg-type]
    assert reading.torn == 1
    found, reading = read(line(id="d-1") + b"x" * 300_000 + b"\n" + line(id="d-2"))
    assert ([record.id for record in found], reading.unreadable) == (["d-1", "d-2"], 1)


@given(st.lists(st.sampled_from([line(), b"\n", b"no\n", b"x" * 90 + b"\n"])), st.integers(1, 400))
def test_how_the_bytes_come_makes_no_difference(lines: list[bytes], size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "CHUNK", size)
        found, reading = read(b"".join(lines))
    assert len(found) == reading.lines == lines.count(line())
    assert reading.unreadable == len(lines) - lines.count(line()) - lines.count(b"\n")


def test_older_parts_come_first_and_once(tmp_path: Path) -> None:
    for number, name in enumerate(["audit.jsonl", "audit.jsonl.1", "audit.jsonl.2"]):
        (tmp_path / name).write_bytes(line(id=f"d-{number}"))
    log = tmp_path / "audit.jsonl"
    assert [path.name for path in with_older_parts([log, tmp_path / "audit.jsonl.1"])] == [
        "audit.jsonl.2",
        "audit.jsonl.1",
        "audit.jsonl",
    ]
    assert [record.id for record in Reading().files([log])] == ["d-2", "d-1", "d-0"]


def test_what_is_no_file_is_one_clear_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path, words in (
        (tmp_path / "none", "cannot be read: No such file"),
        (tmp_path, "is not a plain file"),
        (tmp_path / "fifo", "is not a plain file"),
    ):
        with pytest.raises(ConfigError, match=re.escape(str(path)) + ".*" + words):
            list(Reading().files([path]))


def test_fields_are_those_of_the_page() -> None:
    page = (ROOT / "docs/audit.md").read_text().split("## Fields")[1].split("\n## ")[0]
    rows = [row.split("|")[1] for row in page.splitlines() if row.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert set(Record.__struct_fields__) <= named

"""The examination as a whole, what is printed, and that the manual tells of each check."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gpa.__main__ import main
from gpa.config import Config
from gpa.doctor import checks
from gpa.doctor.finding import Finding, State, failure, ok, warning
from gpa.doctor.report import Json, Lines, Table
from gpa.errors import InterceptionError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.doctor.conftest import Fake

    from gpa.doctor.machine import Machine

MANUAL = Path(__file__).resolve().parents[2] / "docs/doctor.md"

FOUND = (
    ok("btf", "/sys/kernel/btf/vmlinux"),
    warning("clock", "it is not\n1970", "set it"),
    failure("program connect4", "refused: [R1]", "boot another"),
)


def test_the_manual_tells_of_each_check() -> None:
    section = MANUAL.read_text().split("\n## Checks\n")[1].split("\n## ")[0]
    told = re.findall(r"^\| `([a-z0-9-]+)", section, re.MULTILINE)
    assert told == [checks.CONFIG, *checks.CHECKS]


def test_what_is_not_ok_says_what_to_do() -> None:
    with pytest.raises(ValueError, match="remedy"):
        Finding("x", State.FAILURE, "no")
    with pytest.raises(ValueError, match="remedy"):
        Finding("x", State.OK, "yes", "do it")


def test_config(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    config, finding = checks.read_config(path)
    assert config == Config()
    assert (finding.state, f"there is no {path}" in finding.words) == (State.WARNING, True)
    path.write_text('{"relayThreads": 3}')
    path.chmod(0o644)
    config, finding = checks.read_config(path)
    assert (config.relay_threads, finding.state) == (3, State.OK)
    path.write_text('{"relayThread": 3}')
    assert checks.read_config(path)[1].state is State.WARNING
    path.write_text('{"relayThreads": "many"}')
    config, finding = checks.read_config(path)
    assert (config, finding.state) == (Config(), State.FAILURE)
    assert "relayThreads must be" in finding.words
    path.chmod(0o666)
    assert "can be written by others" in checks.read_config(path)[1].words


def test_a_check_that_breaks_does_not_hide_the_others(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(machine: Machine, config: Config) -> Iterator[Finding]:
        yield ok("first", "fine")
        raise PermissionError(13, "Permission denied")

    def refused(machine: Machine, config: Config) -> Iterator[Finding]:
        raise InterceptionError("no such hook")

    table = {"first": unreadable, "second": refused, "third": lambda *_: [ok("third", "fine")]}
    monkeypatch.setattr(checks, "CHECKS", table)
    found = [(f.name, f.state) for f in checks.examine(fake.machine, tmp_path / "none")]
    assert found == [
        ("config", State.WARNING),
        ("first", State.OK),
        ("first", State.FAILURE),
        ("second", State.FAILURE),
        ("third", State.OK),
    ]


def test_findings_bear_the_name_of_their_check(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """An ordinary user: what only root can try is left out, and he is told kindly."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main(["doctor", "--json", "--config", str(tmp_path / "none")], "gpa") == 1
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] is False
    states = {found["name"]: found["state"] for found in report["findings"]}
    assert states["root"] == "failure"
    names = {name.split()[0] for name in states}
    assert names == {checks.CONFIG, *checks.FOR_ANYBODY}


def test_lines(capsys: pytest.CaptureFixture[str]) -> None:
    report = Lines()
    for finding in FOUND:
        report.add(finding)
    report.end()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["ok", "btf", "/sys/kernel/btf/vmlinux"]
    assert lines[1].endswith("it is not\\n1970")
    assert lines[2].strip() == "to do: set it"
    assert lines[3].startswith("failure  program connect4")
    assert lines[-1] == "1 failure: interception cannot work so"


def test_table(capsys: pytest.CaptureFixture[str]) -> None:
    report = Table()
    for finding in FOUND:
        report.add(finding)
    report.end()
    out = capsys.readouterr().out
    assert "refused: [R1]" in out
    assert "to do: boot another" in out
    assert "1 failure" in out


@pytest.mark.parametrize(
    ("findings", "last"),
    [
        (FOUND[:1], "all that interception needs is there"),
        (FOUND[:2], "interception can work; 1 warning"),
        (FOUND[2:] * 2, "2 failures: interception cannot work so"),
    ],
)
def test_the_last_line(
    findings: tuple[Finding, ...], last: str, capsys: pytest.CaptureFixture[str]
) -> None:
    report = Lines()
    for finding in findings:
        report.add(finding)
    report.end()
    assert capsys.readouterr().out.splitlines()[-1] == last


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    report = Json(Path("/etc/x.json"))
    for finding in FOUND:
        report.add(finding)
    report.end()
    document = json.loads(capsys.readouterr().out)
    assert (document["ok"], document["failures"], document["warnings"]) == (False, 1, 1)
    assert document["config"] == "/etc/x.json"
    assert document["findings"][1] == {
        "name": "clock",
        "state": "warning",
        "words": "it is not\n1970",
        "remedy": "set it",
    }


def test_wrong_usage() -> None:
    with pytest.raises(SystemExit) as caught:
        main(["doctor", "--frobnicate"], "gpa")
    assert caught.value.code == 2

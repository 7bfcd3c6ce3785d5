"""What people and machines are told of a scene."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from gpa.demo.play import Outcome
from gpa.demo.report import WIDTH, Json, Lines
from gpa.demo.scenes import SCENES
from gpa.demo.stage import Answer, Expected, Seen, _description

if TYPE_CHECKING:
    from gpa.demo.scenes import Scene


def scene(name: str) -> Scene:
    return next(scene for scene in SCENES if scene.name == name)


def outcome(name: str, seen: Seen) -> Outcome:
    played = scene(name)
    answer = Answer(1, "id", seen.status, "", seen.microseconds)
    return Outcome(played, answer, seen, seen.misses(played.expected))


ALLOWED = Seen(200, "allow", "default_allow", "default_allow", "valid", False, 812)
REFUSED = Seen(403, "deny", "not_root", "for root only [bold], decision d-7", "nothing", None, 90)


def lines(*outcomes: Outcome, terminal: bool = False) -> str:
    out = io.StringIO()
    report = Lines(Console(file=out, highlight=False, width=WIDTH, force_terminal=terminal))
    for each in outcomes:
        report.scene(each)
    return out.getvalue()


def test_a_scene_is_one_line_with_who_what_decision_status_microseconds_and_why() -> None:
    text = lines(outcome("group-zero", REFUSED))
    assert text.count("\n") == 1
    words = "ok nobody (gid 0) WireServer goal state deny 403 90 µs"
    assert " ".join(text.split()).startswith(words)
    assert "for root only [bold], decision d-7" in text


def test_an_unexpected_outcome_says_what_is_not_as_it_should_be() -> None:
    text = lines(outcome("group-zero", ALLOWED))
    assert text.startswith("FAIL")
    assert "status should be 403, is 200" in text
    assert "host should be nothing, is valid" in text


def test_colour_is_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")  # a dumb one has no colour, nor does CI
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[" not in lines(outcome("user-imds", ALLOWED))
    assert "\x1b[" in lines(outcome("user-imds", ALLOWED), terminal=True)


def test_the_summary_names_what_failed(capsys: pytest.CaptureFixture[str]) -> None:
    Lines(Console(highlight=False, width=WIDTH)).end(
        [outcome("user-imds", ALLOWED), outcome("group-zero", ALLOWED)], ["GET /x (unsigned)"], 1.26
    )
    out = capsys.readouterr().out
    assert "1 of 2 scenes came out as they should: not group-zero. 1.3 s; nothing is left." in out
    assert "user-imds" in out
    assert "reached the host without a signature: GET /x (unsigned)" in out


def test_machines_get_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    Json().end([outcome("user-imds", ALLOWED), outcome("group-zero", REFUSED)], [], 1.26)
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is True
    assert told["seconds"] == 1.26
    assert [(s["name"], s["ok"], s["seen"]["status"]) for s in told["scenes"]] == [
        ("user-imds", True, 200),
        ("group-zero", True, 403),
    ]
    assert told["scenes"][1]["expected"]["reason"] == "not_root"


def test_a_stray_is_no_success(capsys: pytest.CaptureFixture[str]) -> None:
    Json().end([outcome("user-imds", ALLOWED)], ["GET /x (unsigned)"], 1.26)
    assert json.loads(capsys.readouterr().out)["ok"] is False


def test_every_part_of_what_is_expected_counts() -> None:
    expected = Expected(200, "allow", "default_allow", "valid", root=False)
    assert ALLOWED.misses(expected) == []
    for other in (
        replace(ALLOWED, status=403),
        replace(ALLOWED, decision="none"),
        replace(ALLOWED, reason="no_rules"),
        replace(ALLOWED, host="unsigned"),
        replace(ALLOWED, root=True),
    ):
        assert len(other.misses(expected)) == 1


def test_names_of_scenes_are_unique() -> None:
    assert len({scene.name for scene in SCENES}) == len(SCENES)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('{"error": "AccessDenied", "error_description": "no"}', "no"),
        ('{"error": "AccessDenied"}', ""),
        ("[1]", ""),
        ("<html>", ""),
        ("", ""),
    ],
)
def test_a_body_may_say_why(body: str, words: str) -> None:
    assert _description(body) == words

"""An explanation in words, as lines and at a terminal."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

from rich.console import Console

from gpa.agent.log import one_line
from gpa.endpoints import Endpoint, Mode
from gpa.rules import telling
from gpa.rules.explain import explain
from gpa.rules.facts import Caller, Fact, Request, known
from gpa.rules.judge import Judge
from gpa.rules.merge import merge
from gpa.rules.replay import PathsNamed
from gpa.rules.terminal import Terminal
from gpa.rules.validate import read_host_item

AUDIT_DOC = Path(__file__).parents[2] / "docs" / "audit.md"
ITEM = {
    "id": "site",
    "mode": "enforce",
    "defaultAccess": "deny",
    "rules": {
        "privileges": [{"name": "token", "path": "/token"}],
        "roles": [{"name": "reader", "privileges": ["token"]}],
        "identities": [{"name": "backup", "userName": "backup", "exePath": "/usr/bin/restic"}],
        "roleAssignments": [{"role": "reader", "identities": ["backup"]}],
    },
}


def told(user: str = "alice", paths: Fact | None = None) -> dict[str, Any]:
    """Before the fact, as the verb has it."""
    paths = known("/usr/bin/curl") if paths is None else paths
    caller = Caller(4000, 4000, known(user), known(), paths, known("curl"))
    judge = Judge(Endpoint.IMDS, Mode.ENFORCE, merge(read_host_item(ITEM)))
    explanation = explain(judge, caller, Request.read(Endpoint.IMDS, "GET", "/token"))
    return {
        "record": None,
        "endpointAssumed": False,
        "decision": explanation["decision"],
        "reason": explanation["reason"],
        "rules": "IMDS_Rules.json",
        "localRulesCount": True,
        "explanation": explanation,
    }


def test_every_reason_has_words() -> None:
    reasons = AUDIT_DOC.read_text().partition("## Reasons")[2]
    codes = re.findall(r"^\| `([a-z_]+)` \| [0-9]+ \|", reasons, re.MULTILINE)
    assert len(codes) > 30
    assert set(codes) == set(telling.WORDS)


def test_a_reason_of_a_later_version_is_named() -> None:
    assert telling.reason_words("moon_phase") == "moon_phase (docs/audit.md, Reasons)"


def test_what_is_refused_in_every_case_is_not_said_to_depend() -> None:
    assert telling.verdict({"decision": "deny", "reason": None}).startswith("refused: for one")
    assert "not known decides" in telling.verdict({"decision": "depends", "reason": None})


def test_the_proposed_rules_can_be_copied() -> None:
    lines = list(telling.lines(told()))
    start = next(i for i, line in enumerate(lines) if "would allow it" in line)
    rules = json.loads("".join(lines[start + 1 : start + 5]))
    assert rules == told()["explanation"]["remedy"]["rules"]


def test_a_path_that_is_not_known_is_told_by_its_end() -> None:
    one = told("backup", PathsNamed(frozenset({"curl"})))
    text = "\n".join(telling.lines(one))
    assert "exePath is '/usr/bin/restic': the caller's is '.../curl'" in text
    [identity] = one["explanation"]["remedy"]["rules"]["identities"]
    assert identity == {"name": "explained", "userName": "backup", "processName": "curl"}
    assert "exePath in place of processName is stricter" in text


def test_a_terminal_sees_the_verdict_in_colour_and_selectors_in_a_table() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, color_system="standard", width=72)
    Terminal(one_line, console).show([told(), told("backup", known("/usr/bin/restic"))])
    text = screen.getvalue()
    assert "\x1b[1;31mrefused: rules name this request" in text
    assert "\x1b[1;32mallowed: a rule allows it" in text
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert re.search(r"userName +'backup' +'alice' +no", plain)
    assert re.search(r"exePath +'/usr/bin/restic' +'/usr/bin/restic' +yes", plain)
    # Not broken at the edge, so that it can be copied.
    assert (
        f'"identities": {json.dumps(told()["explanation"]["remedy"]["rules"]["identities"])}'
        in plain
    )


def test_what_is_foreign_commands_no_terminal() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, color_system=None, width=72)
    Terminal(one_line, console).show([told("\x1b[2Jalice")])
    assert "\x1b" not in screen.getvalue()

"""Attacks on time: what was taken away, or never given, is used until the agent looks again.

The agent asks its host once a minute here, so that what counts sooner counts because it was seen.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.attacks.conftest import INSTANCE, eventually
from tests.kernel.conftest import PYTHON

from gpa.demo.lab import Lab

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.kernel

USER = 4001
POLL = 60
SOON = 5.0
"""Seconds that a slow machine may take; an idle one takes a fifth of one, the start of Python
included."""

FLAGGED = base64.b64encode(json.dumps({"id": "r", "useLocalFileRules": True}).encode()).decode()
SCENARIO = f"""
[rules.imds]
id = "{FLAGGED}"
mode = "enforce"
defaultAccess = "allow"
"""
ASK = f"""
import http.client
connection = http.client.HTTPConnection("169.254.169.254", timeout=10)
connection.request("GET", {INSTANCE!r}, headers={{"Metadata": "true"}})
print(connection.getresponse().status)
"""


def rules_for(**selectors: str) -> dict[str, Any]:
    """A local file by which only such callers may ask."""
    return {
        "defaultAccess": "deny",
        "rules": {
            "privileges": [{"name": "p", "path": "/metadata/instance"}],
            "roles": [{"name": "r", "privileges": ["p"]}],
            "identities": [{"name": "i", **selectors}],
            "roleAssignments": [{"role": "r", "identities": ["i"]}],
        },
    }


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        lab.start_emulator(SCENARIO)
        agent = lab.start_agent({"pollKeyStatusIntervalInSeconds": POLL})
        agent.wait_provisioned()
        yield lab


def status(lab: Lab, program: str | Path = PYTHON) -> int:
    done = lab.run_as(USER, USER, [str(program), "-I", "-S", "-c", ASK])
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def becomes(lab: Lab, wanted: int, program: str | Path = PYTHON) -> bool:
    return bool(eventually(lambda: status(lab, program) == wanted, SOON))


def test_a_right_that_is_taken_away_is_gone_at_once(lab: Lab) -> None:
    lab.set_rules("IMDS", {"defaultAccess": "allow"})
    assert becomes(lab, 200)
    lab.set_rules("IMDS", {"defaultAccess": "deny"})
    assert becomes(lab, 403)
    lab.set_rules("IMDS", {"defaultAccess": "allow"})
    assert becomes(lab, 200)
    lab.set_rules("IMDS", b"{")
    assert becomes(lab, 403), "a broken file closes at once, too"
    lab.set_rules("IMDS", None)
    assert becomes(lab, 200), "and the host's rules are back at once"


def test_a_program_that_is_put_in_place_counts_at_once(lab: Lab) -> None:
    tool = lab.programs / "installed-later"
    lab.set_rules("IMDS", rules_for(exePath=str(tool)))
    assert becomes(lab, 403)
    draft = lab.add_program("installed-later.new", Path(PYTHON).resolve())
    assert status(lab, draft) == 403
    draft.rename(tool)
    assert becomes(lab, 200, tool)
    # Somebody else's program takes its place: what is there now is what the rule means.
    lab.add_program("another", Path(PYTHON).resolve()).rename(tool)
    assert becomes(lab, 200, tool)
    tool.rename(lab.programs / "moved-away")
    assert becomes(lab, 403, lab.programs / "moved-away")

"""From a refusal to the rule that allows it: what `gpa explain` proposes is put into the local
rules, and allows the user who was refused, and nobody else.
"""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.attacks.conftest import TOKEN, Stand, eventually
from tests.kernel.conftest import PYTHON

from gpa.demo.lab import Lab
from gpa.errors import EXIT_NO

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.kernel

USER, OTHER = 4051, 4052
SCENARIO = """
[rules.imds]
id = "ID"
mode = "enforce"
defaultAccess = "deny"
[rules.wireserver]
id = "x"
mode = "enforce"
defaultAccess = "allow"
"""
RULES: dict[str, list[dict[str, Any]]] = {
    "privileges": [{"name": "token", "path": TOKEN.partition("?")[0]}],
    "roles": [{"name": "reader", "privileges": ["token"]}],
    "identities": [{"name": "backup", "uid": OTHER, "exePath": "/usr/bin/restic"}],
    "roleAssignments": [{"role": "reader", "identities": ["backup"]}],
}
REFUSED = """
with connected() as connection:
    connection.sendall(head(ARGUMENTS[0]))
    data = b""
    while more := connection.recv(65536):
        data += more
tell([int(data[9:12]), data.partition(b"\\r\\n\\r\\n")[2].decode()])
time.sleep(0.3)
"""
"""Who asks lives on for a moment, so that the path of his program can be read."""

ASK = "tell(attempt(ARGUMENTS[0]))"


@pytest.fixture(scope="module")
def stand() -> Iterator[Stand]:
    with Lab() as lab:
        inside = json.dumps({"id": "x", "useLocalFileRules": True}).encode()
        stand = Stand(lab, SCENARIO.replace("ID", base64.b64encode(inside).decode()))
        lab.set_rules("IMDS", {"rules": RULES})
        yield stand


def refusal(stand: Stand) -> dict[str, Any]:
    """The answer to the user, once the local file is in force."""

    def named() -> dict[str, Any] | None:
        status, body = stand.attack(USER, REFUSED, TOKEN)
        assert status == 403, body
        found: dict[str, Any] = json.loads(body)
        return found if "none of them names this user" in body else None

    found: dict[str, Any] | None = eventually(named, 5)
    assert found is not None
    return found


def explained(stand: Stand, number: str, *words: str) -> str:
    """What the tool says; the record is written a moment after the answer."""

    def told() -> str:
        done = stand.lab.gpa("explain", number, "--config", stand.agent.config, *words)
        return done.stdout if done.returncode == EXIT_NO else ""

    text: str = eventually(told)
    assert text
    return text


def test_the_proposed_rule_allows_that_user_and_nobody_else(stand: Stand) -> None:
    number = refusal(stand)["decisionId"]
    text = explained(stand, number)
    assert f"by uid {USER}, " in text
    assert f"GET {TOKEN.partition('?')[0]}" in text
    assert "refused: rules name this request, and none of them this user and program" in text
    assert "'token' is granted to the identity 'backup' (identities[0])" in text
    assert f"uid is '{OTHER}': the caller's is '{USER}'" in text
    assert "these, added to the local file (IMDS_Rules.json), would allow it" in text
    assert "does not agree" not in text

    [one] = json.loads(explained(stand, number, "--json"))
    assert (one["record"]["id"], one["reason"]) == (number, "no_identity_matched")
    assert (one["agrees"], one["localRulesCount"]) == (True, True)
    remedy = one["explanation"]["remedy"]
    assert remedy["file"] == "IMDS_Rules.json"
    [identity] = remedy["rules"]["identities"]
    program = str(Path(PYTHON).resolve())
    assert identity == {"name": "explained", "uid": USER, "exePath": program}
    assert f"exePath is '/usr/bin/restic': the caller's is {program!r}" in text

    assert stand.attack(OTHER, ASK, TOKEN) == 403
    more = {kind: [*RULES[kind], *remedy["rules"][kind]] for kind in RULES}
    start = time.monotonic()
    stand.lab.set_rules("IMDS", {"rules": more})
    assert eventually(lambda: stand.attack(USER, ASK, TOKEN) == 200, 2)
    assert time.monotonic() - start < 1.0
    assert stand.attack(OTHER, ASK, TOKEN) == 403

"""Rule sets of the host up to the limits, and beyond: then what was in force stays."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from gpa import _native
from gpa.agent.channel import parse_status
from gpa.agent.rules import HostPolicy
from gpa.endpoints import Endpoint, Mode
from gpa.rules.executables import Executables
from gpa.rules.resolve import SystemUsers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MODES = dict.fromkeys(Endpoint, Mode.ENFORCE)
SECONDS = 10.0
"""At most, on a slow machine; an idle one takes a tenth."""


def item(**rules: Any) -> dict[str, Any]:
    return {"id": "one", "mode": "enforce", "defaultAccess": "deny", "rules": rules}


def a_mebibyte() -> dict[str, Any]:
    names = [f"privilege-{n:05}" for n in range(9_000)]
    users = [f"nobody-{n:04}" for n in range(1_000)]
    privileges = [{"name": name, "path": f"/metadata/instance/{name}/{'x' * 20}"} for name in names]
    return item(
        privileges=privileges,
        roles=[{"name": "r", "privileges": names}],
        identities=[{"name": user, "processName": user} for user in users],
        roleAssignments=[{"role": "r", "identities": users}],
    )


def grants() -> dict[str, Any]:
    names, users = [f"p{n}" for n in range(10_000)], [f"i{n}" for n in range(2_000)]
    return item(
        privileges=[{"name": name, "path": f"/{name}"} for name in names],
        roles=[{"name": "all", "privileges": names}]
        + [{"name": name, "privileges": [name]} for name in names],
        identities=[{"name": user, "processName": user} for user in users],
        roleAssignments=[{"role": "all", "identities": users}]
        + [{"role": name, "identities": users[:1]} for name in names],
    )


BEYOND: dict[str, Callable[[], dict[str, Any]]] = {
    "more than 65535": lambda: item(
        privileges=[{"name": str(n), "path": "/"} for n in range(0x1_0000)]
    ),
    "more than a request's target can hold": lambda: item(
        privileges=[{"name": "long", "path": "/" + "a" * 1_000_000}]
    ),
    "rules.roles": grants,
    "has the unknown member 'methods'": lambda: item(
        privileges=[{"name": "p", "path": "/", "methods": ["GET"]}]
    ),
    "half of a surrogate pair": lambda: item(privileges=[{"name": "\ud800", "path": "/"}]),
}


class Bench:
    def __init__(self, folder: Path) -> None:
        self.files = Executables()
        self.policy = HostPolicy(
            folder, lambda table: _native.Snapshot(0, table), SystemUsers(), self.files
        )

    async def compile(self, imds: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
        """As the host would send it: the table's part for IMDS, and the troubles."""
        text = json.dumps(
            {"version": "2.0", "secureChannelEnabled": True, "authorizationRules": {"imds": imds}}
        )
        items = parse_status(text.encode()).rules
        before = time.monotonic()
        compiled = await self.policy.compile(MODES, items, ())
        _native.Snapshot(1, compiled.table)
        assert time.monotonic() - before < SECONDS
        return json.loads(compiled.table)["endpoints"]["imds"], compiled.troubles


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_a_rule_set_of_a_mebibyte_is_taken(bench: Bench) -> None:
    large = a_mebibyte()
    assert len(json.dumps(large)) >= 1 << 20
    imds, troubles = await bench.compile(large)
    assert troubles == ()
    assert imds["broken"] is False
    assert len(imds["rules"]["privileges"]) == 9_000


@pytest.mark.parametrize("words", BEYOND)
async def test_beyond_the_limits_the_last_valid_rules_stay(bench: Bench, words: str) -> None:
    good = item(privileges=[{"name": "p", "path": "/kept"}])
    before, _ = await bench.compile(good)
    after, (trouble,) = await bench.compile(BEYOND[words]())
    assert words in trouble
    assert trouble.endswith("the last valid rules stay")
    assert len(trouble) < 4000
    assert after == before
    assert (await bench.compile(good)) == (before, ())


@pytest.mark.parametrize("words", BEYOND)
async def test_beyond_the_limits_and_without_any_before_all_is_refused(
    bench: Bench, words: str
) -> None:
    imds, (trouble,) = await bench.compile(BEYOND[words]())
    assert imds == {"mode": "enforce", "broken": True, "rules": None}
    assert words in trouble

"""When rules are compiled anew, and what happens when some of them are broken."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pytest

from gpa.agent.rules import LOOKUP_SECONDS, Compiled, HostPolicy, _signature, closed_table
from gpa.endpoints import Endpoint, Mode
from gpa.rules.compile import ExeId, GroupIds
from gpa.rules.executables import Executables
from gpa.rules.resolve import NoMatchError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import trio
import trio.testing

MODES = dict.fromkeys(Endpoint, Mode.ENFORCE)
IMDS = Endpoint.IMDS


class FakeUsers:
    def __init__(self) -> None:
        self.uids = {"app": 1000}
        self.seen: tuple[int, ...] = ()

    def user(self, name: str) -> frozenset[int]:
        if name not in self.uids:
            raise NoMatchError("no such user")
        return frozenset({self.uids[name]})

    def group(self, name: str, seen: Collection[int]) -> GroupIds:
        self.seen = tuple(seen)
        return GroupIds(frozenset({50}), frozenset(seen))


class NoFiles(Executables):
    def find(self, path: str) -> frozenset[ExeId]:
        raise NoMatchError("there is no such file")


def item(**more: Any) -> dict[str, object]:
    base: dict[str, object] = {
        "id": "host",
        "mode": "enforce",
        "defaultAccess": "deny",
        "rules": {
            "privileges": [{"name": "p", "path": "/metadata"}],
            "roles": [{"name": "r", "privileges": ["p"]}],
            "identities": [{"name": "i", "userName": "app"}],
            "roleAssignments": [{"role": "r", "identities": ["i"]}],
        },
    }
    return base | more


def with_local(name: str = "host") -> str:
    inner = json.dumps({"id": name, "useLocalFileRules": True})
    return base64.b64encode(inner.encode()).decode()


def items(
    imds: dict[str, object] | None,
) -> Mapping[Endpoint, Mapping[str, object] | None]:
    return MappingProxyType({IMDS: imds, Endpoint.WIRESERVER: None, Endpoint.HOSTGA: None})


class Bench:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.users = FakeUsers()
        self.refused = ""
        self.now = 1769846400.0  # 2026-01-31T08:00:00Z
        self.policy = HostPolicy(folder, self.load, self.users, NoFiles(), clock=lambda: self.now)

    def load(self, table: bytes) -> None:
        if self.refused and self.refused.encode() in table:
            raise ValueError("imds.privileges[0]: not a path")

    async def compile(
        self, raw: dict[str, object] | None, seen: Collection[int] = ()
    ) -> tuple[dict[str, Any], Any]:
        compiled = await self.policy.compile(MODES, items(raw), seen)
        return json.loads(compiled.table)["endpoints"]["imds"], compiled

    def local(self, text: str) -> None:
        path = self.folder / "IMDS_Rules.json"
        path.write_text(text)
        path.chmod(0o600)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_no_item_is_no_rules(bench: Bench) -> None:
    imds, compiled = await bench.compile(None)
    assert imds == {"mode": "enforce", "broken": False, "rules": None}
    assert compiled.ids == {}
    assert compiled.troubles == ()


async def test_an_item_is_compiled_once_while_nothing_changes(bench: Bench) -> None:
    imds, compiled = await bench.compile(item())
    assert imds["rules"]["identities"][0]["uids"] == [1000]
    assert compiled.ids == {IMDS: "host"}
    assert compiled.names[IMDS].privilege(0) == "p"
    assert compiled.document["inputRules"]["imds"]["id"] == "host"
    assert (await bench.compile(item()))[1] is compiled


async def test_a_change_of_users_is_in_the_next_table(bench: Bench) -> None:
    await bench.compile(item())
    bench.users.uids["app"] = 2000
    imds, _ = await bench.compile(item())
    assert imds["rules"]["identities"][0]["uids"] == [2000]
    del bench.users.uids["app"]
    imds, compiled = await bench.compile(item())
    assert imds["rules"]["identities"][0]["uids"] == [], "a name that is not known matches nobody"
    assert compiled.troubles == ("userName app: no such user",)


async def test_groups_are_asked_for_uids_that_were_seen(bench: Bench) -> None:
    rules = item()
    rules["rules"]["identities"] = [{"name": "i", "groupName": "g"}]  # type: ignore[index]
    await bench.compile(rules, [7])
    assert bench.users.seen == (7,)


async def test_an_invalid_first_item_closes_the_endpoint(bench: Bench) -> None:
    imds, compiled = await bench.compile(item(defaultAccess="maybe"))
    assert imds["broken"] is True
    assert compiled.troubles[0].startswith("IMDS: ")
    assert (await bench.compile(item()))[0]["broken"] is False


async def test_an_invalid_later_item_leaves_the_last_valid_one(bench: Bench) -> None:
    await bench.compile(item())
    imds, compiled = await bench.compile(item(defaultAccess="maybe"))
    assert imds["broken"] is False
    assert imds["rules"]["id"] == "host"
    assert "the last valid rules stay" in compiled.troubles[0]
    _, compiled = await bench.compile(item())
    assert compiled.troubles == ()


async def test_rules_that_the_engine_refuses_are_invalid(bench: Bench) -> None:
    bench.refused = "/metadata"
    imds, compiled = await bench.compile(item())
    assert imds["broken"] is True
    assert "not a path" in compiled.troubles[0]


async def test_the_local_file_counts_when_the_host_says_so(bench: Bench) -> None:
    bench.local('{"id": "mine", "defaultAccess": "allow"}')
    imds, _ = await bench.compile(item())
    assert imds["rules"]["defaultAllowed"] is False
    imds, compiled = await bench.compile(item(id=with_local()))
    assert imds["rules"]["defaultAllowed"] is True
    assert compiled.ids[IMDS] == "host-useLocalFileRules-true_mine"


async def test_a_changed_local_file_is_seen_at_the_next_poll(bench: Bench) -> None:
    bench.local('{"defaultAccess": "allow"}')
    raw = item(id=with_local())
    assert (await bench.compile(raw))[0]["rules"]["defaultAllowed"] is True
    bench.local('{"defaultAccess": "deny"}')
    assert (await bench.compile(raw))[0]["rules"]["defaultAllowed"] is False
    (bench.folder / "IMDS_Rules.json").unlink()
    assert (await bench.compile(item(id=with_local(), defaultAccess="allow")))[0]["rules"][
        "defaultAllowed"
    ]


def test_a_young_file_is_never_taken_for_read(tmp_path: Path) -> None:
    """Kernels before 6.13 give two changes within a tick of their clock the same time, so that the
    second could be missed for good."""
    (tmp_path / "young").write_text("{}")
    assert _signature(tmp_path / "young") is None
    assert _signature(tmp_path / "none") is None
    assert _signature(Path(os.__file__)) is not None


async def test_a_broken_local_file_closes_the_endpoint_until_it_is_mended(bench: Bench) -> None:
    raw = item(id=with_local(), defaultAccess="allow")
    bench.local("{")
    imds, compiled = await bench.compile(raw)
    assert imds["broken"] is True
    assert "IMDS_Rules.json" in compiled.troubles[0]
    bench.local("{}")
    assert (await bench.compile(raw))[0]["broken"] is False
    (bench.folder / "IMDS_Rules.json").chmod(0o666)
    imds, _ = await bench.compile(raw)
    assert imds["broken"] is True, "a change of mode is a change"


async def test_a_grant_with_times_holds_between_them(bench: Bench) -> None:
    rules: dict[str, Any] = item()["rules"]  # type: ignore[assignment]
    times = {"notBefore": "2026-01-31T08:00:01Z", "notAfter": "2026-01-31T08:00:02.5Z"}
    rules["roleAssignments"][0] |= times
    bench.local(json.dumps({"rules": rules}))
    raw = item(id=with_local(), rules=None)

    async def look(now: float) -> tuple[bool, float | None, tuple[str, ...]]:
        bench.now = now
        imds, compiled = await bench.compile(raw)
        return bool(imds["rules"]["assignments"]), compiled.until, compiled.notes

    first, last = 1769846401, 1769846402.5
    early = "IMDS: role 'r' of i: not in force before 2026-01-31T08:00:01Z"
    late = "IMDS: role 'r' of i: no longer in force since 2026-01-31T08:00:02.500000Z"
    assert await look(first - 1) == (False, first, (early,))
    assert await look(first - 0.5) == (False, first, (early,))
    assert await look(first) == (True, last, ())
    assert await look(last) == (False, None, (late,))
    _, compiled = await bench.compile(raw)
    shown = compiled.document["computedRules"]["imds"]["assignmentsNotInForce"]
    assert shown[0]["why"] == late.partition("i: ")[2]
    # The clock was set back: noticed by the next look.
    assert await look(first) == (True, last, ())


def test_who_sleeps_wakes_for_the_next_boundary(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = Compiled(b"", {}, {}, {}, until=1000.0)
    for now, pause in ((900.0, 15.0), (990.0, 10.0), (1000.0, 0.01), (2000.0, 0.01)):
        monkeypatch.setattr("time.time", lambda now=now: now)
        assert compiled.pause(15.0) == pause
    assert Compiled(b"", {}, {}, {}).pause(15.0) == 15.0


async def test_a_look_up_that_hangs_keeps_the_answers_from_before(
    bench: Bench, mock_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.compile(item())
    reader, writer = os.pipe()
    hanging = trio.Event()

    def hang(name: str) -> frozenset[int]:
        trio.from_thread.run_sync(hanging.set)
        os.read(reader, 1)
        return frozenset()

    monkeypatch.setattr(bench.users, "user", hang)
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def compile_meanwhile() -> None:
            imds, _ = await bench.compile(item())
            assert imds["rules"]["identities"][0]["uids"] == [1000]

        await hanging.wait()
        mock_clock.jump(LOOKUP_SECONDS)
    os.close(writer)


def test_a_closed_table_refuses_everything() -> None:
    table = json.loads(closed_table(MODES))["endpoints"]
    assert all(entry["broken"] and entry["rules"] is None for entry in table.values())
    assert set(table) == {"imds", "wireserver", "hostga"}


async def test_callers_are_looked_at_only_where_a_rule_asks(bench: Bench) -> None:
    rules: dict[str, Any] = item()["rules"]  # type: ignore[assignment]
    raw = item(id=with_local(), rules=None)
    bench.local(json.dumps({"rules": rules}))
    imds, _ = await bench.compile(raw)
    assert imds["rules"]["known"] == {"exes": None, "cgroups": None}
    rules["identities"][0] = {"name": "i", "containerId": "web", "exeSha256": "a" * 64}
    bench.local(json.dumps({"rules": rules}))
    imds, _ = await bench.compile(raw)
    assert imds["rules"]["known"] == {"exes": [], "cgroups": []}
    caller: Any = {"cgroup_id": 1 << 60, "uid": 7, "exe": None}
    bench.policy.look([caller])
    known = await bench.policy.compile(MODES, items(raw), (), names=False)
    compiled = json.loads(known.table)["endpoints"]["imds"]["rules"]
    assert compiled["known"]["cgroups"] == [1 << 60], "also who is nowhere"
    assert compiled["identities"][0]["cgroups"] == []
    bench.local("{}")
    await bench.compile(raw)
    bench.local(json.dumps({"rules": rules}))
    imds, _ = await bench.compile(raw)
    assert imds["rules"]["known"]["cgroups"] == [], "forgotten with the rules"

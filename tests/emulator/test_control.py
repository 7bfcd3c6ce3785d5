"""The control API, and a host that follows it while it runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import h11
import pytest
import trio
from tests.emulator.guest import Emulated, Reply, exchange, signed, wait_until

from gpa.emulator import control

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.trio

TARGET = "/metadata/versions"


class Controlled:
    """A host and its control socket."""

    def __init__(self, emulated: Emulated, path: Path) -> None:
        self.emulated = emulated
        self.path = path

    async def reply(self, method: str, path: str, document: object = None) -> Reply:
        body = b"" if document is None else json.dumps(document).encode()
        async with await trio.open_unix_socket(str(self.path)) as stream:
            http = h11.Connection(h11.CLIENT)
            return await exchange(stream, http, method, path, [("Host", "x")], body)

    async def __call__(self, method: str, path: str, document: object = None) -> Any:
        reply = await self.reply(method, path, document)
        assert reply.status == 200, reply
        return reply.json()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "control"


@pytest.fixture
async def api(emulated: Emulated, nursery: trio.Nursery, path: Path) -> Controlled:
    nursery.start_soon(control.serve, control.open_socket(path), emulated.server)
    return Controlled(emulated, path)


async def test_health(api: Controlled) -> None:
    await api.emulated.ask("imds", "GET", TARGET)
    health = await api("GET", "/health")
    assert health["status"] == "ok"
    assert health["listening"] == {"imds": True, "wireserver": True, "hostga": True}
    assert health["verdicts"] == {"unsigned": 1}
    assert health["connections"] == 1


async def test_modes(api: Controlled) -> None:
    assert await api("GET", "/mode") == dict.fromkeys(("imds", "wireserver", "hostga"), "enforce")
    modes = await api("PUT", "/mode", {"imds": "audit", "hostga": "disabled"})
    assert modes == {"imds": "audit", "wireserver": "enforce", "hostga": "disabled"}
    assert (await api.emulated.ask("imds", "GET", TARGET)).status == 200
    assert (await api.emulated.ask("wireserver", "GET", "/?comp=versions")).status == 401
    assert (await api.reply("PUT", "/mode", {"imds": "sometimes"})).status == 400
    assert (await api.reply("PUT", "/mode", {"imds2": "audit"})).status == 400


@pytest.mark.parametrize("scenario_text", ['[channel]\nversion = "1.0"\n'])
async def test_modes_of_version_1_become_its_state(api: Controlled) -> None:
    wanted = {"imds": "audit", "wireserver": "enforce", "hostga": "enforce"}
    assert await api("PUT", "/mode", {"imds": "audit"}) == wanted
    assert (await api("GET", "/scenario"))["channel"]["state"] == "Wireserver"
    assert (await api.reply("PUT", "/mode", {"wireserver": "disabled"})).status == 409


async def test_rules_are_replaced(api: Controlled) -> None:
    item = {"mode": "enforce", "defaultAccess": "deny", "id": "mine"}
    rules = await api("PUT", "/rules", {"imds": item})
    assert rules["imds"]["defaultAccess"] == "deny"
    status = (await api.emulated.ask("wireserver", "GET", "/secure-channel/status")).json()
    assert status["authorizationRules"]["imds"]["id"] == "mine"
    assert (await api("PUT", "/rules", {"imds": None}))["imds"] is None
    reply = await api.reply("PUT", "/rules", {"imds": {"defaultAccess": "maybe"}})
    assert reply.status == 400
    assert "rules.imds.defaultAccess" in reply.json()["error"]


async def test_a_scenario_is_patched_and_put(api: Controlled) -> None:
    patched = await api("PATCH", "/scenario", {"machine": {"name": "other"}})
    assert patched["machine"]["name"] == "other"
    assert patched["machine"]["location"] == "westeurope"
    assert (await api("PUT", "/scenario", {}))["machine"]["name"] == "emulated-vm"
    assert (await api.reply("PATCH", "/scenario", {"nothing": 1})).status == 400
    assert (await api.reply("PATCH", "/scenario", [1])).status == 400
    assert await api("GET", "/scenario") == await api("PUT", "/scenario", {})


async def test_a_key_is_reset(api: Controlled) -> None:
    key = await api.emulated.latch()
    assert await api("GET", "/key") == {"guid": key["guid"], "incarnation": 1, "pending": []}
    assert await api("POST", "/key/reset") == {"guid": None, "incarnation": 2, "pending": []}
    fields = signed(key, "GET", TARGET)
    reply = await api.emulated.ask("imds", "GET", TARGET, fields)
    assert (reply.status, api.emulated.last.signature) == (401, "unknown_key")
    again = await api.emulated.latch()
    assert again["incarnationId"] == 2


async def test_latency(api: Controlled) -> None:
    assert (await api("PUT", "/latency", {"imds": 0.02}))["imds"] == 0.02
    begin = trio.current_time()
    await api.emulated.ask("imds", "GET", TARGET)
    assert trio.current_time() - begin >= 0.02
    assert (await api.reply("PUT", "/latency", {"imds": -1})).status == 400


async def test_faults_come_and_go(api: Controlled) -> None:
    first = (await api("POST", "/faults", {"kind": "status", "status": 503}))["id"]
    assert (await api.emulated.ask("imds", "GET", TARGET)).status == 503
    assert await api("DELETE", f"/faults/{first}") == []
    assert (await api.reply("DELETE", f"/faults/{first}")).status == 404
    faults = await api("PUT", "/faults", [{"kind": "reset"}, {"kind": "close", "times": 1}])
    assert [fault["kind"] for fault in faults] == ["reset", "close"]
    assert await api("DELETE", "/faults") == []
    assert (await api.emulated.ask("imds", "GET", TARGET)).status == 401
    assert (await api.reply("POST", "/faults", {"kind": "none"})).status == 400


async def test_hold_and_release(api: Controlled, nursery: trio.Nursery) -> None:
    await api("POST", "/hold", {"endpoint": "imds"})
    nursery.start_soon(api.emulated.ask, "imds", "GET", TARGET)
    await wait_until(lambda: api.emulated.host.held == 1)
    assert (await api("GET", "/health"))["held"] == 1
    assert await api("POST", "/release") == {"released": 1}
    assert await api("GET", "/faults") == []
    assert len(await api("GET", "/records?wait=5")) == 1


async def test_records_are_waited_for(api: Controlled, nursery: trio.Nursery) -> None:
    assert await api("GET", "/records") == []
    for _ in range(3):
        await api.emulated.ask("imds", "GET", TARGET)
    assert [r["id"] for r in await api("GET", "/records?since=1&limit=1")] == [2]
    found: list[Any] = []

    async def wait() -> None:
        found.extend(await api("GET", "/records?since=3&wait=30"))

    async with trio.open_nursery() as waiting:
        waiting.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked(0.01)
        await api.emulated.ask("imds", "GET", TARGET)
    assert [r["id"] for r in found] == [4]
    assert await api("DELETE", "/records") == []
    assert (await api.reply("GET", "/records?since=x")).status == 400


async def test_a_listener_is_closed_and_opened(api: Controlled) -> None:
    before = (await api("GET", "/health"))["addresses"]["imds"]
    assert (await api("PUT", "/listening", {"imds": False}))["imds"] is False
    with pytest.raises(OSError, match=before.partition(":")[0]):
        await api.emulated.ask("imds", "GET", TARGET)
    assert (await api("PUT", "/listening", {"imds": True}))["imds"] is True
    assert (await api("GET", "/health"))["addresses"]["imds"] == before
    assert (await api.emulated.ask("imds", "GET", TARGET)).status == 401


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [("GET", "/nothing", 404), ("POST", "/mode", 405), ("PUT", "/mode", 400)],
)
async def test_what_is_not_a_command(
    api: Controlled, method: str, target: str, status: int
) -> None:
    reply = await api.reply(method, target)
    assert reply.status == status
    assert reply.json()["error"]


async def test_what_is_not_http(api: Controlled) -> None:
    async with await trio.open_unix_socket(str(api.path)) as stream:
        await stream.send_all(b"hello\r\n\r\n")
        assert (await stream.receive_some(65536)).startswith(b"HTTP/1.1 400")
    async with await trio.open_unix_socket(str(api.path)) as stream:
        pass
    assert (await api("GET", "/health"))["status"] == "ok"

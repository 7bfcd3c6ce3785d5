"""The agent's whole life, with fakes for the kernel, the relay and the host, on a clock that
jumps."""

from __future__ import annotations

import json
import os
import signal
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from gpa.agent import older, tags
from gpa.agent.log import Log
from gpa.agent.provisioning import LIMIT
from gpa.agent.rules import Compiled
from gpa.agent.service import Agent
from gpa.agent.systemd import Notifier
from gpa.agent.tools import Tools
from gpa.config import Config
from gpa.endpoints import Endpoint, Mode
from gpa.errors import InterceptionError, PortTakenError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

G1 = "11111111-1111-1111-1111-111111111111"
ROOT, USER = b"root", b"user"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> trio.testing.MockClock:
    """A clock that jumps; it does not see threads work, so what they would do is done in place."""

    async def in_place(work: Callable[..., Any], *args: Any, **options: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return work(*args)

    monkeypatch.setattr(trio.to_thread, "run_sync", in_place)
    return trio.testing.MockClock(autojump_threshold=0)


class FakeInterception:
    def __init__(self, relay: Any) -> None:
        self.guard = None
        self.log = relay.log
        self.netns = relay.door
        self.modes: dict[Endpoint, Mode] = {}
        self.is_attached = lambda: True
        self.records_map = 99

    def set_modes(self, modes: Mapping[Endpoint, Mode]) -> None:
        self.modes = dict(modes)
        self.log.append(f"modes {'/'.join(modes[e].value for e in Endpoint)}")

    def counters(self) -> dict[str, int]:
        return {}

    def release(self) -> None:
        self.log.append("release")

    def leave(self) -> None:
        self.log.append("leave")


@dataclass
class FakePolicy:
    local: str = ""
    troubles: tuple[str, ...] = ()

    async def compile(self, modes: Any, items: Any, seen: Any, *, names: bool = True) -> Compiled:
        table = json.dumps([[m.value for m in modes.values()], list(items.values()), self.local])
        return Compiled(
            table=table.encode(),
            names={},
            ids={Endpoint.IMDS: "rules-1"},
            document={"inputRules": dict(items), "computedRules": {}},
            troubles=self.troubles,
        )

    def look(self, callers: Any) -> None:
        self.local += "".join(f" {caller}" for caller in callers)


@dataclass
class World:
    """One agent with all its fakes."""

    fakes: Any
    relay: Any
    folder: Path
    nursery: trio.Nursery
    status: dict[str, Any] = field(default_factory=dict)
    attach_errors: list[Exception] = field(default_factory=list)
    handler: Callable[[Any], Any] | None = None

    def __post_init__(self) -> None:
        self.log = self.relay.log
        self.keys = self.fakes.Keys()
        self.policy = FakePolicy()
        self.interception = FakeInterception(self.relay)
        self.host = self.fakes.Host(self.answer, self.nursery)
        self.status = {"version": "1.0", "secureChannelState": "WireserverAndImds", "keyGuid": None}
        for name in ("log", "keys"):
            (self.folder / name).mkdir(exist_ok=True)
        self.config = Config(log_folder=self.folder / "log", latch_key_folder=self.folder / "keys")
        tools = Tools(
            relay=self.relay,
            snapshot=lambda epoch, table, key: (epoch, json.loads(table), key),
            attach=self.attach,
            listener=self.listener,
            connect=self.host.connect,
            keys=self.keys,
            policy=self.policy,
            split=lambda data, _: (json.loads(data), {}),
            decode_caller=self.decode_caller,  # type: ignore[arg-type]
            reset_older=self.reset_older,
        )
        self.agent = Agent(self.config, tools, Log(None), Notifier({}), "1.2.3")

    def answer(self, request: Any) -> Any:
        if self.handler is not None:
            return self.handler(request)
        if request.target.endswith(b"/key-attestation"):
            self.log.append("attest")
            self.status["keyGuid"] = request.target.decode().split("/")[3]
            return 200, {}, b""
        return 200, {}, json.dumps(self.status).encode()

    def attach(self, listener: Callable[[], socket.socket]) -> FakeInterception:
        if self.attach_errors:
            raise self.attach_errors.pop(0)
        listener()
        self.log.append("attach")
        return self.interception

    def listener(self) -> socket.socket:
        self.log.append("own")
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        return sock

    def reset_older(self, endpoints: Collection[Endpoint], _: older.Elsewhere) -> older.Outcome:
        self.log.append(f"reset {'/'.join(sorted(endpoints))}")
        return older.Outcome()

    @staticmethod
    def decode_caller(record: bytes) -> dict[str, int]:
        if not record:
            raise ValueError("empty")
        return {"uid": 0, "euid": 0} if record == ROOT else {"uid": 1000, "euid": 1000}

    def read(self, name: str) -> Any:
        return json.loads((self.folder / "log" / name).read_text())

    async def ask(self, path: str, caller: bytes, tick: int = 0, *, notify: bool = False) -> Any:
        token = len(self.relay.answers) + 1
        self.relay.waiting.append((token, path, caller, notify, tick))
        self.relay.wake()
        await trio.sleep(0.5)
        return self.relay.answers[token]


@pytest.fixture
def world(
    fakes: Any, relay: Any, tmp_path: Path, nursery: trio.Nursery, clock: trio.abc.Clock
) -> World:
    return World(fakes, relay, tmp_path, nursery)


async def stop(nursery: trio.Nursery, done: trio.Event) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    with trio.fail_after(10):
        await done.wait()


def start(world: World, nursery: trio.Nursery) -> trio.Event:
    done = trio.Event()

    async def live() -> None:
        try:
            await world.agent.run()
        finally:
            done.set()

    nursery.start_soon(live)
    return done


async def test_a_whole_life(
    world: World, clock: trio.abc.Clock, fakes: Any, nursery: trio.Nursery
) -> None:
    key = fakes.Key(G1, 1)
    world.keys.given.append(key)
    done = start(world, nursery)
    await trio.sleep(3)
    assert world.log[:4] == ["own", "attach", "modes unknown/unknown/unknown", "listen"]
    enforced = "modes enforce/enforce/enforce"
    assert world.log[4:] == [enforced, "reset hostga/imds/wireserver", "attest", enforced]
    assert [snapshot[0] for snapshot in world.relay.published] == [1, 2, 3]
    assert world.relay.published[1][2] is None, "not used before it is attested"
    assert world.relay.published[2][2] is key
    assert tags.read(world.config.latch_key_folder) == tags.Finished("")

    status, body = await world.ask("/provision", USER, 0)
    assert (status, body) == (200, {"finished": True, "errorMessage": ""})
    assert (await world.ask("/gpa-aggregated-status", USER))[0] == 403
    assert (await world.ask("/gpa-aggregated-status", b""))[0] == 403
    assert (await world.ask("/other", ROOT))[0] == 404
    status, body = await world.ask("/gpa-aggregated-status", ROOT)
    assert status == 200
    assert body["proxyAgentStatus"]["status"] == "SUCCESS"
    assert body["proxyAgentStatus"]["keyLatchStatus"]["states"]["keyGuid"] == G1
    on_disk = world.read("status.json")
    assert on_disk["proxyAgentStatus"]["version"] == "1.2.3"
    assert len(list((world.folder / "log").glob("AuthorizationRules_*.json"))) >= 1

    await stop(nursery, done)
    assert world.log[-3:] == ["drain all", "leave", "stop"]
    assert world.read("status.json")["proxyAgentStatus"]["status"] == "ERROR"


async def test_where_nothing_is_enforced_a_stop_takes_everything_away(
    world: World, clock: trio.abc.Clock, nursery: trio.Nursery, fakes: Any
) -> None:
    world.status["secureChannelState"] = "Audit"
    world.keys.given.append(fakes.Key(G1))
    done = start(world, nursery)
    await trio.sleep(2)
    await stop(nursery, done)
    assert world.log[-4:] == ["modes disabled/disabled/disabled", "drain all", "release", "stop"]


async def test_before_the_first_status_a_stop_leaves_what_is_pinned(
    world: World, clock: trio.abc.Clock, nursery: trio.Nursery
) -> None:
    world.handler = lambda request: b""
    done = start(world, nursery)
    await trio.sleep(2)
    await stop(nursery, done)
    assert world.log[-3:] == ["drain all", "leave", "stop"]


async def test_a_taken_port_is_tried_again_and_nothing_attached(
    world: World, clock: trio.abc.Clock, nursery: trio.Nursery
) -> None:
    world.attach_errors = [PortTakenError("taken by pid 7 (nc)")] * 3
    done = start(world, nursery)
    await trio.sleep(6)
    assert "attach" not in world.log
    assert world.host.connects == 0
    assert "pid 7" in world.agent.aggregate()["proxyAgentStatus"]["proxyListenerStatus"]["message"]
    await trio.sleep(2)
    assert "attach" in world.log
    await stop(nursery, done)


async def test_a_kernel_that_refuses_ends_the_start(world: World, clock: trio.abc.Clock) -> None:
    world.attach_errors = [InterceptionError("no BTF")]
    with pytest.raises(BaseExceptionGroup) as caught:
        await world.agent.run()
    assert caught.group_contains(InterceptionError)
    assert world.log == ["stop"]


async def test_provisioning_ends_with_an_error_after_two_minutes_and_heals(
    world: World, clock: trio.abc.Clock, nursery: trio.Nursery, fakes: Any
) -> None:
    world.handler = lambda request: (500, {}, b"")
    done = start(world, nursery)
    await trio.sleep(LIMIT - 2)
    assert tags.read(world.config.latch_key_folder) is None
    assert (await world.ask("/provision", USER))[1]["finished"] is False
    await trio.sleep(4)
    finished = tags.read(world.config.latch_key_folder)
    assert finished is not None
    assert "with 500" in finished.error
    world.handler = None
    world.keys.given.append(fakes.Key(G1))
    await trio.sleep(3)
    assert tags.read(world.config.latch_key_folder) == tags.Finished("")
    await stop(nursery, done)


async def test_the_host_is_asked_fast_until_ready_then_slowly_and_at_once_when_nudged(
    world: World, clock: trio.abc.Clock, nursery: trio.Nursery
) -> None:
    world.handler = lambda request: (500, {}, b"")
    done = start(world, nursery)
    await trio.sleep(20)
    assert 15 <= world.host.connects <= 21
    before = world.host.connects
    await world.ask("/provision", USER, notify=True)
    await trio.sleep(0.2)
    assert world.host.connects >= before + 1
    world.handler = None
    world.status["secureChannelState"] = "Disabled"
    await trio.sleep(3)
    before = world.host.connects
    await trio.sleep(61)
    assert world.host.connects - before <= 5
    await stop(nursery, done)


async def test_a_change_of_local_rules_is_in_force_within_one_poll(
    world: World, clock: trio.abc.Clock, nursery: trio.Nursery
) -> None:
    world.status["secureChannelState"] = "Disabled"
    done = start(world, nursery)
    await trio.sleep(2)
    epoch = world.relay.published[-1][0]
    await trio.sleep(60)
    assert world.relay.published[-1][0] == epoch, "nothing changed, nothing is published"
    world.policy.local = "changed"
    await trio.sleep(16)
    assert world.relay.published[-1][0] == epoch + 1
    await stop(nursery, done)


async def test_a_refusal_for_lack_of_an_identity_has_names_looked_up_at_once(
    world: World, clock: trio.abc.Clock, nursery: trio.Nursery, fakes: Any
) -> None:
    world.keys.given.append(fakes.Key(G1))
    done = start(world, nursery)
    await trio.sleep(4)
    epoch = world.relay.published[-1][0]
    numbers = "unix_ns decision_id duration_us status mode request_bytes response_bytes signed"
    row = dict.fromkeys(numbers.split(), 0) | dict.fromkeys(("privilege", "role", "identity"))
    row |= {"caller": None, "decision": 2, "reason": 21, "epoch": epoch, "endpoint": 0}
    row |= {"method": "GET", "target": "/"}
    for local in ("installed", "and another"):
        world.policy.local = local
        world.relay.records.append(json.dumps([row]).encode())
        world.relay.wake()
        await trio.sleep(0.5)
    assert world.relay.published[-1][0] == epoch + 1, "not more often than once a second"
    world.relay.records.append(json.dumps([row | {"reason": 20}]).encode())
    await trio.sleep(1)
    world.relay.wake()
    await trio.sleep(1)
    assert world.relay.published[-1][0] == epoch + 2
    await stop(nursery, done)


async def test_the_last_modes_known_survive_a_restart(
    world: World, clock: trio.abc.Clock, nursery: trio.Nursery, fakes: Any, tmp_path: Path
) -> None:
    world.keys.given.append(fakes.Key(G1))
    done = start(world, nursery)
    await trio.sleep(2)
    await stop(nursery, done)

    relay = fakes.Relay()
    second = World(fakes, relay, tmp_path, nursery)
    second.handler = lambda request: b""
    done = start(second, nursery)
    await trio.sleep(2)
    assert second.interception.modes[Endpoint.IMDS] is Mode.ENFORCE
    assert second.relay.published[-1][2] is None, "no key before the host names it"
    await stop(nursery, done)
    relay.close()


async def test_a_full_log_folder_stops_nothing(
    world: World, clock: trio.abc.Clock, nursery: trio.Nursery, capsys: pytest.CaptureFixture[str]
) -> None:
    world.status["secureChannelState"] = "Disabled"
    for name in ("log", "keys"):
        (world.folder / name).rmdir()
    done = start(world, nursery)
    await trio.sleep(200)
    assert world.interception.modes[Endpoint.IMDS] is Mode.DISABLED
    err = capsys.readouterr().err
    assert err.count("cannot write status.json") == 1
    assert err.count("cannot write channel.json") == 1
    await stop(nursery, done)


async def test_no_word_of_a_key_in_any_file(
    world: World,
    clock: trio.abc.Clock,
    nursery: trio.Nursery,
    fakes: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    world.keys.given.append(fakes.Key(G1))
    done = start(world, nursery)
    await trio.sleep(70)
    await stop(nursery, done)
    written = [path.read_text() for path in world.folder.rglob("*") if path.is_file()]
    assert len(written) >= 4
    assert not any("Azure-HMAC-SHA256 " in text for text in [*written, capsys.readouterr().err])

"""The agent dies, stalls, starts twice, is taken apart: nothing goes out unsigned or misnamed."""

from __future__ import annotations

import json
import os
import secrets
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest
from tests.attacks.conftest import INSTANCE, eventually

from gpa.agent.pins import Pins

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.attacks.conftest import Stand

pytestmark = pytest.mark.kernel

USERS = (0, 4011, 4012, 4013)
GOAL_STATE = "/machine/?comp=goalstate"
REFUSED = {"ECONNREFUSED", "EPERM"}

LOAD = """
got, number, mark, count = {}, 0, ARGUMENTS[0], int(ARGUMENTS[1])
end = time.monotonic() + float(ARGUMENTS[2])
while number < count and time.monotonic() < end:
    number += 1
    wire = number % 4 == 0
    to, path = (WIRESERVER, ARGUMENTS[3]) if wire else (IMDS, ARGUMENTS[4])
    try:
        status = attempt(f"{path}&m={mark}.{os.getuid()}.{number}", to)
    except TimeoutError:
        status = "timeout"
    if status not in (0, 200, 403):
        time.sleep(0.002)
    word = ("wire " if wire else "imds ") + str(status)
    got[word] = got.get(word, 0) + 1
    if number % 10 == 0:
        with contextlib.suppress(OSError):
            reset(connected())
tell(got)
"""

HOLD = """
holder = tcp()
holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
holder.bind(LISTENER)
holder.listen()
tell(1)
time.sleep(60)
"""

ONE = "tell(attempt(ARGUMENTS[0]))"


@pytest.fixture(autouse=True)
def served(stand: Stand) -> Iterator[None]:
    """Each test finds and leaves an agent that enforces."""
    yield
    if not stand.agent.is_running():
        stand.agent.start()
    set_mode(stand, "enforce")


def set_mode(stand: Stand, mode: str) -> None:
    """Let the host say so, and the agent hear it."""
    stand.lab.control("PUT", "/mode", {"imds": mode, "wireserver": mode})

    def heard() -> bool:
        states = json.loads((stand.agent.log_folder / "status.json").read_text())
        state = states["proxyAgentStatus"]["keyLatchStatus"]["states"]["secureChannelState"]
        return f"imds {mode}" in state.lower() or (mode == "disabled" and state == "disabled")

    assert eventually(heard, 10), mode


def load(stand: Stand, mark: str, count: int, seconds: float = 30) -> list[Any]:
    return [stand.spawn(uid, LOAD, mark, count, seconds, GOAL_STATE, INSTANCE) for uid in USERS]


def finish(stand: Stand, crowd: list[Any]) -> dict[int, dict[str, int]]:
    told = {}
    for uid, one in zip(USERS, crowd, strict=True):
        out, err = one.communicate(timeout=40)
        assert one.returncode == 0, err
        told[uid] = json.loads(out)
    return told


def judge_host(stand: Stand, mark: str) -> int:
    """Everything that arrived was signed, and says of each who it was; how many arrived."""
    arrived = stand.arrived(mark)
    for record in arrived:
        uid = int(record["target"].rpartition("m=")[2].split(".")[1])
        assert record["signature"] == "valid", record
        assert record["is_root"] is (uid == 0), record
        assert uid == 0 or record["endpoint"] == "imds", record
    return len(arrived)


def test_crowd_with_churn(stand: Stand) -> None:
    """2,000 requests of four users, with resets between: every answer right, every claim right."""
    mark = secrets.token_hex(4)
    told = finish(stand, load(stand, mark, 500))
    for uid, got in told.items():
        assert got == {"imds 200": 375, f"wire {403 if uid else 200}": 125}
    assert judge_host(stand, mark) == 3 * 375 + 500
    assert eventually(lambda: not stand.flows() and not stand.pending())


def test_kill_under_load(stand: Stand) -> None:
    """kill -9, twice: refused until the restart, then served; nothing unsigned, nobody misnamed."""
    mark = secrets.token_hex(4)
    crowd = load(stand, mark, 100_000, 5)
    for _ in range(2):
        time.sleep(0.6)
        stand.agent.kill()
        for uid in USERS:
            assert stand.attack(uid, ONE, INSTANCE) in REFUSED
        stand.agent.start()
    told = finish(stand, crowd)
    for uid, got in told.items():
        assert got["imds 200"] > 20
        assert set(got) <= {
            *("imds 200", "imds 0", "wire 0", f"wire {403 if uid else 200}"),
            *(f"{kind} {error}" for kind in ("imds", "wire") for error in (*REFUSED, "ECONNRESET")),
        }
    assert judge_host(stand, mark) > 100
    assert eventually(lambda: not stand.flows() and not stand.pending())


def test_stopped_for_seconds_serves_who_waited(stand: Stand) -> None:
    mark = secrets.token_hex(4)
    os.kill(stand.agent.pid, signal.SIGSTOP)
    try:
        crowd = load(stand, mark, 4)
        time.sleep(2.5)
        assert not stand.arrived(mark)
    finally:
        os.kill(stand.agent.pid, signal.SIGCONT)
    for uid, got in finish(stand, crowd).items():
        assert got == {"imds 200": 3, f"wire {403 if uid else 200}": 1}
    assert judge_host(stand, mark) == 3 * 3 + 4


def test_end_in_enforce_refuses_until_the_next_start(stand: Stand) -> None:
    assert stand.agent.stop() == 0
    for uid in USERS:
        assert stand.attack(uid, ONE, INSTANCE) in REFUSED
    squat = """
try:
    tcp().bind(LISTENER)
    tell("bound")
except OSError as trouble:
    tell(errno.errorcode[trouble.errno])
"""
    assert stand.attack(USERS[1], squat) == "EPERM"
    assert stand.attack(0, squat) == "EPERM"
    stand.agent.start()
    assert stand.attack(USERS[1], ONE, INSTANCE) == 200


@pytest.mark.parametrize(("mode", "verdict"), [("audit", "unsigned"), ("disabled", "disabled")])
def test_end_where_nothing_is_enforced_leaves_nothing(
    stand: Stand, mode: str, verdict: str
) -> None:
    set_mode(stand, mode)
    assert stand.attack(USERS[1], ONE, INSTANCE) == 200
    assert stand.agent.stop() == 0
    assert not (stand.lab.pins / "gpa").exists()
    assert not list(stand.lab.attach_point.rglob("gpa.agent"))
    mark = secrets.token_hex(4)
    assert stand.attack(USERS[1], ONE, f"{INSTANCE}&m={mark}") == 200
    assert [r["signature"] for r in eventually(lambda: stand.arrived(mark))] == [verdict]
    stand.agent.start()


def test_second_agent_is_refused_and_the_first_serves_on(stand: Stand) -> None:
    done = stand.lab.gpa("run", "--config", stand.agent.config)
    assert done.returncode != 0
    assert f"pid {stand.agent.pid}" in done.stderr
    assert stand.attack(USERS[1], ONE, INSTANCE) == 200


def test_detach_asks_for_force_while_an_agent_runs(stand: Stand) -> None:
    """By force nothing is intercepted any more, and the agent's next start does so again."""
    done = stand.agent.detach()
    assert done.returncode != 0
    assert f"pid {stand.agent.pid}" in done.stderr
    assert stand.attack(USERS[1], ONE, INSTANCE) == 200
    forced = stand.lab.gpa("detach", "--force", "--config", stand.agent.config)
    assert forced.returncode == 0, forced.stderr
    mark = secrets.token_hex(4)
    assert stand.attack(USERS[1], ONE, f"{INSTANCE}&m={mark}") == 401
    assert [r["signature"] for r in eventually(lambda: stand.arrived(mark))] == ["unsigned"]

    def told() -> bool:
        status = json.loads((stand.agent.log_folder / "status.json").read_text())
        part = status["proxyAgentStatus"]["ebpfProgramStatus"]
        return part["status"] == "STOPPED" and "detached" in part["message"]

    assert eventually(told), "its status says that it intercepts"
    assert stand.agent.stop() == 0
    stand.agent.start()
    assert stand.attack(USERS[1], ONE, INSTANCE) == 200


def test_taken_port_attaches_nothing_and_says_who(stand: Stand) -> None:
    set_mode(stand, "audit")
    stand.agent.stop()
    holder = stand.spawn(USERS[1], HOLD)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "1\n"
    stand.agent.start(wait=False)
    log = stand.agent.log_folder / "ProxyAgent.log"
    words = f"127.0.0.1:3080 is taken by pid {holder.pid}"
    assert eventually(lambda: words in log.read_text()), log.read_text()[-1000:]
    assert not (Pins(stand.lab.pins / "gpa").links / "connect4").exists()
    holder.kill()
    holder.wait()
    stand.agent.wait_ready()
    assert stand.attack(USERS[1], ONE, INSTANCE) == 200


def test_pins_of_a_start_that_was_killed(stand: Stand) -> None:
    """Killed at start again and again: whatever half is left, the next start takes it over."""
    for seconds in (0.15, 0.3, 0.45, 0.6):
        stand.agent.kill()
        stand.agent.start(wait=False)
        time.sleep(seconds)
        assert stand.attack(USERS[1], ONE, INSTANCE) in {*REFUSED, 0, 200, 503, 403}
    stand.agent.kill()
    stand.agent.start()
    stand.agent.wait_provisioned()
    mark = secrets.token_hex(4)
    assert stand.attack(USERS[1], ONE, f"{INSTANCE}&m={mark}.1.1") == 200
    assert judge_host(stand, mark) == 1

"""One user does what he can to the tables and queues; others do not notice."""

from __future__ import annotations

import os
import resource
import secrets
import signal
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.attacks.conftest import INSTANCE, eventually

if TYPE_CHECKING:
    from tests.attacks.conftest import Stand

pytestmark = pytest.mark.kernel

ATTACKER, VICTIM = 4003, 4004

# Connections that say nothing, say half a head, or end at once.
SILENT = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
kind, count, seconds, to = ARGUMENTS[0], int(ARGUMENTS[1]), float(ARGUMENTS[2]), ARGUMENTS[3]
to = LISTENER if to == "listener" else IMDS
held = []
for _ in range(count):
    one = tcp()
    one.setblocking(False)
    one.connect_ex(to)
    held.append(one)
    if kind == "half":
        with contextlib.suppress(OSError):
            one.send(b"GET /half HTTP/1.1\\r\\nHo")
    elif kind == "reset":
        reset(held.pop())
    elif kind == "close":
        held.pop().close()
tell(len(held))
time.sleep(seconds)
"""

TIMED = """
took, got = [], []
for _ in range(int(ARGUMENTS[1])):
    start = time.monotonic()
    got.append(attempt(ARGUMENTS[0]))
    took.append(time.monotonic() - start)
tell([sorted(set(map(str, got))), max(took)])
"""


def settled(stand: Stand) -> bool:
    return not stand.flows() and not stand.pending()


@pytest.mark.parametrize("kind", ["close", "reset"])
def test_connects_without_a_byte_leave_nothing(stand: Stand, kind: str) -> None:
    """No audit record, no request to the host, no flow and no count."""
    start, before = datetime.now(UTC), len(stand.emulator.records())
    assert stand.attack(ATTACKER, SILENT, kind, 1000, 0, "imds") == 0
    assert stand.attack(ATTACKER, SILENT, kind, 300, 0, "listener") == 0
    assert eventually(lambda: settled(stand)), (stand.flows(), stand.pending())
    asked = stand.emulator.records()[before:]
    assert {r["target"] for r in asked} <= {"/secure-channel/status"}
    time.sleep(0.5)  # records are written some tenths of a second late, also those of other tests
    times = [datetime.fromisoformat(row["time"]) for row in stand.agent.audit()]
    assert [at for at in times if at > start] == []


@pytest.mark.parametrize("kind", ["silent", "half"])
def test_held_connections_of_one_cost_another_nothing(stand: Stand, kind: str) -> None:
    flood = [stand.spawn(ATTACKER, SILENT, kind, 3000, 6, "imds") for _ in range(2)]
    for one in flood:
        assert one.stdout is not None
        one.stdout.readline()
    got, slowest = stand.attack(VICTIM, TIMED, f"{INSTANCE}&m={secrets.token_hex(4)}", 50)
    for one in flood:
        one.kill()
        one.wait()
    assert got == ["200"]
    assert slowest < 1.0
    assert eventually(lambda: settled(stand)), (stand.flows(), stand.pending())


def test_descriptors_run_out_for_who_took_them(stand: Stand) -> None:
    """The agent may have hardly more than it has: halves of requests make room for whole ones."""
    pid = stand.agent.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    used = max(int(n.name) for n in Path(f"/proc/{pid}/fd").iterdir())
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + 100, before[1]))
    flood = stand.spawn(ATTACKER, SILENT, "half", 400, 6, "imds")
    try:
        assert flood.stdout is not None
        flood.stdout.readline()
        got, slowest = stand.attack(VICTIM, TIMED, INSTANCE, 20)
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        flood.kill()
        flood.wait()
    assert got == ["200"]
    assert slowest < 2.0


def test_stopped_agents_table_is_not_one_users(stand: Stand) -> None:
    """Nobody accepts: one uid fills neither the flows of others nor their count."""
    os.kill(stand.agent.pid, signal.SIGSTOP)
    try:
        # The accept queue first, then what waits behind it, directly and redirected.
        flood = [
            stand.spawn(uid, SILENT, "silent", 3500, 8, to)
            for uid, to in ((ATTACKER, "imds"), (ATTACKER, "listener"), (ATTACKER, "listener"))
        ]
        for one in flood:
            assert one.stdout is not None
            one.stdout.readline()
        assert stand.flows() <= 1024 + 64
        assert stand.pending()[ATTACKER] <= 1024 + 64
        for one in flood:
            one.kill()
            one.wait()
    finally:
        os.kill(stand.agent.pid, signal.SIGCONT)
    assert eventually(lambda: settled(stand)), (stand.flows(), stand.pending())
    got, _ = stand.attack(VICTIM, TIMED, INSTANCE, 5)
    assert got == ["200"]


def test_agent_outlives_the_end_of_descriptors(stand: Stand) -> None:
    """Not one is left, for longer than the host is not asked and no file is written."""
    pid = stand.agent.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    used = max(int(n.name) for n in Path(f"/proc/{pid}/fd").iterdir())
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + 1, before[1]))
    time.sleep(2.5)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    assert stand.agent.is_running(), stand.agent.said()
    got, _ = stand.attack(VICTIM, TIMED, INSTANCE, 5)
    assert got == ["200"]

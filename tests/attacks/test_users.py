"""Attacks on who one is: what is answered, and what the host is told."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.attacks.conftest import INSTANCE, eventually
from tests.kernel.conftest import PYTHON

from gpa.demo.lab import AROUND, Place

if TYPE_CHECKING:
    from tests.attacks.conftest import Stand

pytestmark = pytest.mark.kernel

ATTACKER = 4002
GOAL_STATE = "/machine/?comp=goalstate"
FOR_ROOT = "/metadata/versions"

IMDS = "tell(attempt(ARGUMENTS[0]))"
WIRESERVER = "tell(attempt(ARGUMENTS[0], WIRESERVER))"
BOTH = "tell([attempt(ARGUMENTS[0]), attempt(ARGUMENTS[1], WIRESERVER)])"

LAUNDER = """
connection = connected()
disconnect(connection)
become(int(ARGUMENTS[1]))
connection.connect(LISTENER if ARGUMENTS[2] == "listener" else (WIRESERVER))
tell(ask(connection, ARGUMENTS[0], WIRESERVER[0]))
"""

PORT_REUSE = """
served = []
for _ in range(40):
    pid, (mine, theirs) = os.getpid(), socket.socketpair()
    root = tcp()
    root.bind(("127.0.0.1", 0))
    port = root.getsockname()[1]
    root.connect(IMDS if ARGUMENTS[1] == "taken" else WIRESERVER)
    child = os.fork()
    if child == 0:
        root.close()
        become(int(ARGUMENTS[2]))
        again = tcp()
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        theirs.recv(1)
        for _ in until(1):
            try:
                again.bind(("127.0.0.1", port))
                again.connect(LISTENER)
                break
            except OSError:
                continue
        theirs.send(str(ask(again, ARGUMENTS[0])).encode())
        os._exit(0)
    reset(root)
    mine.send(b"1")
    served.append(int(mine.recv(16)))
    os.waitpid(child, 0)
tell(sorted(set(served)))
"""

WAYS = """
target = ARGUMENTS[0]
told = {}
with tcp(socket.AF_INET6) as mapped:
    mapped.connect(("::ffff:" + WIRESERVER[0], 80))
    told["mapped"] = ask(mapped, target, WIRESERVER[0])
with tcp(protocol=262) as mptcp:
    mptcp.connect(WIRESERVER)
    told["mptcp"] = ask(mptcp, target, WIRESERVER[0])
with tcp() as fastopen:
    fastopen.setblocking(True)
    fastopen.sendto(head(target, WIRESERVER[0]), 0x20000000, WIRESERVER)
    told["fastopen"] = hear(fastopen)
with tcp() as bound:
    bound.bind(("192.0.2.2", 0))
    bound.connect(WIRESERVER)
    told["bound"] = ask(bound, target, WIRESERVER[0])
with tcp(socket.AF_INET6) as unspecified:
    # Bound to a v4-mapped address, `::` is 127.0.0.1, and connect6 does not see it.
    unspecified.bind(("::ffff:127.0.0.1", 0))
    try:
        unspecified.connect(("::", 3080))
        told["unspecified"] = ask(unspecified, target, WIRESERVER[0])
    except OSError:
        told["unspecified"] = 421
tell(told)
"""

PASSED = """
mine, theirs = socket.socketpair()
child = os.fork()
if child == 0:
    become(int(ARGUMENTS[1]))
    connection = connected(WIRESERVER)
    socket.send_fds(theirs, [b"x"], [connection.fileno()])
    os._exit(0)
_, (fd,), _, _ = socket.recv_fds(mine, 1, 1)
with socket.socket(fileno=fd) as connection:
    connection.settimeout(SECONDS)
    tell(ask(connection, ARGUMENTS[0], WIRESERVER[0]))
"""


@pytest.fixture
def mark() -> str:
    return secrets.token_hex(6)


def claims(stand: Stand, mark: str) -> list[Any]:
    """What the host was told about who asked for the mark."""
    return [r["is_root"] for r in eventually(lambda: stand.arrived(mark))]


def test_group_zero_is_not_root(stand: Stand, mark: str) -> None:
    told = stand.attack(ATTACKER, BOTH, f"{INSTANCE}&m={mark}", f"{GOAL_STATE}&m={mark}", gid=0)
    assert told == [200, 403]
    assert claims(stand, mark) == [False]


@pytest.mark.parametrize(("uid", "euid"), [(ATTACKER, 0), (0, ATTACKER)])
def test_setuid_program_is_nobody(stand: Stand, mark: str, uid: int, euid: int) -> None:
    """Real and effective uid differ: not root, and of no user or group that a rule names."""
    told = stand.attack(uid, BOTH, f"{INSTANCE}&m={mark}", GOAL_STATE, gid=ATTACKER, euid=euid)
    assert told == [200, 403]
    assert claims(stand, mark) == [False]
    assert stand.attack(0, IMDS, FOR_ROOT) == 200
    assert stand.attack(uid, IMDS, FOR_ROOT, gid=ATTACKER, euid=euid) == 403


def test_program_with_the_setuid_bit_is_nobody(stand: Stand, mark: str) -> None:
    """A real one: the attacker executes a file of root's, and is effectively root."""
    assert not os.statvfs(stand.lab.programs).f_flag & os.ST_NOSUID
    program = stand.lab.add_program("setuid-tool", Path(PYTHON).resolve())
    program.chmod(0o4755)
    code = "tell([os.getuid(), os.geteuid(), *map(attempt, ARGUMENTS[:2])," + (
        " attempt(ARGUMENTS[2], WIRESERVER), attempt('/gpa-aggregated-status', LISTENER)])"
    )
    targets = [f"{INSTANCE}&m={mark}", FOR_ROOT, GOAL_STATE]
    told = stand.attack(ATTACKER, code, *targets, program=program)
    assert told == [ATTACKER, 0, 200, 403, 403, 403]
    assert claims(stand, mark) == [False]


@pytest.mark.parametrize(("to", "status"), [("listener", 421), ("wireserver", 403)])
def test_laundering_by_disconnect(stand: Stand, mark: str, to: str, status: int) -> None:
    target = f"{INSTANCE}&m={mark}"
    assert stand.attack(0, LAUNDER, target, ATTACKER, to) == status
    assert not stand.arrived(mark)


@pytest.mark.parametrize("target", ["/metadata/instance", "/gpa-aggregated-status"])
@pytest.mark.parametrize("root", ["taken", "other"])
def test_source_port_of_a_reset_connection(stand: Stand, target: str, root: str) -> None:
    """The attacker binds root's local port within a millisecond and connects to the agent."""
    served = stand.attack(0, PORT_REUSE, target, root, ATTACKER)
    assert set(served) <= ({403, 0} if target.startswith("/gpa") else {421, 0}), served
    assert set(served) != {0}, "the attack was never made"


def test_every_way_to_connect_is_the_attackers(stand: Stand, mark: str) -> None:
    told = stand.attack(ATTACKER, WAYS, f"{GOAL_STATE}&m={mark}")
    assert told.pop("unspecified") in {421, 503}
    assert told == dict.fromkeys(["mapped", "mptcp", "fastopen", "bound"], 403)
    assert not stand.arrived(mark)


def test_descriptor_of_another_is_judged_as_the_others(stand: Stand, mark: str) -> None:
    """SCM_RIGHTS: root uses what the attacker connected, and stays the attacker."""
    assert stand.attack(0, PASSED, f"{GOAL_STATE}&m={mark}", ATTACKER) == 403
    assert not stand.arrived(mark)


@pytest.mark.parametrize("uid", [0, ATTACKER])
def test_direct_connect_reaches_the_local_endpoints_alone(stand: Stand, uid: int) -> None:
    code = "tell([attempt(t, LISTENER) for t in ARGUMENTS])"
    targets = [
        INSTANCE,
        GOAL_STATE,
        "/secure-channel/status",
        "/provision",
        "/gpa-aggregated-status",
    ]
    own = 200 if uid == 0 else 403
    assert stand.attack(uid, code, *targets) == [421, 421, 421, 200, own]


def test_who_the_kernel_half_does_not_see_is_misdirected(stand: Stand) -> None:
    """From outside of cgroupRoot: no record, so neither local endpoint answers."""
    code = "tell([attempt(t, LISTENER) for t in ARGUMENTS])"
    targets = [INSTANCE, "/provision", "/gpa-aggregated-status"]
    assert stand.attack(0, code, *targets, place=AROUND) == [421, 421, 421]


def test_other_network_namespace_makes_nobody_else(stand: Stand) -> None:
    stand.lab.add_netns("elsewhere")
    place = Place("elsewhere", "vm/users")
    code = "tell(attempt(ARGUMENTS[0], WIRESERVER))"
    got = [stand.attack(uid, code, GOAL_STATE, place=place) for uid in (0, ATTACKER)]
    assert got == [200, 403]

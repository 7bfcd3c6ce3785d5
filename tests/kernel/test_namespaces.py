"""Callers in other network namespaces are served with their identity from their first connect on,
or refused; and no namespace is kept alive for them."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from tests.attacks.conftest import INSTANCE, TOKEN, Stand, eventually

from gpa.demo.lab import AROUND, VM, Lab, Place
from gpa.demo.machine import tool
from gpa.demo.network import enter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.kernel

USER = 4021
REFUSED = {"ECONNREFUSED", "EPERM"}
NEW = ("unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")
"""A namespace that has no name, and whose first socket connects at once."""

ASK = "tell([attempt(ARGUMENTS[0]), os.getpid()])"

LISTEN = """
holder = tcp()
holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
holder.bind(LISTENER)
holder.listen()
tell("listens")
holder.settimeout(30)
tell(holder.accept()[1])
"""

CONNECT_AND_ASK = """
made = tcp()
made.setblocking(False)
tell(errno.errorcode[made.connect_ex(IMDS)])
made.settimeout(SECONDS)
try:
    made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    import select
    select.select([], [made], [], SECONDS)
    trouble = made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    tell(errno.errorcode[trouble] if trouble else ask(made, ARGUMENTS[0]))
except OSError as trouble:
    tell(errno.errorcode[trouble.errno])
"""


@pytest.fixture(scope="module")
def stand() -> Iterator[Stand]:
    with Lab() as lab:
        yield Stand(lab)


@pytest.fixture
def place(stand: Stand) -> Place:
    """A namespace of its own for each test, seen by the agent."""
    name = secrets.token_hex(3)
    stand.lab.add_netns(name)
    return Place(name, VM.cgroup)


@pytest.fixture
def reconfigured(stand: Stand) -> Iterator[Callable[..., None]]:
    """Restart the agent with other settings, and as it was at the end."""

    def restart(**settings: object) -> None:
        assert stand.agent.stop() == 0
        stand.agent.config.write_text(json.dumps(stand.agent.settings | settings))
        stand.agent.start()

    yield restart
    restart()


def marked() -> tuple[str, str]:
    mark = secrets.token_hex(4)
    return mark, f"{INSTANCE}&m={mark}"


def audited(stand: Stand, pid: int) -> list[dict[str, Any]]:
    return [record for record in stand.agent.audit() if record.get("pid") == pid]


def said(stand: Stand, words: str) -> bool:
    return words in (stand.agent.log_folder / "ProxyAgent.log").read_text()


def has_link(netns: Path, name: str) -> bool:
    return name in tool(enter(netns, "ip", "-brief", "link"))


def start(stand: Stand, code: str, *words: object, **role: Any) -> subprocess.Popen[str]:
    return stand.spawn(USER, code, *words, **role)


def line(process: subprocess.Popen[str]) -> Any:
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


def test_callers_in_two_namespaces_are_named(stand: Stand) -> None:
    for number, name in enumerate(("one", "two")):
        stand.lab.add_netns(name)
        there = Place(name, VM.cgroup)
        mark, target = marked()
        status, pid = stand.attack(USER + number, ASK, target, place=there)
        assert status == 200
        (arrived,) = eventually(partial(stand.arrived, mark))
        assert (arrived["signature"], arrived["is_root"]) == ("valid", False)
        (record,) = eventually(partial(audited, stand, pid))
        assert record["uid"] == USER + number
        # One program may, another may not: the executable is known as well.
        token, _ = stand.attack(USER, ASK, TOKEN, place=there, program=stand.allowed)
        refused, _ = stand.attack(USER, ASK, TOKEN, place=there)
        assert (token, refused) == (200, 403)


def test_first_connect_of_a_new_namespace(stand: Stand) -> None:
    """Fifty namespaces that nobody announced: the first socket of each connects, and is served."""
    argv = [*NEW, *stand.argv(ASK, INSTANCE)]
    before = stand.counters()
    answers = []
    for _ in range(50):
        done = stand.lab.run_as(0, 0, argv)
        assert done.returncode == 0, done.stderr
        answers.append(json.loads(done.stdout)[0])
    assert answers == [200] * 50
    assert stand.counters()["refused_namespace"] == before["refused_namespace"]


def test_namespaces_of_an_unprivileged_user(stand: Stand) -> None:
    """Root in a user namespace of one's own is nobody special."""
    mark, target = marked()
    argv = [*NEW[:1], "--user", "--map-root-user", *NEW[1:], *stand.argv(ASK, target)]
    done = stand.lab.run_as(USER, USER, argv)
    assert done.returncode == 0, done.stderr
    status, pid = json.loads(done.stdout)
    assert status == 200
    (record,) = eventually(lambda: audited(stand, pid))
    assert record["uid"] == USER
    (arrived,) = stand.arrived(mark)
    assert arrived["is_root"] is False


def test_deleted_namespace_is_freed(stand: Stand, place: Place) -> None:
    """As by `ip netns del`: its name goes while we listen there. A veth dies with a namespace."""
    keeper, vm = stand.lab.netns(place.netns), stand.lab.netns(VM.netns)
    tool(
        enter(
            vm, "ip", "link", "add", "peer0", "type", "veth", "peer", "eth0", "netns", str(keeper)
        )
    )
    assert stand.attack(USER, ASK, INSTANCE, place=place)[0] == 200
    tool(["umount", keeper])
    assert has_link(vm, "peer0"), "freed before anybody could see it"
    assert eventually(lambda: not has_link(vm, "peer0")), "still kept alive"


def test_namespace_without_a_process_is_freed(stand: Stand) -> None:
    """One that never had a name, found when we look again; a mount has us look sooner."""
    vm = stand.lab.netns(VM.netns)
    code = ASK + "\nsys.stdin.read()"
    process = stand.lab.spawn(
        0, 0, [*NEW, *stand.argv(code, INSTANCE)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert line(process)[0] == 200
    pid = str(process.pid)
    tool(enter(vm, "ip", "link", "add", "peer1", "type", "veth", "peer", "eth0", "netns", pid))
    process.communicate(timeout=10)
    assert has_link(vm, "peer1")
    tool(["mount", "--bind", stand.lab.folder / "bin", stand.lab.folder / "bin"])
    tool(["umount", stand.lab.folder / "bin"])
    assert eventually(lambda: not has_link(vm, "peer1")), "still kept alive"


def test_restarted_agent_serves_them_again(stand: Stand, place: Place) -> None:
    # Somebody has to be there: a name alone is not the VM's, see nsscan.Scope.
    keeper = start(stand, "time.sleep(60)", place=place)
    assert stand.attack(USER, ASK, INSTANCE, place=place)[0] == 200
    stand.agent.kill()
    assert stand.attack(USER, ASK, INSTANCE, place=place)[0] in REFUSED
    assert stand.attack(USER, ASK, INSTANCE)[0] in REFUSED
    stand.agent.start()
    assert stand.attack(USER, ASK, INSTANCE, place=place)[0] == 200
    keeper.kill()
    keeper.wait()


def test_taken_port_is_refused_and_tried_again(stand: Stand, place: Place) -> None:
    # From where we do not see it, else we would be faster; somebody else there we see.
    holder = start(stand, LISTEN, place=Place(place.netns, AROUND.cgroup))
    assert line(holder) == "listens"
    resident = start(stand, "time.sleep(60)", place=place)
    began = time.monotonic()
    for _ in range(3):
        assert stand.attack(USER, ASK, INSTANCE, place=place)[0] in REFUSED
    assert time.monotonic() - began < 3, "refused, but not at once"
    assert eventually(lambda: said(stand, f"is taken by pid {holder.pid} ("))
    assert holder.poll() is None, "it was given a connection"
    holder.kill()
    holder.wait()

    def served() -> bool:
        return bool(stand.attack(USER, ASK, INSTANCE, place=place)[0] == 200)

    assert eventually(served, 10)
    resident.kill()
    resident.wait()


def test_who_comes_first_and_is_waited_for(stand: Stand, place: Place) -> None:
    """A connect that comes long before the listener waits, and is not told to be refused."""
    os.kill(stand.agent.pid, signal.SIGSTOP)
    try:
        caller = start(stand, CONNECT_AND_ASK, INSTANCE, place=place)
        assert line(caller) == "EINPROGRESS"
        time.sleep(0.2)
    finally:
        os.kill(stand.agent.pid, signal.SIGCONT)
    assert line(caller) == 200
    caller.communicate(timeout=10)


def test_who_takes_the_port_meanwhile_gets_nothing(stand: Stand, place: Place) -> None:
    """The listener that a connect waits for is ours or none: not that of whoever is faster."""
    os.kill(stand.agent.pid, signal.SIGSTOP)
    try:
        caller = start(stand, CONNECT_AND_ASK, INSTANCE, place=place)
        assert line(caller) == "EINPROGRESS"
        squatter = start(stand, LISTEN, place=place)
        assert line(squatter) == "listens"
        began = time.monotonic()
        assert line(caller) == "ETIMEDOUT"
        assert time.monotonic() - began < 8
        # Now that somebody listens there, nobody waits.
        assert stand.attack(USER, ASK, INSTANCE, place=place)[0] in REFUSED
    finally:
        os.kill(stand.agent.pid, signal.SIGCONT)
    assert squatter.poll() is None, "it was given a connection"
    squatter.kill()
    squatter.wait()
    caller.communicate(timeout=10)


def test_only_our_own_namespace_when_told_so(
    stand: Stand, place: Place, reconfigured: Callable[..., None]
) -> None:
    reconfigured(networkNamespaces="host")
    before = stand.counters()["refused_namespace"]
    status, pid = stand.attack(USER, ASK, INSTANCE, place=place)
    assert status in REFUSED
    assert stand.attack(USER, ASK, INSTANCE)[0] == 200
    assert stand.counters()["refused_namespace"] == before + 1
    words = f"a connect of pid {pid} (python3, uid {USER}) in network namespace"
    assert eventually(lambda: said(stand, words))


def test_audited_connects_are_left_alone_where_nobody_serves(
    stand: Stand, place: Place, reconfigured: Callable[..., None]
) -> None:
    stand.lab.control("PUT", "/mode", {"imds": "audit", "wireserver": "audit"})
    try:
        reconfigured(networkNamespaces="host")
        stand.agent.wait_provisioned()

        def left_alone() -> bool:
            # What this namespace itself says: it has no route to anywhere.
            return bool(stand.attack(USER, ASK, INSTANCE, place=place)[0] == "ENETUNREACH")

        assert eventually(left_alone)
    finally:
        stand.lab.control("PUT", "/mode", {"imds": "enforce", "wireserver": "enforce"})


def test_nobody_is_served_elsewhere_while_all_is_disabled(stand: Stand, place: Place) -> None:
    assert stand.attack(USER, ASK, INSTANCE, place=place)[0] == 200
    stand.lab.control("PUT", "/mode", {"imds": "disabled", "wireserver": "disabled"})
    try:
        squat = LISTEN.partition("tell")[0]

        def free() -> bool:
            argv = stand.argv(squat)
            return stand.lab.run_as(USER, USER, argv, place=place).returncode == 0

        assert eventually(free, 10), "the port there is still ours"
        assert stand.attack(USER, ASK, INSTANCE, place=place)[0] == "ENETUNREACH"
    finally:
        stand.lab.control("PUT", "/mode", {"imds": "enforce", "wireserver": "enforce"})

    def served() -> bool:
        return bool(stand.attack(USER, ASK, INSTANCE, place=place)[0] == 200)

    assert eventually(served, 10)

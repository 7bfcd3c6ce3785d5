"""The guard at the interfaces, under the whole product: nothing unsigned leaves, all else does."""

from __future__ import annotations

import json
import secrets
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from tests.attacks.conftest import INSTANCE, eventually
from tests.attacks.test_life_cycle import ONE, set_mode
from tests.kernel.conftest import PYTHON
from tests.kernel.test_guard import ASK_UDP, let_answers_come, speak_by_hand

from gpa.demo import network
from gpa.demo.lab import AROUND, GUEST, HOST
from gpa.demo.machine import tool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.attacks.conftest import Stand

pytestmark = pytest.mark.kernel

IMDS = ("169.254.169.254", 80)
UID = 4031
DROPPED = {"sent": "ENOBUFS", "opened": False, "answer": ""}

PATIENT = "tell(attempt(ARGUMENTS[0]))"
HASTY = """
made = tcp()
made.settimeout(1.5)
try:
    made.connect(IMDS)
    tell(ask(made, ARGUMENTS[0]))
except TimeoutError:
    tell("timeout")
"""

DNS = """
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as answering:
    answering.bind(("168.63.129.16", 53))
    print("ready", flush=True)
    while True:
        answering.sendto(*answering.recvfrom(100))
"""


def restart(stand: Stand, guard: str, *, crash: bool = False) -> None:
    """With this guard, after a stop or a crash."""
    if crash:
        stand.agent.kill()
    elif stand.agent.is_running():
        stand.agent.stop()
    stand.agent.settings["guard"] = guard
    stand.agent.config.write_text(json.dumps(stand.agent.settings))
    stand.agent.start()
    stand.agent.wait_provisioned()
    if guard == "interfaces":
        assert eventually(lambda: filters(stand, "eth0") and filters(stand, "eth1"))


def vm(stand: Stand, *words: str) -> str:
    return tool(network.enter(stand.lab.netns("vm"), *words))


def add_device(stand: Stand, name: str, *options: str) -> None:
    """An Ethernet interface (and its peer) that leads nowhere."""
    vm(stand, "ip", "link", "add", name, *options, "type", "veth", "peer", "name", f"{name}-peer")


def add_filter(stand: Stand, device: str, hook: str, protocol: str) -> None:
    """A filter of somebody else's with our priority: classic BPF that lets everything go on."""
    words = f"tc filter add dev {device} {hook} prio 1 protocol {protocol} bpf bytecode"
    vm(stand, *words.split(), "1,6 0 0 0")


def filters(stand: Stand, device: str) -> str:
    return vm(stand, "tc", "filter", "show", "dev", device, "egress")


def has_clsact(stand: Stand, device: str) -> bool:
    return "clsact" in vm(stand, "tc", "qdisc", "show", "dev", device)


def request(mark: str) -> str:
    """As raw.py sends it."""
    return f"GET {INSTANCE}&m={mark} HTTP/1.1\r\nHost: {IMDS[0]}\r\nMetadata: true\r\n\r\n"


def said(stand: Stand) -> str:
    return (stand.agent.log_folder / "ProxyAgent.log").read_text()


@pytest.fixture(scope="module")
def open_stand(stand: Stand) -> Iterator[Stand]:
    """The host answers the address from which raw.py speaks."""
    let_answers_come(stand.lab)
    if not stand.agent.is_running():
        stand.agent.start()
    set_mode(stand, "enforce")
    yield stand
    restart(stand, "off")


@pytest.fixture
def guarded(open_stand: Stand) -> Stand:
    if "gpa_guard" not in filters(open_stand, "eth0"):
        restart(open_stand, "interfaces")
    return open_stand


@pytest.mark.parametrize("way", ["raw", "fragments", "packet", "mislabelled", "bypass"])
def test_without_it_the_host_refuses_what_is_spoken_by_hand(open_stand: Stand, way: str) -> None:
    mark = secrets.token_hex(4)
    told = speak_by_hand(open_stand.lab, way, *IMDS, request(mark))
    assert told["answer"].startswith("HTTP/1.1 401"), told
    assert [r["signature"] for r in eventually(lambda: open_stand.arrived(mark))] == ["unsigned"]


@pytest.mark.parametrize("way", ["packet", "mislabelled", "tagged"])
def test_packet_sockets_are_dropped(guarded: Stand, way: str) -> None:
    before = guarded.counters()["dropped_around"]
    assert speak_by_hand(guarded.lab, way, *IMDS) == DROPPED
    assert guarded.counters()["dropped_around"] == before + 1


def test_raw_sockets_are_dropped(guarded: Stand) -> None:
    assert speak_by_hand(guarded.lab, "raw", *IMDS)["sent"] == "EPERM"


def test_a_packet_socket_that_bypasses_queues_is_left_to_the_host(guarded: Stand) -> None:
    """As docs/guard.md says."""
    mark = secrets.token_hex(4)
    told = speak_by_hand(guarded.lab, "bypass", *IMDS, request(mark))
    assert told["answer"].startswith("HTTP/1.1 401"), told


@pytest.mark.parametrize("place", [GUEST, AROUND], ids=["guest", "around"])
def test_forwarded_and_uncontrolled_connects_are_dropped(guarded: Stand, place: Any) -> None:
    mark = secrets.token_hex(4)
    assert guarded.attack(UID, HASTY, f"{INSTANCE}&m={mark}", place=place) == "timeout"
    assert not guarded.arrived(mark)


def test_the_agent_serves(guarded: Stand) -> None:
    """Over connections that it keeps, and over fresh ones."""
    mark = secrets.token_hex(4)
    for number in range(5):
        assert guarded.attack(UID, ONE, f"{INSTANCE}&m={mark}.{number}") == 200
    assert {r["signature"] for r in guarded.arrived(mark)} == {"valid"}


def test_the_end_of_what_the_agent_had_passes(guarded: Stand) -> None:
    """The host ends the kept connections: what the kernel answers for them is not held back."""
    assert guarded.attack(UID, ONE, INSTANCE) == 200
    before = guarded.counters()["dropped_around"]
    guarded.emulator.stop()
    guarded.emulator.start()
    assert eventually(lambda: guarded.attack(UID, ONE, INSTANCE) == 200, 20)
    assert guarded.counters()["dropped_around"] == before


def test_dns_passes(guarded: Stand) -> None:
    host = guarded.lab.spawn(0, 0, [PYTHON, "-I", "-S", "-c", DNS], place=HOST)
    assert host.stdout is not None
    assert host.stdout.readline() == "ready\n"
    for place in (AROUND, GUEST):
        done = guarded.lab.run_as(UID, UID, [PYTHON, "-I", "-S", "-c", ASK_UDP], place=place)
        assert done.stdout == "b'?'\n", done.stderr
    host.kill()
    host.wait()


@pytest.mark.parametrize("mode", ["audit", "disabled"])
def test_where_nothing_is_enforced_everything_passes(guarded: Stand, mode: str) -> None:
    set_mode(guarded, mode)
    mark = secrets.token_hex(4)
    assert guarded.attack(UID, PATIENT, f"{INSTANCE}&m={mark}", place=GUEST) == 200
    told = speak_by_hand(guarded.lab, "packet", *IMDS, request(mark))
    assert told["answer"].startswith("HTTP/1.1 200"), told
    set_mode(guarded, "enforce")
    assert guarded.attack(UID, HASTY, INSTANCE, place=GUEST) == "timeout"


def test_interfaces_that_come_later_are_guarded(guarded: Stand) -> None:
    add_device(guarded, "late0")
    try:
        assert eventually(lambda: filters(guarded, "late0") and filters(guarded, "late0-peer"))
        # The same name and index, another interface.
        index = json.loads(vm(guarded, "ip", "-j", "link", "show", "late0"))[0]["ifindex"]
        vm(guarded, "ip", "link", "del", "late0")
        add_device(guarded, "late0", "index", str(index))
        assert eventually(lambda: filters(guarded, "late0"))
    finally:
        vm(guarded, "ip", "link", "del", "late0")


def test_it_outlives_the_agent_and_is_taken_over(guarded: Stand) -> None:
    guarded.agent.kill()
    assert guarded.attack(UID, HASTY, INSTANCE, place=GUEST) == "timeout"
    assert speak_by_hand(guarded.lab, "packet", *IMDS) == DROPPED
    restart(guarded, "interfaces")
    assert filters(guarded, "eth0").count(b"gpa1".hex()) == 1
    assert guarded.attack(UID, ONE, INSTANCE) == 200
    assert guarded.attack(UID, HASTY, INSTANCE, place=GUEST) == "timeout"


def test_switched_off_it_goes_with_what_it_made(guarded: Stand) -> None:
    """A qdisc that was there before stays, as does one that others have hung something on."""
    restart(guarded, "off")
    add_device(guarded, "before0")
    vm(guarded, "tc", "qdisc", "add", "dev", "before0", "clsact")
    restart(guarded, "interfaces")
    add_device(guarded, "other0")
    try:
        assert eventually(lambda: filters(guarded, "before0") and filters(guarded, "other0"))
        add_filter(guarded, "other0", "ingress", "ip")
        restart(guarded, "off", crash=True)
        for device in ("eth0", "eth1", "before0", "other0"):
            assert "gpa_guard" not in filters(guarded, device)
        assert [has_clsact(guarded, d) for d in ("eth0", "eth1", "before0", "other0")] == [
            *(False, False),
            *(True, True),
        ]
        assert guarded.attack(UID, PATIENT, INSTANCE, place=GUEST) == 401
    finally:
        vm(guarded, "ip", "link", "del", "before0")
        vm(guarded, "ip", "link", "del", "other0")


def test_it_stands_beside_a_filter_of_another(guarded: Stand) -> None:
    add_device(guarded, "beside0")
    restart(guarded, "off")
    vm(guarded, "tc", "qdisc", "add", "dev", "beside0", "clsact")
    add_filter(guarded, "beside0", "egress", "all")
    try:
        restart(guarded, "interfaces")
        assert eventually(lambda: "gpa_guard" in filters(guarded, "beside0"))
        restart(guarded, "off")
        assert filters(guarded, "beside0").count("bytecode") == 1
        assert "gpa_guard" not in filters(guarded, "beside0")
    finally:
        vm(guarded, "ip", "link", "del", "beside0")


def test_a_place_that_is_taken_is_said(guarded: Stand) -> None:
    add_device(guarded, "taken0")
    restart(guarded, "off")
    vm(guarded, "tc", "qdisc", "add", "dev", "taken0", "clsact")
    add_filter(guarded, "taken0", "egress", "ip")
    try:
        restart(guarded, "interfaces")
        assert eventually(lambda: "the guard does not stand at taken0" in said(guarded))
        assert guarded.attack(UID, ONE, INSTANCE) == 200
    finally:
        vm(guarded, "ip", "link", "del", "taken0")


def test_detach_takes_all_of_it_away(guarded: Stand) -> None:
    guarded.agent.kill()
    done = guarded.agent.detach()
    assert done.returncode == 0, done.stderr
    assert {"removed guard at eth0", "removed guard at eth1", "removed program egress"} <= set(
        done.stdout.splitlines()
    )
    for device in ("eth0", "eth1"):
        assert not has_clsact(guarded, device)
    assert guarded.attack(UID, PATIENT, INSTANCE, place=GUEST) == 401
    guarded.agent.start()


def test_removing_the_pins_is_enough(guarded: Stand) -> None:
    """Nobody is left to call `gpa detach`: the filters stay, and do nothing."""
    guarded.agent.kill()
    assert guarded.attack(UID, HASTY, INSTANCE, place=GUEST) == "timeout"
    subprocess.run(["rm", "-rf", guarded.lab.pins / "gpa"], check=True)
    assert "gpa_guard_stub" in filters(guarded, "eth0")
    assert eventually(lambda: guarded.attack(UID, HASTY, INSTANCE, place=GUEST) == 401)
    guarded.agent.start()
    guarded.agent.wait_provisioned()
    assert eventually(lambda: guarded.attack(UID, HASTY, INSTANCE, place=GUEST) == "timeout")

"""The guard at the cgroups, over the kernel half alone: what leaves beside the agent is dropped."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.kernel.conftest import PYTHON, Interceptor

from gpa.agent.pins import Pins
from gpa.demo import network
from gpa.demo.lab import AROUND, GUEST, HOST, VM, Lab, Place
from gpa.demo.machine import tool

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.kernel

IMDS = ("169.254.169.254", 80)
WIRESERVER = "168.63.129.16"
SOURCE = "203.0.113.7"

ECHO = """
import selectors, socket
known = selectors.DefaultSelector()
for at in (("169.254.169.254", 80), ("168.63.129.16", 53), ("168.63.129.16", 32526)):
    known.register(socket.create_server(at), 1, "server")
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("168.63.129.16", 53))
known.register(udp, 1, "udp")
print("ready", flush=True)
while True:
    for key, _ in known.select():
        if key.data == "server":
            known.register(key.fileobj.accept()[0], 1, "connection")
        elif key.data == "udp":
            udp.sendto(*udp.recvfrom(100))
        else:
            try:
                data = key.fileobj.recv(100)
                key.fileobj.sendall(data)
            except ConnectionError:
                data = b""
            if not data:
                known.unregister(key.fileobj)
                key.fileobj.close()
"""

HOLD = """
import socket, sys
held = socket.socket(getattr(socket, sys.argv[1]))
held.settimeout(10)
held.connect((sys.argv[2], int(sys.argv[3])))
print("connected", flush=True)
for number, line in enumerate(map(str.strip, sys.stdin)):
    held.settimeout(1 if line == "expect silence" else 10)
    try:
        held.shutdown(socket.SHUT_WR) if line == "close" else held.sendall(bytes([number]))
        while (data := held.recv(100)) and data[-1] != number:
            pass  # what was held back before
        print("heard" if data else "end", flush=True)
    except OSError as trouble:
        print(type(trouble).__name__, flush=True)
"""

ASK_UDP = """
import socket
asked = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asked.settimeout(5)
asked.sendto(b"?", ("168.63.129.16", 53))
print(asked.recv(10))
"""


def speak_by_hand(lab: Lab, way: str, *words: object) -> dict[str, Any]:
    """raw.py in the VM, as root."""
    program = lab.programs / "raw.py"
    program.write_bytes(Path(__file__).with_name("raw.py").read_bytes())
    argv = [PYTHON, "-I", "-S", str(program), way, *map(str, words)]
    done = lab.run_as(0, 0, argv)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def let_answers_come(lab: Lab) -> None:
    """The host knows the way back to the address that no kernel answers for."""
    enter = network.enter
    tool(enter(lab.netns("host"), "ip", "route", "add", SOURCE, "via", "192.0.2.2"))
    tool(enter(lab.netns("vm"), "ip", "route", "add", "blackhole", SOURCE))


def restart(interceptor: Interceptor, guard: str) -> None:
    """With this guard, enforced."""
    interceptor.kill()
    settings = json.loads(interceptor.config.read_text())
    interceptor.config.write_text(json.dumps(settings | {"guard": guard}))
    interceptor.start()


@pytest.fixture(scope="module")
def lab(interceptor: Interceptor) -> Iterator[Lab]:
    lab = interceptor.lab
    let_answers_come(lab)
    argv = [PYTHON, "-I", "-S", "-c", ECHO]
    host = lab.spawn(0, 0, argv, place=HOST, stderr=None)
    assert host.stdout is not None
    assert host.stdout.readline() == "ready\n"
    yield lab
    host.kill()
    host.wait()


@pytest.fixture(autouse=True)
def unguarded(interceptor: Interceptor) -> Iterator[None]:
    """Each test finds no guard."""
    yield
    if json.loads(interceptor.config.read_text()).get("guard", "off") != "off":
        restart(interceptor, "off")


@pytest.fixture
def guarded(interceptor: Interceptor, lab: Lab) -> Interceptor:
    restart(interceptor, "cgroup")
    return interceptor


def dropped(interceptor: Interceptor) -> int:
    return interceptor.counters()["dropped_around"]


def hold(
    lab: Lab, family: str, address: str, port: int, place: Place = VM
) -> subprocess.Popen[str]:
    """A process with a connection, for `tell`."""
    argv = [PYTHON, "-I", "-S", "-c", HOLD, family, address, str(port)]
    process = lab.spawn(1000, 1000, argv, place=place, stdin=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == "connected\n"
    return process


def tell(process: subprocess.Popen[str], word: str) -> str:
    """What came of "send", "expect silence" (the same, less patient) or "close"."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(word + "\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


@pytest.mark.parametrize("way", ["raw", "fragments", "packet"])
def test_without_it_what_is_spoken_by_hand_arrives(
    interceptor: Interceptor, lab: Lab, way: str
) -> None:
    told = speak_by_hand(lab, way, *IMDS)
    assert told == {"sent": "yes", "opened": True, "answer": "?"}


def test_a_raw_socket_is_dropped(guarded: Interceptor, lab: Lab) -> None:
    before = dropped(guarded)
    told = speak_by_hand(lab, "raw", *IMDS)
    assert told == {"sent": "EPERM", "opened": False, "answer": ""}
    assert dropped(guarded) == before + 1


def test_flags_hidden_in_a_second_fragment_help_nobody(guarded: Interceptor, lab: Lab) -> None:
    assert speak_by_hand(lab, "fragments", *IMDS)["sent"] == "EPERM"


def test_packet_sockets_pass_the_cgroups(guarded: Interceptor, lab: Lab) -> None:
    """As docs/guard.md says: only the guard at the interfaces sees them."""
    assert speak_by_hand(lab, "packet", *IMDS)["answer"] == "?"


@pytest.mark.parametrize("place", [AROUND, GUEST], ids=["around", "guest"])
def test_who_is_outside_passes_the_cgroups(guarded: Interceptor, lab: Lab, place: Place) -> None:
    """The same."""
    outside = hold(lab, "AF_INET", *IMDS, place)
    assert tell(outside, "send") == "heard"
    outside.kill()
    outside.wait()


@pytest.mark.parametrize(
    ("family", "address"), [("AF_INET", IMDS[0]), ("AF_INET6", "::ffff:168.63.129.16")]
)
def test_an_older_connection_is_mute_while_it_is_enforced(
    interceptor: Interceptor, lab: Lab, family: str, address: str
) -> None:
    port = 80 if family == "AF_INET" else 32526
    interceptor.ask("mode disabled")
    older = hold(lab, family, address, port)
    assert tell(older, "send") == "heard"
    restart(interceptor, "cgroup")
    before = dropped(interceptor)
    assert tell(older, "expect silence") == "TimeoutError"
    assert dropped(interceptor) > before
    # What was held back is sent again, and is free to go when the host only audits.
    interceptor.ask("mode audit")
    assert tell(older, "send") == "heard"
    interceptor.ask("mode unknown")
    assert tell(older, "expect silence") == "TimeoutError"
    interceptor.ask("mode disabled")
    assert tell(older, "send") == "heard"
    interceptor.ask("mode enforce")
    older.kill()
    older.wait()


def test_the_end_of_an_older_connection_reaches_the_host(
    interceptor: Interceptor, lab: Lab
) -> None:
    interceptor.ask("mode disabled")
    older = hold(lab, "AF_INET", *IMDS)
    restart(interceptor, "cgroup")
    assert tell(older, "close") == "end"
    older.kill()
    older.wait()


def test_dns_and_other_ports_pass(guarded: Interceptor, lab: Lab) -> None:
    before = dropped(guarded)
    done = lab.run_as(1000, 1000, [PYTHON, "-I", "-S", "-c", ASK_UDP])
    assert done.stdout == "b'?'\n", done.stderr
    other = hold(lab, "AF_INET", WIRESERVER, 53)
    assert tell(other, "send") == "heard"
    other.kill()
    other.wait()
    assert dropped(guarded) == before


def test_switched_off_it_is_removed_at_the_next_start(guarded: Interceptor, lab: Lab) -> None:
    pin = Pins(lab.pins / "gpa").links / "egress"
    assert pin.exists()
    guarded.kill()
    assert speak_by_hand(lab, "raw", *IMDS)["sent"] == "EPERM", "it stays when the agent dies"
    restart(guarded, "off")
    assert not pin.exists()
    assert speak_by_hand(lab, "raw", *IMDS)["answer"] == "?"

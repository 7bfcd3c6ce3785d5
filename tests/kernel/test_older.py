"""Connections to the host are found and reset in whatever way and state they are; ours are not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from tests.kernel.conftest import PYTHON

from gpa.demo import network
from gpa.demo.lab import HOST, SERVICE, VM, Lab
from gpa.demo.machine import tool

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.kernel

# Echoes what it hears, and ends its half when it hears "end"; never closes.
ECHO = """
import selectors, socket
kept, known = [], selectors.DefaultSelector()
for at in (("169.254.169.254", 80), ("168.63.129.16", 80), ("168.63.129.16", 53)):
    known.register(socket.create_server(at), 1, "server")
print("ready", flush=True)
while True:
    for key, _ in known.select():
        if key.data == "server":
            known.register(key.fileobj.accept()[0], 1, "connection")
            continue
        try:
            data = key.fileobj.recv(100)
            key.fileobj.sendall(data)
        except ConnectionError:
            data = b""
        if data == b"end":
            key.fileobj.shutdown(socket.SHUT_WR)
        elif not data:
            known.unregister(key.fileobj)
            kept.append(key.fileobj)
"""

# Makes connections in every way, says their inodes, and at the first line how they are by then.
HOLD = """
import errno, json, os, socket, sys
IMDS, WIRE = "169.254.169.254", "168.63.129.16"
def connect(to=IMDS, port=80, family=socket.AF_INET, protocol=0, device=b""):
    made = socket.socket(family, socket.SOCK_STREAM, protocol)
    made.settimeout(5)
    if device:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
    made.connect((to, port))
    made.sendall(b"?")
    assert made.recv(1)
    return made
held = {
    "plain": connect(),
    "mapped": connect("::ffff:" + WIRE, family=socket.AF_INET6),
    "mptcp": connect(protocol=262),
    "bound": connect(device=b"eth0"),
    "shut": connect(),
    "ended": connect(WIRE),
    "dns": connect(WIRE, 53),
}
held["shut"].shutdown(socket.SHUT_WR)
held["ended"].sendall(b"end")
while held["ended"].recv(100):
    pass
print("ready", flush=True)
sys.stdin.readline()
late = held["late"] = socket.socket()
late.setblocking(False)
assert late.connect_ex((IMDS, 80)) == errno.EINPROGRESS
print(json.dumps({name: os.fstat(made.fileno()).st_ino for name, made in held.items()}), flush=True)
sys.stdin.readline()
def state(made):
    error = made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return errno.errorcode[error] if error else "lives"
print(json.dumps({name: state(made) for name, made in held.items()}), flush=True)
"""

# The agent's part: it has connections of its own, and resets those of others.
RESET = """
import json, os, socket, sys
from gpa.agent import older
from gpa.endpoints import Endpoint
mine = socket.create_connection(("169.254.169.254", 80), 5)
print("ready", flush=True)
for line in sys.stdin:
    outcome = older.reset([Endpoint(name) for name in line.split()])
    error = mine.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    reset = sorted((c.uid, c.inode) for c in outcome.reset)
    print(json.dumps([reset, outcome.stay, outcome.why, error]), flush=True)
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        start(lab, 0, [PYTHON, "-I", "-S", "-c", ECHO], place=HOST)
        yield lab


def start(lab: Lab, uid: int, argv: list[str], **role: Any) -> subprocess.Popen[str]:
    process = lab.spawn(uid, uid, argv, stdin=subprocess.PIPE, **role)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n", process.communicate()
    return process


def ask(process: subprocess.Popen[str], *words: str) -> Any:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(" ".join(words) + "\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())


def test_every_connection_to_these_endpoints_ends_and_no_other(lab: Lab) -> None:
    env = {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    holder = start(lab, 1000, [PYTHON, "-I", "-S", "-c", HOLD], place=VM)
    agent = start(lab, 0, [sys.executable, "-c", RESET], place=SERVICE, env=env)
    # From here on a SYN is not answered.
    dead = "neigh replace 192.0.2.1 lladdr 02:00:00:00:00:01 dev eth0 nud permanent"
    tool(network.enter(lab.netns("vm"), "ip", *dead.split()))
    inodes = ask(holder)

    def those(*names: str) -> list[list[int]]:
        return sorted([1000, inodes[name]] for name in names)

    assert ask(agent, "wireserver", "hostga") == [those("mapped", "ended"), 0, "", 0]
    remaining = those("plain", "mptcp", "bound", "shut", "late")
    assert ask(agent, "imds", "wireserver") == [remaining, 0, "", 0]
    assert ask(agent, "imds", "wireserver") == [[], 0, "", 0]
    assert ask(holder) == {**dict.fromkeys(inodes, "ECONNABORTED"), "dns": "lives"}

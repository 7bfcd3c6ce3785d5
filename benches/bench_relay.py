"""What does the way through the agent cost a client, beside the direct way?

One client, one request at a time, root asking IMDS for 1 KiB: latency as a client sees it. The host
is `plain_host.py`, so that little else is in the figure; the emulator latches the key.
"""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gpa.demo.lab import AROUND, HOST, VM, Lab, Place

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from pytest_benchmark.fixture import BenchmarkFixture

    Stand = Callable[[Place], AbstractContextManager[None]]

IMDS = ("169.254.169.254", 80)
REQUEST = (
    b"GET /metadata/instance?api-version=2021-02-01 HTTP/1.1\r\n"
    b"Host: 169.254.169.254\r\nMetadata: true\r\nUser-Agent: bench/1\r\nAccept: */*\r\n\r\n"
)
BODY = b"x" * 1024
PLAIN_HOST = Path(__file__).with_name("plain_host.py")

Way = str
WAYS: dict[Way, Place] = {"direct": AROUND, "relayed": VM}


@pytest.fixture(scope="module")
def agent(lab: Lab) -> None:
    emulate = ["-P", "-m", "gpa", "emulate", "--wireserver", "168.63.129.16:80"]
    services = [
        [sys.executable, str(PLAIN_HOST), *map(str, IMDS)],
        [sys.executable, *emulate],
    ]
    for argv in services:
        process = lab.spawn(0, 0, argv, place=HOST, stderr=None)
        assert process.stdout is not None
        assert process.stdout.readline(), f"{argv} did not start"
    lab.start_agent().wait_provisioned()


def connect() -> socket.socket:
    connection = socket.create_connection(IMDS, timeout=10)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def ask(connection: socket.socket, length: int) -> bytes:
    """One request, and its answer of so many bytes."""
    connection.sendall(REQUEST)
    answer = connection.recv(65536)
    while answer and len(answer) < length:
        answer += connection.recv(65536)
    return answer


def check(way: Way) -> int:
    """Assert what comes back, once, and return how long it is."""
    with connect() as connection:
        answer = b""
        connection.sendall(REQUEST)
        while not answer.endswith(BODY):
            answer += connection.recv(65536)
    head = answer[: -len(BODY)].lower()
    assert head.startswith(b"http/1.1 200 ")
    # The host says whether a signature came, the agent that it was there.
    assert (b"x-was-signed: yes" in head) is (way == "relayed")
    assert (b"x-ms-azure-host-authorization: value" in head) is (way == "relayed")
    return len(answer)


@pytest.mark.benchmark(group="relay, kept-alive")
@pytest.mark.usefixtures("agent")
@pytest.mark.parametrize("way", WAYS)
def test_kept_alive(benchmark: BenchmarkFixture, stand: Stand, way: Way) -> None:
    with stand(WAYS[way]):
        length = check(way)
        with connect() as connection:
            assert len(benchmark(ask, connection, length)) == length


@pytest.mark.benchmark(group="relay, new connection")
@pytest.mark.usefixtures("agent")
@pytest.mark.parametrize("way", WAYS)
def test_new_connection(benchmark: BenchmarkFixture, stand: Stand, way: Way) -> None:
    with stand(WAYS[way]):
        length = check(way)

        def ask_once() -> bytes:
            with connect() as connection:
                return ask(connection, length)

        # Bounded: each connection leaves a port waiting for a minute.
        answer = benchmark.pedantic(ask_once, rounds=2_000, warmup_rounds=50)  # type: ignore[no-untyped-call]
        assert len(answer) == length

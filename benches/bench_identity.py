"""How long does it take to ask an accepted socket who is calling?"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from gpa._native import records
from gpa.agent.interception import SOL_GPA

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_benchmark.fixture import BenchmarkFixture

SO_IDENT = 1  # bpf/record.h
IMDS = ("169.254.169.254", 80)


@pytest.fixture(scope="module")
def accepted(listener: socket.socket) -> Iterator[socket.socket]:
    """The agent's end of a connection that this process made to IMDS."""
    with socket.create_connection(IMDS, timeout=5), listener.accept()[0] as connection:
        yield connection


@pytest.mark.benchmark(group="identity")
def test_ask_who_is_calling(benchmark: BenchmarkFixture, accepted: socket.socket) -> None:
    def ask() -> bytes:
        return accepted.getsockopt(SOL_GPA, SO_IDENT, records.IDENT_SIZE)

    caller = records.decode_caller(ask())
    assert (caller["uid"], caller["tgid"]) == (0, os.getpid())
    assert records.decode_caller(benchmark(ask)) == caller


@pytest.mark.benchmark(group="identity")
def test_any_other_option(benchmark: BenchmarkFixture, accepted: socket.socket) -> None:
    """The same call for an option of the kernel's own, which our program lets through."""
    assert benchmark(accepted.getsockopt, socket.IPPROTO_TCP, socket.TCP_NODELAY) == 0

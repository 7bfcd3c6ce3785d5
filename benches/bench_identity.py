"""How long does it take to ask an accepted socket who is calling?"""

from __future__ import annotations

import contextlib
import os
import socket
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from gpa import config
from gpa._native import records
from gpa.agent import cgroup
from gpa.agent.interception import SOL_GPA, Interception
from gpa.demo.lab import SERVICE, Lab

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from pytest_benchmark.fixture import BenchmarkFixture

    from gpa.demo.lab import Place

    Stand = Callable[[Place], AbstractContextManager[None]]

SO_IDENT = 1  # bpf/record.h
IMDS = ("169.254.169.254", 80)


@pytest.fixture(scope="module")
def accepted(lab: Lab, stand: Stand) -> Iterator[socket.socket]:
    """The agent's end of a connection that this process made to IMDS."""
    settings = replace(
        config.Config(),
        pin_folder=lab.pins / "bench",
        run_folder=lab.make_folder("bench-run"),
    )
    leaf = cgroup.Leaf(lab.cgroup / SERVICE.cgroup / "bench", lab.cgroup / SERVICE.cgroup)
    with contextlib.ExitStack() as stack:
        stack.enter_context(stand(SERVICE))
        leaf.enter()
        stack.callback(leaf.go_back)
        listeners: list[socket.socket] = []

        def listen() -> socket.socket:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 3080)))
            listeners.append(listener)
            return listener

        interception = Interception.attach(
            settings, cgroup_root=lab.attach_point, leaf=leaf.path, listener=listen
        )
        stack.callback(interception.release)
        stack.enter_context(socket.create_connection(IMDS, timeout=5))
        listeners[0].settimeout(5)
        yield stack.enter_context(listeners[0].accept()[0])


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

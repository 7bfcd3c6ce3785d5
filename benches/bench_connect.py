"""How long does connect() take, elsewhere without us and with us, and to a protected address?"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from gpa.demo.lab import AROUND, VM

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from pytest_benchmark.fixture import BenchmarkFixture

    from gpa.demo.lab import Place

    Stand = Callable[[Place], AbstractContextManager[None]]

IMDS = ("169.254.169.254", 80)
ROUNDS, WARM_UP = 5000, 100


def time_connects(
    benchmark: BenchmarkFixture, to: tuple[str, int], listener: socket.socket
) -> None:
    """Time connect() alone, of a fresh socket each time."""
    held: list[socket.socket] = []

    def prepare() -> tuple[tuple[socket.socket], dict[str, object]]:
        if held:
            held.pop().close()
            listener.accept()[0].close()
        held.append(socket.socket())
        return (held[0],), {}

    run: Callable[..., None] = benchmark.pedantic
    run(lambda one: one.connect(to), setup=prepare, rounds=ROUNDS, warmup_rounds=WARM_UP)
    held.pop().close()
    listener.accept()[0].close()


@pytest.mark.benchmark(group="connect")
@pytest.mark.parametrize("place", [AROUND, VM], ids=["without us", "with us"])
@pytest.mark.usefixtures("listener")
def test_connect_elsewhere(benchmark: BenchmarkFixture, stand: Stand, place: Place) -> None:
    """Beside and below the cgroup to which we are attached."""
    with stand(place), socket.create_server(("127.0.0.1", 0)) as other:
        time_connects(benchmark, other.getsockname(), other)


@pytest.mark.benchmark(group="connect")
def test_connect_protected(
    benchmark: BenchmarkFixture, stand: Stand, listener: socket.socket
) -> None:
    with stand(VM):
        time_connects(benchmark, IMDS, listener)

"""What the kernel half costs, as the kernel itself counts it: run time, instructions, memory.

Run time is counted around each call of a program, and the counting takes longer than a short
program. So programs that do next to nothing run beside ours, and their time is taken off.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from tests.kernel import bpf
from tests.kernel.conftest import PYTHON
from tests.kernel.neighbour import PROGRAM_TYPES, Neighbour

from gpa.agent.libbpf import attached_programs
from gpa.agent.pins import NEIGHBOURHOOD, OPTIONS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.kernel.conftest import Interceptor

# Targets, of one connection.
BYSTANDER_NS: Final = 500
"""What connect() and all that follows costs somebody who asks for another address."""
PROTECTED_NS: Final = 4000
"""What connect() to a protected address costs, with capture, redirect and hand-over."""
IDENTITY_NS: Final = 1500
"""What it costs to ask an accepted socket who is calling."""
MAPS_BYTES: Final = 4 << 20
"""What all maps hold, also when they are full."""

# Each connection binds, connects, asks for its peer and closes, as libraries do.
BYSTANDER = """
import socket, sys
listener = socket.create_server(("127.0.0.1", 0))
for _ in range(int(sys.argv[1])):
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.connect(listener.getsockname())
        one.getpeername()
        listener.accept()[0].close()
"""
PROTECTED = """
import socket, sys
for _ in range(int(sys.argv[1])):
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.connect(("169.254.169.254", 80))
        one.getpeername()
"""


@dataclass(frozen=True)
class Runs:
    """How often a program ran, and for how many nanoseconds in all."""

    count: int
    nanoseconds: int

    @property
    def each(self) -> float:
        """Nanoseconds a run."""
        return self.nanoseconds / self.count


class Programs:
    """Our programs, found where they are attached."""

    def __init__(self, attach_point: Path, leaf: Path) -> None:
        self._fds = {hook: _ours(attach_point, hook) for hook in NEIGHBOURHOOD}
        self._fds |= {hook: _ours(leaf, hook) for hook in OPTIONS}

    def instructions(self) -> dict[str, int]:
        """What the verifier walked through; nothing before Linux 5.16."""
        told = {hook: bpf.told(fd) for hook, fd in self._fds.items()}
        return {hook: t["verified_insns"] for hook, t in told.items() if "verified_insns" in t}

    def runs(self) -> dict[str, Runs]:
        """Since they were loaded, while `bpf.run_time_counted`."""
        return {hook: _runs(fd) for hook, fd in self._fds.items()}

    def close(self) -> None:
        for fd in self._fds.values():
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _ours(cgroup: Path, hook: str) -> int:
    fd = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
    try:
        found = attached_programs(fd, hook)
        return bpf.program(next(one.id for one in found if one.name.startswith("gpa_")))
    finally:
        os.close(fd)


@dataclass(frozen=True)
class Cost:
    """Of a program, for one connection."""

    calls: float
    nanoseconds: float


def of_connections(
    interceptor: Interceptor, code: str, *, batches: int, connections: int
) -> dict[str, Cost]:
    """Run `code` as an ordinary user, in batches; what each program takes at least.

    What else the machine does only ever adds, so the cheapest batch of a program counts.
    """
    lab = interceptor.lab
    leaf = lab.attach_point / "service" / "gpa.agent"
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(Programs(lab.attach_point, leaf))
        idle = {hook: stack.enter_context(Neighbour(hook, "idle")) for hook in PROGRAM_TYPES}
        for neighbour in idle.values():
            neighbour.attach(lab.attach_point, bpf.MULTI)
        stack.enter_context(bpf.run_time_counted())
        taken, floors = [], []
        for _ in range(batches):
            before, before_idle = ours.runs(), _of_neighbours(idle)
            process = lab.spawn(1000, 1000, [PYTHON, "-I", "-S", "-c", code, str(connections)])
            if code == PROTECTED:
                for _ in range(connections):
                    assert interceptor.next()["accepted"]["uid"] == 1000
            assert process.wait(60) == 0
            taken.append(since(before, ours.runs()))
            floors.append(since(before_idle, _of_neighbours(idle)))
    costs = {}
    for hook in taken[0]:
        calls = min(batch[hook].count for batch in taken) / connections
        # Nobody but us asks for peers here; what counting takes is much the same.
        floor = min(batch.get(hook, batch["sockops"]).each for batch in floors)
        each = min(batch[hook].each for batch in taken)
        costs[hook] = Cost(calls, calls * max(0.0, each - floor))
    return costs


def _of_neighbours(idle: dict[str, Neighbour]) -> dict[str, Runs]:
    return {hook: _runs(neighbour.fd) for hook, neighbour in idle.items()}


def total(costs: dict[str, Cost], *hooks: str) -> float:
    """Nanoseconds a connection, of these hooks or of all."""
    return sum(cost.nanoseconds for hook, cost in costs.items() if not hooks or hook in hooks)


def _runs(fd: int) -> Runs:
    told = bpf.told(fd)
    return Runs(told["run_cnt"], told["run_time_ns"])


def since(before: dict[str, Runs], after: dict[str, Runs]) -> dict[str, Runs]:
    """What was run in between; hooks that were not are left out."""
    ran = {
        hook: Runs(runs.count - before[hook].count, runs.nanoseconds - before[hook].nanoseconds)
        for hook, runs in after.items()
    }
    return {hook: runs for hook, runs in ran.items() if runs.count}


def map_bytes(pins: Path) -> dict[str, int]:
    """What the kernel charges for each map."""
    charged = {}
    for pin in sorted(pins.iterdir()):
        fd = bpf.pinned(pin)
        charged[pin.name] = bpf.told(fd)["memlock"]
        os.close(fd)
    return charged

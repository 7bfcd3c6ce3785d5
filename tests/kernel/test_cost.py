"""Cost that is a count is bounded here; benches/ has the times, which only a smoke run looks at."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest
from tests.kernel import cost

from gpa._native.records import IDENT_SIZE
from gpa.agent.libbpf import BpfError, Map, pinned_map
from gpa.agent.pins import Pins

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.kernel.conftest import Interceptor

pytestmark = pytest.mark.kernel

# Instructions that the verifier walks through. Each program is straight code with a few branches,
# so it walks hardly more than there is; a loop or branches that multiply would show here, long
# before the kernel's limit of a million. The bounds leave a third for what is to come.
CONNECT_INSTRUCTIONS = 2700  # reads everything that is known of a task
SOCKOPS_INSTRUCTIONS = 800  # publishes, takes and withdraws a record
OPTION_INSTRUCTIONS = 200  # asked by everybody in the agent's cgroup, answers one
BIND_INSTRUCTIONS = 150
PEER_INSTRUCTIONS = 40
SOCKET_INSTRUCTIONS = 150  # asks for each new socket whether its namespace is known
BOUNDS = {
    "connect4": CONNECT_INSTRUCTIONS,
    "connect6": CONNECT_INSTRUCTIONS,
    "sockops": SOCKOPS_INSTRUCTIONS,
    "getsockopt": OPTION_INSTRUCTIONS,
    "setsockopt": OPTION_INSTRUCTIONS,
    "bind4": BIND_INSTRUCTIONS,
    "bind6": BIND_INSTRUCTIONS,
    "post_bind4": BIND_INSTRUCTIONS,
    "getpeername4": PEER_INSTRUCTIONS,
    "getpeername6": PEER_INSTRUCTIONS,
    "sock_create": SOCKET_INSTRUCTIONS,
}

SLACK = 2
"""Of a time: a machine that others use, too, takes longer, and a defect longer than that."""


def test_instructions_of_each_program(interceptor: Interceptor) -> None:
    leaf = interceptor.lab.attach_point / "service" / "gpa.agent"
    with cost.Programs(interceptor.lab.attach_point, leaf) as programs:
        walked = programs.instructions()
    if not walked:
        pytest.skip("this kernel does not tell what the verifier walked through")
    print(walked)
    assert {hook: n for hook, n in walked.items() if n > BOUNDS[hook]} == {}
    assert walked.keys() == BOUNDS.keys()


def fill(table: Map | None, key: Callable[[int], bytes], value: bytes) -> int:
    """Put in as many entries as it takes."""
    assert table is not None
    for number in range(1 << 17):
        try:
            table.set(key(number), value)
        except BpfError:
            table.close()
            return number
    raise AssertionError("the table has no bound")


def test_memory_of_the_maps(interceptor: Interceptor) -> None:
    pins: Path = Pins(interceptor.lab.pins / "gpa").maps
    idle = cost.map_bytes(pins)
    assert sum(idle.values()) <= cost.MAPS_BYTES
    try:
        flows = pinned_map(pins / "flows", 24, IDENT_SIZE)
        waiting = fill(flows, lambda n: struct.pack("=QIIHHI", 0, n, 0, 0, 0, 0), bytes(IDENT_SIZE))
        users = fill(pinned_map(pins / "pending", 4, 8), lambda n: struct.pack("=I", n), bytes(8))
        full = cost.map_bytes(pins)
    finally:
        interceptor.release()
        interceptor.start()
    print(idle, full)
    assert min(waiting, users) > 8000
    assert sum(full.values()) <= cost.MAPS_BYTES
    # No flood takes more, and none fails for want of memory.
    assert full["flows"] == idle["flows"]


def test_run_time_of_a_bystander(interceptor: Interceptor) -> None:
    costs = cost.of_connections(interceptor, cost.BYSTANDER, batches=10, connections=100)
    print(costs)
    # Who connects elsewhere passes all of these, and nothing is captured.
    assert costs.keys() == {
        "sock_create",
        "connect4",
        "bind4",
        "post_bind4",
        "sockops",
        "getpeername4",
    }
    # Both ends are in it; bind() and getpeername() are not connect().
    assert cost.total(costs, "connect4", "sockops") <= SLACK * cost.BYSTANDER_NS
    assert cost.total(costs) <= 2 * SLACK * cost.BYSTANDER_NS


def test_run_time_of_a_protected_connect(interceptor: Interceptor) -> None:
    costs = cost.of_connections(interceptor, cost.PROTECTED, batches=10, connections=100)
    print(costs)
    assert cost.total(costs, "connect4", "sockops") <= SLACK * cost.PROTECTED_NS
    assert costs["getsockopt"].calls == 1
    assert costs["getsockopt"].nanoseconds <= SLACK * cost.IDENTITY_NS

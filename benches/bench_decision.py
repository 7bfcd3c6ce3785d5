"""How long does a decision take, and does it grow with the number of rules?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.rules.native import ident
from tests.rules.oracle import Caller

from gpa._native import Snapshot
from gpa.endpoints import Endpoint, Mode
from gpa.rules.compile import compile_table
from gpa.rules.model import Assignment, EffectiveRules, Identity, Privilege, Role, Rules
from gpa.rules.resolve import Resolution

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

SIZES = ((10, 10), (1_000, 100), (10_000, 1_000))  # privileges, identities
IN_A_ROLE = 100
MODES = dict.fromkeys(Endpoint, Mode.ENFORCE)


def table(privileges: int, identities: int) -> bytes:
    """Every privilege has a path and a query of its own; each role is for a third of the users."""
    known = Resolution(users={f"u{n}": frozenset({1000 + n}) for n in range(identities)})
    users = tuple(Identity(f"i{n}", user_name=f"u{n}") for n in range(identities))
    paths = tuple(
        Privilege(f"p{n}", f"/metadata/service{n % 100}/{n}", (("api-version", str(n % 7)),))
        for n in range(privileges)
    )
    roles = tuple(
        Role(f"r{first}", tuple(p.name for p in paths[first : first + IN_A_ROLE]))
        for first in range(0, privileges, IN_A_ROLE)
    )
    granted = tuple(
        Assignment(role.name, tuple(user.name for user in users[n % 3 :: 3]))
        for n, role in enumerate(roles)
    )
    rules = EffectiveRules("bench", False, Rules(paths, roles, users, granted))
    return compile_table({Endpoint.IMDS: rules}, MODES, known)


@pytest.mark.benchmark(group="decision")
@pytest.mark.parametrize(("privileges", "identities"), SIZES)
@pytest.mark.parametrize("allowed", [True, False])
def test_a_decision(
    benchmark: BenchmarkFixture, privileges: int, identities: int, allowed: bool
) -> None:
    snapshot = Snapshot(1, table(privileges, identities))
    last = privileges - 1
    role = last // IN_A_ROLE
    user = role % 3 + (0 if allowed else 1)
    caller = ident(Caller(uid=1000 + user, gid=1000, euid=1000 + user), "imds")
    target = f"/metadata/service{last % 100}/{last}/x?api-version={last % 7}&format=json"
    decision = snapshot.decide("imds", caller, "GET", target)
    reason = "rule_matched" if allowed else "no_identity_matched"
    assert decision[1:3] == (reason, last)
    benchmark(snapshot.decide, "imds", caller, "GET", target)


@pytest.mark.benchmark(group="decision, table")
def test_a_table_of_ten_thousand_privileges_is_loaded(benchmark: BenchmarkFixture) -> None:
    data = table(*SIZES[-1])
    assert benchmark(Snapshot, 7, data).epoch == 7


@pytest.mark.benchmark(group="call")
def test_a_call_that_does_nothing(benchmark: BenchmarkFixture) -> None:
    """What the way from Python into the library and back costs; part of every figure here."""
    snapshot = Snapshot(9, table(1, 1))
    assert benchmark(lambda: snapshot.epoch) == 9

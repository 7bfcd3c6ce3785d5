"""Attacks on who one is: each yields the attacker's own identity, or a refusal.

THREATS.md has a row for each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.kernel.conftest import Interceptor

pytestmark = pytest.mark.kernel

IMDS = ("169.254.169.254", 80)
ATTACKER = 65534


def test_laundering_an_old_connect(interceptor: Interceptor) -> None:
    """Connect as root, disconnect, drop root, connect the same socket to the listener itself."""
    told = interceptor.call("launder", *IMDS, ATTACKER, uid=0, gid=0)
    assert "error" not in told, told
    first, second = (interceptor.accepted(told["pid"]) for _ in range(2))
    assert (first["uid"], first["direct"]) == (0, False)
    assert (second["uid"], second["direct"]) == (ATTACKER, True)


def test_dropped_privileges_are_judged_as_who_connected(interceptor: Interceptor) -> None:
    assert interceptor.who("drop", *IMDS, ATTACKER, uid=0, gid=0)["uid"] == 0


def test_passed_descriptor_keeps_who_connected(interceptor: Interceptor) -> None:
    assert interceptor.who("passed", *IMDS, ATTACKER, uid=0, gid=0)["uid"] == 0


def test_agents_options_are_refused_to_others(interceptor: Interceptor) -> None:
    assert interceptor.who("forge", *IMDS, uid=0, gid=0)["uid"] == 0
    assert interceptor.who("forge", *IMDS, uid=ATTACKER)["uid"] == ATTACKER


def test_squatting_on_the_port(interceptor: Interceptor) -> None:
    before = interceptor.counters()["refused_bind"]
    assert interceptor.call("squat", *IMDS, uid=ATTACKER)["error"] == "EPERM"
    assert interceptor.call("squat", *IMDS, uid=0, gid=0)["error"] == "EPERM"
    assert interceptor.counters()["refused_bind"] == before + 12


def test_setuid_program_is_neither_user(interceptor: Interceptor) -> None:
    who = interceptor.who("plain", *IMDS, uid=ATTACKER, gid=ATTACKER, euid=0, egid=0)
    assert (who["uid"], who["euid"]) == (ATTACKER, 0)

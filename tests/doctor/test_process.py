"""Root, capabilities, namespaces."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from gpa.config import Config
from gpa.doctor import process
from gpa.doctor.finding import State

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.doctor.conftest import Fake

    from gpa.doctor.finding import Finding

ALL = (1 << 41) - 1


def states(findings: Iterable[Finding]) -> dict[str, State]:
    return {f.name: f.state for f in findings}


def test_root(fake: Fake) -> None:
    assert states(process.check_root(fake.machine, Config())) == {"root": State.OK}
    user = replace(fake.machine, root=False)
    (finding,) = process.check_root(user, Config())
    assert finding.state is State.FAILURE
    assert "sudo" in finding.remedy


@pytest.mark.parametrize(
    ("mask", "state", "words"),
    [
        (ALL, State.OK, "all"),
        # What stands for the two newer ones.
        (ALL & ~(1 << 38 | 1 << 39), State.OK, "all"),
        (ALL & ~(1 << 19), State.WARNING, "CAP_SYS_PTRACE to see which program a caller runs"),
        (ALL & ~(1 << 21), State.WARNING, "CAP_SYS_ADMIN"),
        # The other way round; and what it stands for itself.
        (ALL & ~(1 << 12), State.OK, "all"),
    ],
)
def test_capabilities(fake: Fake, mask: int, state: State, words: str) -> None:
    fake.write("proc/self/status", f"Name:\tgpa\nCapPrm:\t0\nCapEff:\t{mask:016x}\n")
    (finding,) = process.check_capabilities(fake.machine, Config())
    assert finding.state is state
    assert words in finding.words


def test_capabilities_that_stand_for_nothing_else(fake: Fake) -> None:
    for bit, name in ((12, "CAP_NET_ADMIN"), (38, "CAP_PERFMON"), (39, "CAP_BPF")):
        mask = ALL & ~(1 << 21 | 1 << bit)
        fake.write("proc/self/status", f"CapEff:\t{mask:016x}\n")
        (finding,) = process.check_capabilities(fake.machine, Config())
        assert finding.state is State.FAILURE
        assert f"lacks {name} to load eBPF programs, CAP_SYS_ADMIN to enter" in finding.words


def test_a_container_lacks_most(fake: Fake) -> None:
    fake.write("proc/self/status", "CapEff:\t00000000a80425fb\n")
    (finding,) = process.check_capabilities(fake.machine, Config())
    assert finding.state is State.FAILURE
    lacking = ("BPF", "PERFMON", "NET_ADMIN", "SYS_ADMIN", "SYS_PTRACE", "DAC_READ_SEARCH")
    assert all(f"CAP_{name} to" in finding.words for name in lacking)


def test_the_first_namespaces(fake: Fake) -> None:
    fake.namespace("self", "user", 0xEFFFFFFD)
    fake.namespace("self", "pid", 0xEFFFFFFC)
    fake.namespace("self", "net", 4026531840)
    fake.namespace("1", "net", 4026531840)
    found = states(process.check_namespaces(fake.machine, Config()))
    assert found == dict.fromkeys(
        ("namespace user", "namespace pid", "namespace network"), State.OK
    )


def test_namespaces_of_its_own(fake: Fake) -> None:
    for kind in ("user", "pid", "net"):
        fake.namespace("self", kind, 4026532000)
    fake.namespace("1", "net", 4026531840)
    assert states(process.check_namespaces(fake.machine, Config())) == {
        "namespace user": State.FAILURE,
        "namespace pid": State.WARNING,
        "namespace network": State.WARNING,
    }


def test_another_network_namespace(fake: Fake) -> None:
    fake.namespace("self", "pid", 0xEFFFFFFC)
    fake.namespace("self", "net", 4026532000)
    fake.namespace("1", "net", 4026531840)
    finding = list(process.check_namespaces(fake.machine, Config()))[-1]
    assert finding.state is State.WARNING
    assert "would listen here, not there" in finding.words


def test_a_process_1_that_may_not_be_looked_at(fake: Fake) -> None:
    fake.namespace("self", "net", 4026531840)
    finding = list(process.check_namespaces(fake.machine, Config()))[-1]
    assert finding.state is State.WARNING
    assert "cannot be seen" in finding.words

"""Another make of the agent, the unit, the clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gpa.config import Config
from gpa.doctor import clock, others
from gpa.doctor.finding import State

if TYPE_CHECKING:
    from tests.doctor.conftest import Fake

    from gpa.doctor.finding import Finding


def other(fake: Fake) -> Finding:
    (finding,) = others.check_other_agent(fake.machine, Config())
    return finding


def service(fake: Fake) -> Finding:
    (finding,) = others.check_service(fake.machine, Config())
    return finding


def test_none(fake: Fake) -> None:
    assert other(fake).state is State.OK


def test_ours_is_a_script(fake: Fake) -> None:
    fake.tool("azure-proxy-agent", "")
    fake.write("proc/77/comm", "azure-proxy-age\n")
    (fake.folder / "proc/77/exe").symlink_to("/usr/bin/python3.11")
    assert other(fake).state is State.OK


def test_installed(fake: Fake) -> None:
    fake.tool("azure-proxy-agent", "")
    fake.write("bin/azure-proxy-agent", b"\x7fELF\x02")
    finding = other(fake)
    assert finding.state is State.WARNING
    assert str(fake.folder / "bin/azure-proxy-agent") in finding.words


def test_running(fake: Fake) -> None:
    fake.write("proc/77/comm", "azure-proxy-age\n")
    (fake.folder / "proc/77/exe").symlink_to("/usr/sbin/azure-proxy-agent (deleted)")
    finding = other(fake)
    assert finding.state is State.FAILURE
    assert "pid 77 (/usr/sbin/azure-proxy-agent" in finding.words


def test_no_systemd(fake: Fake) -> None:
    assert "systemd does not run" in service(fake).words


@pytest.mark.parametrize(
    ("said", "state", "words"),
    [
        ("LoadState=not-found\nActiveState=inactive\nUnitFileState=", State.OK, "there is no"),
        ("LoadState=loaded\nActiveState=active\nUnitFileState=enabled", State.OK, "active, enab"),
        ("LoadState=loaded\nActiveState=failed\nUnitFileState=enabled", State.WARNING, "failed"),
    ],
)
def test_unit(fake: Fake, said: str, state: State, words: str) -> None:
    (fake.folder / "run/systemd/system").mkdir(parents=True)
    fake.tool("systemctl", said)
    finding = service(fake)
    assert finding.state is state
    assert words in finding.words


def test_systemd_that_does_not_answer(fake: Fake) -> None:
    (fake.folder / "run/systemd/system").mkdir(parents=True)
    assert service(fake).state is State.WARNING


@pytest.mark.parametrize(
    ("seconds", "state"),
    [(0, State.WARNING), (1_800_000_000, State.OK), (1e11, State.WARNING)],
)
def test_clock(fake: Fake, seconds: float, state: State) -> None:
    assert clock.judge_clock(seconds).state is state
    (finding,) = clock.check_clock(fake.machine, Config())
    assert finding.name == "clock"

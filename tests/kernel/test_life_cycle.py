"""The agent dies, stalls, comes back: nothing goes out unidentified, nobody takes its place."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.kernel.conftest import Interceptor

pytestmark = pytest.mark.kernel

IMDS = ("169.254.169.254", 80)
WIRESERVER = ("168.63.129.16", 80)


def test_killed_agent_refuses_and_a_new_one_serves(interceptor: Interceptor) -> None:
    interceptor.kill()
    assert interceptor.call("plain", *IMDS)["error"] in {"ECONNREFUSED", "EPERM"}
    assert interceptor.call("squat", *IMDS)["error"] == "EPERM"
    interceptor.start()
    assert interceptor.who("plain", *IMDS, uid=5)["uid"] == 5


def test_audited_connects_pass_a_dead_agent(interceptor: Interceptor, host: None) -> None:
    interceptor.ask("mode audit")
    interceptor.ask("close")
    passed = interceptor.call("plain", *IMDS, uid=5)
    assert passed["local"][0] == "192.0.2.2"
    # For root only, even then.
    assert interceptor.call("plain", *WIRESERVER, uid=5)["error"] in {"ECONNREFUSED", "EPERM"}
    assert interceptor.call("plain", *WIRESERVER, uid=0, gid=0)["local"][0] == "192.0.2.2"
    interceptor.kill()
    interceptor.start()


def test_audited_connects_pass_a_stalled_agent(interceptor: Interceptor, host: None) -> None:
    interceptor.ask("mode audit")
    interceptor.ask("pause")
    assert interceptor.call("plain", *IMDS, uid=6)["local"][0] == "127.0.0.1"
    time.sleep(2.1)
    assert interceptor.call("plain", *IMDS, uid=7)["local"][0] == "192.0.2.2"
    interceptor.ask("resume")
    # Who waited is served with its identity.
    assert interceptor.next()["accepted"]["uid"] == 6
    assert interceptor.who("plain", *IMDS, uid=8)["uid"] == 8
    interceptor.ask("mode enforce")


def test_enforced_connects_wait_for_a_stalled_agent(interceptor: Interceptor) -> None:
    interceptor.ask("pause")
    for uid in (6, 7):
        assert interceptor.call("plain", *IMDS, uid=uid)["local"][0] == "127.0.0.1"
    time.sleep(2.1)
    assert interceptor.call("plain", *IMDS, uid=8)["local"][0] == "127.0.0.1"
    interceptor.ask("resume")
    assert [interceptor.next()["accepted"]["uid"] for _ in range(3)] == [6, 7, 8]


def test_disabled_endpoint_is_left_alone(interceptor: Interceptor, host: None) -> None:
    interceptor.ask("mode disabled")
    assert interceptor.call("plain", *IMDS)["local"][0] == "192.0.2.2"
    interceptor.ask("mode enforce")
    assert interceptor.silent()


def test_detach_leaves_nothing(interceptor: Interceptor, host: None) -> None:
    interceptor.kill()
    done = interceptor.lab.gpa("detach", "--config", interceptor.config)
    assert done.returncode == 0, done.stderr
    assert not (interceptor.lab.pins / "gpa").exists()
    assert not (interceptor.lab.attach_point / "service" / "gpa.agent").exists()
    assert interceptor.call("plain", *IMDS)["local"][0] == "192.0.2.2"
    interceptor.start()

"""Every way to connect() reaches the agent's listener, and the kernel names who it was."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from gpa.demo.lab import Place

if TYPE_CHECKING:
    from tests.kernel.conftest import Interceptor

pytestmark = pytest.mark.kernel

IMDS = ("169.254.169.254", 80)
WIRESERVER = ("168.63.129.16", 80)
HOSTGA = ("168.63.129.16", 32526)


@pytest.mark.parametrize("endpoint", [IMDS, WIRESERVER, HOSTGA])
def test_connect_is_redirected_with_the_identity(
    interceptor: Interceptor, endpoint: tuple[str, int]
) -> None:
    who = interceptor.who("plain", *endpoint, uid=1234, gid=1235)
    assert (who["uid"], who["euid"], who["gid"], who["egid"]) == (1234, 1234, 1235, 1235)
    assert who["exe_name"].startswith("python")
    assert who["family"] == socket.AF_INET
    assert not who["direct"]


@pytest.mark.parametrize("way", ["mapped", "mptcp", "fastopen", "nonblocking", "thread"])
def test_way_of_connecting(interceptor: Interceptor, way: str) -> None:
    who = interceptor.who(way, *IMDS, uid=1234, gid=1235)
    assert (who["uid"], who["gid"]) == (1234, 1235)
    assert (who["tid"] != who["tgid"]) == (way == "thread")


def test_bound_source_address(interceptor: Interceptor) -> None:
    assert interceptor.who("bound", *IMDS, "192.0.2.2", uid=7)["uid"] == 7


def test_socket_bound_to_a_device(interceptor: Interceptor) -> None:
    assert interceptor.who("device", *IMDS, "eth0", uid=0, gid=0)["uid"] == 0
    assert interceptor.who("device", *IMDS, "lo", uid=1000)["uid"] == 1000


def test_device_that_cannot_be_taken_off_is_refused_at_once(interceptor: Interceptor) -> None:
    # The kernel asks the caller, not us, for CAP_NET_RAW.
    told = interceptor.call("device", *IMDS, "eth0", uid=1000)
    assert told["error"] in {"ECONNREFUSED", "EPERM"}


def test_client_sees_the_address_it_asked_for(interceptor: Interceptor) -> None:
    assert interceptor.call("plain", *WIRESERVER)["peer"] == list(WIRESERVER)
    assert interceptor.call("mapped", *IMDS)["peer"][:2] == ["::ffff:169.254.169.254", 80]


def test_real_and_effective_ids_are_both_told(interceptor: Interceptor) -> None:
    who = interceptor.who("plain", *IMDS, uid=1234, gid=1235, euid=0, egid=0)
    assert (who["uid"], who["euid"], who["gid"], who["egid"]) == (1234, 0, 1235, 0)


def test_gid_is_not_taken_for_uid(interceptor: Interceptor) -> None:
    who = interceptor.who("plain", *IMDS, uid=65534, gid=0)
    assert (who["uid"], who["gid"]) == (65534, 0)


@pytest.mark.parametrize("port", [53, 8080])
def test_unprotected_port_is_left_alone(interceptor: Interceptor, port: int) -> None:
    # Nobody listens there: the refusal is the host's own.
    assert interceptor.call("plain", WIRESERVER[0], port) == {"error": "ECONNREFUSED"}
    assert interceptor.silent()


def test_direct_connect_is_named_and_marked(interceptor: Interceptor) -> None:
    assert interceptor.who("plain", "127.0.0.1", 3080, uid=9)["direct"]
    assert interceptor.who("plain", "0.0.0.0", 3080, uid=9)["direct"]  # noqa: S104
    assert interceptor.who("mapped", "127.0.0.1", 3080, uid=9)["direct"]


def test_caller_in_an_unserved_namespace_is_refused(interceptor: Interceptor) -> None:
    interceptor.lab.add_netns("other")
    before = interceptor.counters()["refused_namespace"]
    told = interceptor.call("plain", *IMDS, place=Place("other", "vm/users"))
    assert told["error"] in {"ECONNREFUSED", "EPERM"}
    assert interceptor.counters()["refused_namespace"] == before + 1

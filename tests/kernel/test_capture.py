"""Every way to connect() reaches the agent's listener, and the kernel names who it was."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
from tests.kernel.conftest import WAYS_IN_C

from gpa.demo.lab import AROUND, VM, Place

if TYPE_CHECKING:
    from tests.kernel.conftest import Interceptor

pytestmark = pytest.mark.kernel

IMDS = ("169.254.169.254", 80)
WIRESERVER = ("168.63.129.16", 80)
HOSTGA = ("168.63.129.16", 32526)
INITIAL_USERNS = 0xEFFFFFFD
WAYS = ["plain", "mapped", "mptcp", "mptcp_mapped", "fastopen", "fastopen_connect", "nonblocking"]
WAYS += ["thread", "failed_before", *WAYS_IN_C]


@pytest.mark.parametrize("endpoint", [IMDS, WIRESERVER, HOSTGA])
def test_connect_is_redirected_with_the_identity(
    interceptor: Interceptor, endpoint: tuple[str, int]
) -> None:
    who = interceptor.who("plain", *endpoint, uid=1234, gid=1235)
    assert (who["uid"], who["euid"], who["gid"], who["egid"]) == (1234, 1234, 1235, 1235)
    assert who["exe_name"].startswith("python")
    assert who["family"] == socket.AF_INET
    assert not who["direct"]


@pytest.mark.parametrize("way", WAYS)
def test_way_of_connecting(interceptor: Interceptor, way: str) -> None:
    told = interceptor.call(way, *IMDS, uid=1234, gid=1235)
    assert "error" not in told, told
    who = interceptor.accepted(told["pid"])
    assert (who["uid"], who["euid"], who["gid"], who["egid"]) == (1234, 1234, 1235, 1235)
    assert who["exe_name"].startswith("ways" if way in WAYS_IN_C else "python")
    assert who["userns"] == INITIAL_USERNS
    # A thread of the kernel's, which works for the process, has a name of its own and no other.
    assert (who["tid"] != who["tgid"]) == (way in {"thread", "async", "sqpoll"})
    assert (who["comm"] != who["leader_comm"]) == (way in {"async", "sqpoll"})
    assert not who["direct"]
    mapped = "::ffff:" if way.endswith("mapped") else ""
    assert told["peer"][:2] == [mapped + IMDS[0], IMDS[1]]
    assert told["local"][0] == mapped + "127.0.0.1"


@pytest.mark.parametrize(("way", "uid"), [("inline", 1234), ("async", 1234), ("sqpoll", 0)])
def test_ring_that_root_made_before_it_gave_up_root(
    interceptor: Interceptor, way: str, uid: int
) -> None:
    """Who asks the kernel; a ring with a thread of its own works as who made it, by design."""
    who = interceptor.who(way, *IMDS, 1234, uid=0, gid=0)
    assert (who["uid"], who["euid"]) == (uid, uid)


def test_second_connect_of_a_socket_has_a_record_of_its_own(interceptor: Interceptor) -> None:
    told = interceptor.call("twice", *IMDS, uid=1234)
    assert told["peer"] == list(WIRESERVER), told
    first, second = (interceptor.accepted(told["pid"]) for _ in range(2))
    assert [first["uid"], second["uid"]] == [1234, 1234]
    assert first["sock_cookie"] == second["sock_cookie"]
    assert first["connect_ns"] < second["connect_ns"]


def test_bound_port_that_is_shared(interceptor: Interceptor) -> None:
    who = interceptor.who("shared_port", *IMDS, 45678, uid=1234)
    assert (who["uid"], who["direct"]) == (1234, False)


def test_caller_in_namespaces_of_its_own(interceptor: Interceptor) -> None:
    """Root and process 1 in there: every id is the initial namespace's, and the record says that
    it is another user and another mount namespace."""
    outside = interceptor.who("plain", *IMDS, uid=1234)
    who = interceptor.who("namespaces", *IMDS, uid=1234)
    assert (who["uid"], who["euid"]) == (1234, 1234)
    assert who["userns"] != outside["userns"] == INITIAL_USERNS
    assert who["mntns"] != outside["mntns"]
    # Executed outside, so nobody is believed who calls himself that inside.
    assert who["exe"] is None


def test_cgroup_is_the_callers_own_however_deep(interceptor: Interceptor) -> None:
    deep = "vm/users/" + "/".join("deeper" for _ in range(12))
    who = interceptor.who("plain", *IMDS, uid=1234, place=Place("vm", deep))
    assert who["cgroup_id"] == (interceptor.lab.cgroup / deep).stat().st_ino


def test_what_counts_is_where_the_socket_was_made(interceptor: Interceptor, host: None) -> None:
    """Made below cgroupRoot and connected outside: seen. The other way round: not seen, so the host
    gets it unsigned. Over the real root of the cgroups there is no outside."""
    inside, outside = (interceptor.lab.cgroup / place.cgroup for place in (VM, AROUND))
    for folder in (inside, outside):
        folder.mkdir(parents=True, exist_ok=True)
    who = interceptor.who("moved", *IMDS, outside / "cgroup.procs", uid=0, gid=0)
    assert (who["uid"], who["cgroup_id"]) == (0, outside.stat().st_ino)
    there = inside / "cgroup.procs"
    told = interceptor.call("moved", *IMDS, there, uid=0, gid=0, place=AROUND)
    assert (told["local"][0], told["peer"]) == ("192.0.2.2", list(IMDS))
    assert interceptor.silent()


def test_bound_source_address(interceptor: Interceptor) -> None:
    assert interceptor.who("bound", *IMDS, "192.0.2.2", uid=7)["uid"] == 7


def test_socket_bound_to_a_device(interceptor: Interceptor) -> None:
    assert interceptor.who("device", *IMDS, "eth0", uid=0, gid=0)["uid"] == 0
    assert interceptor.who("device", *IMDS, "lo", uid=1000)["uid"] == 1000


def test_device_that_cannot_be_taken_off_is_refused_at_once(interceptor: Interceptor) -> None:
    # The kernel asks the caller, not us, for CAP_NET_RAW.
    told = interceptor.call("device", *IMDS, "eth0", uid=1000)
    assert told["error"] in {"ECONNREFUSED", "EPERM"}


def test_real_and_effective_ids_are_both_told(interceptor: Interceptor) -> None:
    who = interceptor.who("plain", *IMDS, uid=1234, gid=1235, euid=0, egid=0)
    assert (who["uid"], who["euid"], who["gid"], who["egid"]) == (1234, 0, 1235, 0)


def test_gid_is_not_taken_for_uid(interceptor: Interceptor) -> None:
    who = interceptor.who("plain", *IMDS, uid=65534, gid=0)
    assert (who["uid"], who["gid"]) == (65534, 0)


@pytest.mark.parametrize("port", [53, 443, 8080, 32525, 32527])
def test_unprotected_port_is_left_alone(interceptor: Interceptor, host: None, port: int) -> None:
    told = interceptor.call("talk", WIRESERVER[0], port)
    assert told["heard"] == "hello 192.0.2.2"
    # Nobody listens there: the refusal is the host's own.
    assert interceptor.call("plain", WIRESERVER[0], port + 10)["error"] == "ECONNREFUSED"
    assert interceptor.silent()


@pytest.mark.parametrize("port", [53, 67, 80])
def test_datagrams_are_left_alone(interceptor: Interceptor, host: None, port: int) -> None:
    """Names and leases come from the address of WireServer."""
    told = interceptor.call("datagram", WIRESERVER[0], port)
    assert told["heard"] == "hello 192.0.2.2 hello 192.0.2.2"


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

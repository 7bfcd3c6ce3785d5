"""Cgroup programs of other tools beside ours: both work, or the agent says who forbids it."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import pytest
from tests.kernel.bpf import EXCLUSIVE, MULTI, OVERRIDE
from tests.kernel.neighbour import PROGRAM_TYPES, Neighbour

from gpa.agent.libbpf import MOST_ATTACHED, Attached, attached_programs
from gpa.agent.pins import NEIGHBOURHOOD, OPTIONS
from gpa.demo.lab import AROUND
from gpa.errors import EXIT_UNAVAILABLE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.kernel.conftest import Interceptor

pytestmark = pytest.mark.kernel

IMDS = ("169.254.169.254", 80)
ELSEWHERE = ("203.0.113.7", 80)
PROXY = ("127.0.0.1", 15001)
NOBODY = ("127.0.0.1", 9)

REMEDY = "stop the tool that it belongs to, or have it attached with BPF_F_ALLOW_MULTI"

LISTEN = f"""
import socket, time
one = socket.create_server({PROXY!r})
print("listening", flush=True)
time.sleep(60)
"""


@pytest.fixture(scope="module")
def proxy(interceptor: Interceptor) -> Iterator[None]:
    """Where another transparent proxy of the VM listens."""
    argv = ["python3", "-I", "-S", "-c", LISTEN]
    process = interceptor.lab.spawn(0, 0, argv)
    assert process.stdout is not None
    assert process.stdout.readline() == "listening\n"
    yield
    process.kill()
    process.wait()


def cgroup(interceptor: Interceptor, where: str) -> Path:
    """Seen from where ours are attached."""
    lab = interceptor.lab
    below = lab.attach_point / "users"
    return {"above": lab.cgroup, "beside": lab.attach_point, "below": below}[where]


def attached(where: Path, hook: str) -> list[Attached]:
    fd = os.open(where, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return attached_programs(fd, hook)
    finally:
        os.close(fd)


def connect_in_many_ways(interceptor: Interceptor, uid: int) -> None:
    """Between them the ways pass every hook; the kernel names who it was each time."""
    assert interceptor.who("bound", *IMDS, "192.0.2.2", uid=uid)["uid"] == uid
    assert interceptor.who("bound6", *IMDS, uid=uid)["uid"] == uid
    assert interceptor.who("nonblocking", *IMDS, uid=uid)["uid"] == uid
    assert interceptor.who("device", *IMDS, "lo", uid=uid)["uid"] == uid


@pytest.mark.parametrize("order", ["before ours", "after ours"])
@pytest.mark.parametrize(
    ("where", "flags"),
    [
        ("above", MULTI),
        ("above", OVERRIDE),
        ("beside", MULTI),
        ("below", MULTI),
        ("below", OVERRIDE),
        ("below", EXCLUSIVE),
    ],
)
def test_both_work(
    interceptor: Interceptor, without_agent: None, where: str, flags: int, order: str
) -> None:
    with contextlib.ExitStack() as stack:
        neighbours = [stack.enter_context(Neighbour(hook)) for hook in PROGRAM_TYPES]
        if order == "after ours":
            interceptor.start()
        for neighbour in neighbours:
            neighbour.attach(cgroup(interceptor, where), flags)
        if order == "before ours":
            interceptor.start()
        before = {neighbour.hook: neighbour.runs for neighbour in neighbours}
        connect_in_many_ways(interceptor, uid=1234)
        ran = {n.hook for n in neighbours if n.runs > before[n.hook]}
        # With BPF_F_ALLOW_OVERRIDE a program asks to be replaced by those below it. Of options ours
        # are attached to the agent's cgroup, not where these callers are.
        yields = where == "above" and flags == OVERRIDE
        assert ran == (set(OPTIONS) if yields else set(PROGRAM_TYPES))
        if where == "above":
            asked = neighbours[0].runs
            interceptor.call("plain", *NOBODY, place=AROUND)
            assert neighbours[0].runs == asked + 1
        # A restart takes the pins over.
        interceptor.kill()
        interceptor.start()
        connect_in_many_ways(interceptor, uid=1235)


def test_exclusive_one_that_comes_above_later_disturbs_nothing(interceptor: Interceptor) -> None:
    with Neighbour("connect4") as neighbour:
        neighbour.attach(interceptor.lab.cgroup, EXCLUSIVE)
        assert interceptor.who("plain", *IMDS, uid=1234)["uid"] == 1234
        interceptor.kill()
        interceptor.start()
        assert interceptor.who("plain", *IMDS, uid=1235)["uid"] == 1235


@pytest.mark.parametrize("flags", [EXCLUSIVE, OVERRIDE])
def test_one_that_suffers_no_other_cannot_take_our_place(
    interceptor: Interceptor, flags: int
) -> None:
    with Neighbour("connect4") as neighbour, pytest.raises(PermissionError):
        neighbour.attach(interceptor.lab.attach_point, flags)
    assert interceptor.who("plain", *IMDS, uid=1234)["uid"] == 1234


@pytest.mark.parametrize("where", ["above", "beside", "below"])
@pytest.mark.parametrize("order", ["before ours", "after ours"])
def test_another_transparent_proxy(
    interceptor: Interceptor, proxy: None, without_agent: None, where: str, order: str
) -> None:
    with (
        Neighbour.rewriting("connect4", ELSEWHERE, PROXY) as four,
        Neighbour.rewriting("connect6", ELSEWHERE, PROXY) as six,
    ):
        if order == "after ours":
            interceptor.start()
        for neighbour in (four, six):
            neighbour.attach(cgroup(interceptor, where), MULTI)
        if order == "before ours":
            interceptor.start()
        for way, peer in (("plain", PROXY[0]), ("mapped", f"::ffff:{PROXY[0]}")):
            told = interceptor.call(way, *ELSEWHERE, uid=1234)
            assert told["peer"][:2] == [peer, PROXY[1]]
            assert interceptor.who(way, *IMDS, uid=1234)["uid"] == 1234


def test_what_a_program_before_ours_sends_to_a_protected_address(interceptor: Interceptor) -> None:
    with Neighbour.rewriting("connect4", ELSEWHERE, IMDS) as neighbour:
        neighbour.attach(cgroup(interceptor, "below"), MULTI)
        who = interceptor.who("plain", *ELSEWHERE, uid=1234)
        assert (who["uid"], who["direct"]) == (1234, False)


@pytest.mark.parametrize("where", ["above", "beside", "below"])
def test_one_that_denies(interceptor: Interceptor, where: str) -> None:
    redirected = interceptor.counters()["handed_over"]
    with (
        Neighbour.denying("connect4", ELSEWHERE) as elsewhere,
        Neighbour.denying("connect4", PROXY) as our_listener_is_not_meant,
    ):
        for neighbour in (elsewhere, our_listener_is_not_meant):
            neighbour.attach(cgroup(interceptor, where), MULTI)
        assert interceptor.call("plain", *ELSEWHERE)["error"] == "EPERM"
        assert interceptor.who("plain", *IMDS, uid=1234)["uid"] == 1234
    # Below it sees what was asked for, above what became of it.
    meant = ("127.0.0.1", 3080) if where != "below" else IMDS
    with Neighbour.denying("connect4", meant) as neighbour:
        neighbour.attach(cgroup(interceptor, where), MULTI)
        assert interceptor.call("plain", *IMDS)["error"] == "EPERM"
        assert interceptor.silent()
    assert interceptor.who("plain", *IMDS, uid=1235)["uid"] == 1235
    assert interceptor.counters()["handed_over"] == redirected + 2


@pytest.mark.parametrize(
    ("hook", "where", "flags"),
    [
        *((hook, "beside", EXCLUSIVE) for hook in PROGRAM_TYPES),
        ("connect4", "above", EXCLUSIVE),
        ("getsockopt", "above", EXCLUSIVE),
        ("connect4", "beside", OVERRIDE),
        ("sockops", "beside", OVERRIDE),
    ],
)
def test_who_forbids_it_is_named_and_nothing_is_left(
    interceptor: Interceptor, without_agent: None, hook: str, where: str, flags: int
) -> None:
    lab = interceptor.lab
    leaf = lab.attach_point / "service" / "gpa.agent"
    with Neighbour(hook) as neighbour:
        neighbour.attach(cgroup(interceptor, where), flags)
        done = lab.gpa("run", "--config", interceptor.config)
        ours = leaf if hook in OPTIONS else lab.attach_point
        how = "exclusively" if flags == EXCLUSIVE else "with BPF_F_ALLOW_OVERRIDE"
        assert done.stderr.splitlines()[-1] == (
            f"gpa: cannot attach {hook} to {ours}: program {neighbour.number} (neighbour) is"
            f" attached {how} to {cgroup(interceptor, where)} and forbids it: {REMEDY}"
            " (Operation not permitted)"
        )
        assert done.returncode == EXIT_UNAVAILABLE
        for name in (*NEIGHBOURHOOD, *OPTIONS):
            found = [one.name for one in attached(lab.attach_point, name)]
            assert found == (["neighbour"] if (name, where) == (hook, "beside") else [])
    assert not (lab.pins / "gpa").exists()
    assert not leaf.exists()
    assert list((lab.folder / "run").glob("interception*")) == []
    assert interceptor.call("plain", "127.0.0.1", 3080)["error"] == "ECONNREFUSED"


def test_a_full_cgroup_is_named(interceptor: Interceptor, without_agent: None) -> None:
    place = interceptor.lab.attach_point
    with contextlib.ExitStack() as stack:
        for number in range(MOST_ATTACHED):
            neighbour = stack.enter_context(Neighbour("sockops", f"n{number}"))
            neighbour.attach(place, MULTI)
        assert [one.name for one in attached(place, "sockops")][-1] == f"n{MOST_ATTACHED - 1}"
        done = interceptor.lab.gpa("run", "--config", interceptor.config)
    assert done.returncode == EXIT_UNAVAILABLE
    assert done.stderr.splitlines()[-1] == (
        f"gpa: cannot attach sockops to {place}: {MOST_ATTACHED} programs are attached there, and"
        " the kernel takes no more: detach what is not needed (Argument list too long)"
    )

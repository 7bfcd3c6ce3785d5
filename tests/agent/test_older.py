"""Connections older than the interception: what is asked of the kernel, what its answers mean."""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
from typing import TYPE_CHECKING, Any

import pytest

from gpa.agent import netlink, older
from gpa.agent.log import Log
from gpa.agent.older import Connection, Older, Outcome
from gpa.endpoints import Endpoint, Mode

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

WIRESERVER = "168.63.129.16"
ENFORCED = dict.fromkeys(Endpoint, Mode.ENFORCE)


def identity(to: str = "169.254.169.254", port: int = 80, family: int = socket.AF_INET) -> bytes:
    """`struct inet_diag_sockid`: ports, addresses, device, cookie."""
    to = to if family == socket.AF_INET else f"::ffff:{to}"
    return struct.pack("!HH16s16sIQ", 50000, port, b"", socket.inet_pton(family, to), 0, 77)


def listed(uid: int, inode: int, identity: bytes, family: int = socket.AF_INET) -> bytes:
    """`struct inet_diag_msg`."""
    return struct.pack("=BBBB48sIIIII", family, 1, 0, 0, identity, 0, 0, 0, uid, inode)


class Kernel:
    """The far side of a netlink socket: answers each message by `answer`, and keeps it."""

    def __init__(self, answer: Callable[[int, bytes], list[tuple[int, bytes]]]) -> None:
        self.answer = answer
        self.heard: list[tuple[int, bytes]] = []

    def connect(self, protocol: int) -> socket.socket:
        assert protocol == netlink.NETLINK_SOCK_DIAG
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(netlink.ANSWER_SECONDS)
        threading.Thread(target=self._serve, args=(theirs,), daemon=True).start()
        return ours

    def _serve(self, theirs: socket.socket) -> None:
        with theirs:
            while data := theirs.recv(1 << 16):
                for kind, number, body in netlink.unpack(data):
                    self.heard.append((kind, body))
                    for answer, content in self.answer(kind, body):
                        theirs.sendall(netlink.pack(answer, 0, number, content))


def result(error: int) -> tuple[int, bytes]:
    return 2, struct.pack("=i", -error)


DONE = 3, struct.pack("=i", 0)


def test_the_search_names_states_addresses_and_ports() -> None:
    packed = older.pack_search(socket.AF_INET6, [Endpoint.HOSTGA, Endpoint.IMDS])
    assert packed[:8] == struct.pack("=BBBBI", socket.AF_INET6, 6, 0, 0, 0x136)
    assert packed[8:56] == bytes(48)
    assert packed[56:] == b"".join(
        (
            struct.pack("=HH", 40, 1),
            struct.pack("=BBH", 8, 16, 20),
            struct.pack("=BBxxi4s", 2, 32, 32526, bytes([168, 63, 129, 16])),
            struct.pack("=BBH", 1, 4, 20),
            struct.pack("=BBH", 8, 16, 20),
            struct.pack("=BBxxi4s", 2, 32, 80, bytes([169, 254, 169, 254])),
        )
    )


def passes(program: bytes, address: tuple[str, int]) -> bool:
    """What the kernel makes of the steps (inet_diag_bc_run)."""
    left = len(program)
    while left > 0:
        code, yes, no = struct.unpack_from("=BBH", program, len(program) - left)
        met = False
        if code == 8:
            _, _, port, to = struct.unpack_from("=BBxxi4s", program, len(program) - left + 4)
            met = (socket.inet_ntoa(to), port) == address
        left -= yes if met else no
    return left == 0


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_search_finds_each_and_no_other(count: int) -> None:
    wanted = list(Endpoint)[:count]
    program = older.pack_search(socket.AF_INET, wanted)[60:]
    found = [endpoint for endpoint in Endpoint if passes(program, endpoint.address)]
    assert found == wanted
    assert not passes(program, (WIRESERVER, 53))
    assert not passes(program, ("192.0.2.1", 80))


def test_the_end_is_asked_for_by_the_identity_that_was_listed() -> None:
    found = older.unpack_connection(
        listed(1000, 77, identity(WIRESERVER, 32526, socket.AF_INET6), socket.AF_INET6)
    )
    its = identity(WIRESERVER, 32526, socket.AF_INET6)
    assert found == Connection(Endpoint.HOSTGA, socket.AF_INET6, its, 1000, 77)
    head = struct.pack("=BBBBI", socket.AF_INET6, 6, 0, 0, 0xFFFFFFFF)
    assert older.pack_destroy(found) == head + its


@pytest.mark.parametrize("size", range(72))
def test_a_cut_answer_is_no_connection(size: int) -> None:
    assert older.unpack_connection(listed(1, 2, identity())[:size]) is None


def test_a_connection_to_somewhere_else_is_none_of_ours() -> None:
    for body in (
        listed(1, 2, identity(WIRESERVER, 53)),
        listed(1, 2, identity("192.0.2.1")),
        listed(1, 2, identity(WIRESERVER, 80, socket.AF_INET6)),
    ):
        assert older.unpack_connection(body) is None


def test_all_but_our_own_and_the_orphaned_are_reset() -> None:
    def answer(kind: int, body: bytes) -> list[tuple[int, bytes]]:
        if kind == 21:
            return [result(0)]
        if body == older.pack_search(socket.AF_INET, [Endpoint.IMDS]):
            found = ((0, ours), (5, 0), (6, inode))
            return [*((20, listed(*one, identity())) for one in found), DONE]
        return [DONE]

    with socket.socket() as mine, socket.socket() as other:
        ours, inode = os.fstat(mine.fileno()).st_ino, os.fstat(other.fileno()).st_ino
        other.close()
        kernel = Kernel(answer)
        outcome = older.reset([Endpoint.IMDS], kernel.connect)
    assert [(c.uid, c.inode) for c in outcome.reset] == [(6, inode)]
    assert [kind for kind, _ in kernel.heard] == [20, 20, 21]
    assert outcome.words() == (
        f"1 older connections reset: uid 6 inode {inode} to 169.254.169.254:80",
        "",
    )


@pytest.mark.parametrize(
    ("error", "stay", "why"),
    [
        (errno.EOPNOTSUPP, 1, "the kernel has no CONFIG_INET_DIAG_DESTROY"),
        (errno.EPERM, 1, "Operation not permitted"),
        (errno.ENOENT, 0, ""),
    ],
)
def test_what_cannot_be_reset_is_counted_with_the_reason(error: int, stay: int, why: str) -> None:
    def answer(kind: int, body: bytes) -> list[tuple[int, bytes]]:
        if kind == 21:
            return [result(error)]
        found = listed(7, 1, identity(WIRESERVER, 32526, socket.AF_INET6), socket.AF_INET6)
        wanted = older.pack_search(socket.AF_INET6, list(Endpoint))
        return [(20, found), DONE] if body == wanted else [DONE]

    outcome = older.reset(list(Endpoint), Kernel(answer).connect)
    assert (outcome.reset, outcome.stay, outcome.why) == ([], stay, why)
    done, wrong = outcome.words()
    assert not done
    assert bool(wrong) is bool(stay)


def test_a_kernel_that_lists_nothing_is_said() -> None:
    outcome = older.reset([Endpoint.IMDS], Kernel(lambda *_: [result(errno.ENOENT)]).connect)
    assert outcome.why == "No such file or directory"
    assert "none can be looked for" in outcome.words()[1]


def test_a_kernel_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(netlink, "ANSWER_SECONDS", 0.05)
    assert older.reset([Endpoint.IMDS], Kernel(lambda *_: []).connect).why == "timed out"


def test_no_more_than_the_most_are_reset_and_few_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(older, "MOST", 20)
    answers = [*((20, listed(7, n, identity())) for n in range(1, 31)), DONE]

    def answer(kind: int, body: bytes) -> list[tuple[int, bytes]]:
        wanted = older.pack_search(socket.AF_INET, [Endpoint.IMDS])
        return [result(0)] if kind == 21 else answers if body == wanted else [DONE]

    outcome = older.reset([Endpoint.IMDS], Kernel(answer).connect)
    assert (len(outcome.reset), outcome.stay) == (20, 10)
    assert outcome.words()[0].endswith(", 4 more")
    assert "10 older connections stay" in outcome.words()[1]


async def test_only_what_becomes_enforced_is_reset() -> None:
    asked: list[list[Endpoint]] = []

    def end(endpoints: Collection[Endpoint], _: older.Elsewhere) -> Outcome:
        asked.append(sorted(endpoints))
        return Outcome()

    kept = Older(end, Log(None, stderr=False))
    imds: dict[Any, Mode] = {Endpoint.IMDS: Mode.ENFORCE}
    for modes in (
        dict.fromkeys(Endpoint, Mode.UNKNOWN),
        dict.fromkeys(Endpoint, Mode.AUDIT),
        dict.fromkeys(Endpoint, Mode.DISABLED) | imds,
        dict.fromkeys(Endpoint, Mode.AUDIT) | imds,
        ENFORCED,
        ENFORCED,
        dict.fromkeys(Endpoint, Mode.AUDIT),
        ENFORCED,
    ):
        await kept.end(modes)
    assert asked == [
        [Endpoint.IMDS],
        [Endpoint.HOSTGA, Endpoint.WIRESERVER],
        sorted(Endpoint),
    ]

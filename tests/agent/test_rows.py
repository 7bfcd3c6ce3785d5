"""The native half writes what Python would write, and leaves to Python what it cannot."""

from __future__ import annotations

import json
import re
import struct
from collections import Counter
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gpa._native import records
from gpa.agent import rows
from gpa.agent.audit import ALLOWED_BYTES, Auditor, Epochs
from gpa.agent.identity import Exe, Names, Program, User
from gpa.agent.summary import Summary
from gpa.endpoints import Endpoint
from gpa.rules.compile import CompiledNames

IDENT = struct.Struct("=6Q q 4I 9I 4I 2H 2I 16s 16s 2I 64s 16x")
"""`struct gpa_ident` of bpf/record.h."""

TAIL = struct.Struct("=5Q I H 2B 4H 2B H I 8s 288s")
"""What `struct gpa_audit` of ext/audit.h has behind it."""

EXE_NAME = 1 << 3
"""`GPA_EXE_NAME` of bpf/record.h."""

EPOCH = 3
NAMES = CompiledNames(("instance", "größe\u2028"), ("readers", "x" * 200), ('"apps"\n', "apps"))


def row(**more: Any) -> bytes:
    """One row of the relay."""
    of: dict[str, Any] = {
        "uid": 1000,
        "tgid": 4242,
        "start": 77,
        "connect_ns": 5,
        "comm": b"thread",
        "flags": EXE_NAME,
        "exe": b"curl",
        "unix_ns": 1_767_225_600_123_456_789,
        "id": 42,
        "us": 812,
        "status": 200,
        "endpoint": 0,
        "decision": 0,
        "reason": 0,
        "place": (0, 0, 0xFFFF),
        "signed": 1,
        "method": b"GET",
        "target": b"/metadata/instance?api-version=2021-02-01",
        "epoch": EPOCH,
    } | more
    caller = (
        *(of["start"], of["connect_ns"], 9, 1, 2, 3, 4),
        *(5, 6, 7, 8, of["tgid"], of["tgid"], 1, 0, of["uid"], 0, of.get("euid", of["uid"]), 0, 0),
        *(0, 0, 0, 0, 80, 2, 0, 0, of["comm"], b"", 1, of["flags"], of["exe"]),
    )
    tail = (
        *(of["unix_ns"], of["id"], of["epoch"], 0, 512, of["us"], of["status"], of["endpoint"]),
        *(of["decision"], of["reason"], *of["place"], of["signed"], 3),
        *(len(of["target"][:288]), 0, of["method"], of["target"]),
    )
    return IDENT.pack(*caller) + TAIL.pack(*tail)


class FakeNames(Names):
    def user(self, uid: int) -> User:
        return User(f"user{uid}", ())

    def program(self, tgid: int, start_boottime: int, exe: Exe | None = None) -> Program:
        return Program(f"/bin/{tgid}", str(start_boottime))


def auditor() -> Auditor:
    made = Auditor(FakeNames(), Summary())
    made.epochs.add(EPOCH, dict.fromkeys(Endpoint, NAMES))
    return made


def both_ways(data: bytes) -> tuple[list[bytes | records.AuditRow], bytes]:
    """Checks that Python alone says the same, and gives the pieces and the audit file."""
    alone, ours = auditor(), auditor()
    pieces, counts = rows.split(data, ours.rule_words)
    audit, connections = ours.lines(pieces, counts)
    assert (audit, connections) == alone.lines(records.decode(data))
    for of in ("rows", "failed_rows"):
        shown, expected = (getattr(a._summary, of)() for a in (ours, alone))
        assert sorted(map(str, shown)) == sorted(map(str, expected))
    assert (ours.seen_uids, ours.unknown) == (alone.seen_uids, alone.unknown)
    return pieces, audit


def test_the_layout_is_the_librarys() -> None:
    assert len(row()) == records.ROW_SIZE
    (made,) = records.decode(row(place=(1, 2, 3)))
    assert made["caller"] is not None
    assert (made["caller"]["exe_name"], made["caller"]["tgid"]) == ("curl", 4242)
    assert (made["privilege"], made["identity"], made["target"][:9]) == (1, 3, "/metadata")


def test_a_plain_allowed_request_never_becomes_an_object() -> None:
    pieces, audit = both_ways(row() + row(id=43, place=(1, 1, 1)))
    assert pieces == [audit]
    assert audit.count(b"\n") == 2


def test_the_order_of_requests_stays() -> None:
    data = row(id=1) + row(id=2, decision=2, reason=21, status=403) + row(id=3) + row(id=4)
    pieces, audit = both_ways(data)
    assert [type(piece) for piece in pieces] == [bytes, dict, bytes]
    assert re.findall(rb'"id":"d-(\d)"', audit) == [b"1", b"2", b"3", b"4"]


@pytest.mark.parametrize(
    "more",
    [
        {"connect_ns": 0},
        {"endpoint": 255},
        {"reason": 999},
        {"target": b"/" + b"x" * 287},
        {"target": b"/a?id=".ljust(288, b"x")},
        {"target": b"/\xff"},
        {"exe": b"\n"},
        {"euid": 0},
        {"flags": 0},
    ],
)
def test_what_is_unusual_is_left_to_python(more: dict[str, Any]) -> None:
    pieces, _ = both_ways(row(**more))
    assert isinstance(pieces[0], dict)


def test_counts_are_by_process_and_end() -> None:
    kinds = [{}, {"uid": 0}, {"status": 404}, {"tgid": 7}, {"start": 8}, {"endpoint": 1}]
    order = [0, 0, 1, 2, 0, 3, 4, 4, 5, 0]
    _, counts = rows.split(b"".join(row(**kinds[n]) for n in order), auditor().rule_words)
    expected = Counter(
        {
            (1000, 0, 200, 4242, 77): 4,
            (0, 0, 200, 4242, 77): 1,
            (1000, 0, 404, 4242, 77): 1,
            (1000, 0, 200, 7, 77): 1,
            (1000, 0, 200, 4242, 8): 2,
            (1000, 1, 200, 4242, 77): 1,
        }
    )
    assert counts == expected


def test_every_request_is_told_in_full_when_asked_for() -> None:
    assert Auditor(FakeNames(), Summary(), everything=True).rule_words is None
    assert rows.split(row(), None) == (records.decode(row()), {})


def test_batches_follow_each_other_while_they_are_full() -> None:
    waiting = [row() * rows.AT_ONCE, row(), row()]
    taken = rows.batches(
        row() * rows.AT_ONCE,
        lambda limit: waiting.pop(0)[: limit * records.ROW_SIZE],
        lambda data: ([data], {}),
    )
    sizes = [len(piece) // records.ROW_SIZE for pieces, _ in taken for piece in pieces]
    assert sizes == [rows.AT_ONCE, rows.AT_ONCE, 1]
    assert len(waiting) == 1, "what came meanwhile is for the next look"
    assert list(rows.batches(b"", lambda _: row(), lambda data: ([data], {}))) == []


def test_half_a_row_is_no_row() -> None:
    with pytest.raises(ValueError, match="not a multiple"):
        rows.split(row()[:-1], Epochs().short_words)


PLAIN = b"/a ? & = api-version RESOURCE sig %3f SIG%3D %3d % 2021-02-01"
STRANGE = [b'"', b"\\", b"\x7f", b"\xe2\x80", "\u2026".encode(), b"\0", b"\n", b"x" * 127]
words = st.sampled_from([*PLAIN.split(), *STRANGE])
pieces_of_targets = st.lists(words | st.binary(max_size=6), max_size=24).map(b"".join)
rest = st.fixed_dictionaries(
    {
        "target": pieces_of_targets | st.binary(max_size=300),
        "exe": st.binary(max_size=64) | st.sampled_from([b"", b"curl", b"a\0b"]),
        "comm": st.binary(max_size=16),
        "flags": st.sampled_from([0, EXE_NAME]),
        "method": st.sampled_from([b"GET", b"OPTIONS", b"\xffABCDEFG"]),
        "unix_ns": st.integers(0, 2**64 - 1),
        "id": st.integers(0, 2**64 - 1),
        "us": st.integers(0, 2**32 - 1),
        "uid": st.integers(0, 2**32 - 1),
        "status": st.integers(0, 65535),
        "endpoint": st.sampled_from([0, 1, 2, 3, 4, 255]),
        "decision": st.sampled_from([0, 0, 0, 1, 2, 3, 4]),
        "reason": st.sampled_from([0, 1, 2, 21, 999]),
        "signed": st.integers(0, 1),
        "epoch": st.sampled_from([EPOCH, 0, 2**64 - 1]),
        "place": st.tuples(*[st.sampled_from([0, 1, 2, 0xFFFF])] * 3),
        "connect_ns": st.sampled_from([0, 5, 5, 5]),
    }
)


@given(st.lists(rest, max_size=8))
@example([{"target": b"/?resource=sig%3dx&resource=a%3Fb&resource=%3&format=?&comp=&=&&type"}])
@example([{"reason": 21}])
@example([{"target": b"/?resource=" + b"x" * 128 + b"&x=1"}])
@example([{"target": b"/a?" + b"a=b&" * 70}])
def test_both_halves_write_the_same(made: list[dict[str, Any]]) -> None:
    data = b"".join(row(**more) for more in made)
    pieces, _ = both_ways(data)
    for piece in pieces:
        if isinstance(piece, bytes):
            for line in piece.splitlines(keepends=True):
                assert len(line) <= ALLOWED_BYTES
                assert all(32 <= byte < 127 for byte in line[:-1])


@given(st.lists(st.binary(min_size=616, max_size=616), max_size=3), st.binary(max_size=40))
def test_any_bytes_are_rows_or_are_refused(whole: list[bytes], rest: bytes) -> None:
    """What is not as the relay writes it: any number in any field, a length that is too long."""
    data = b"".join(whole)
    auditor = Auditor(Names(), Summary(), everything=True)
    for words in (None, auditor.rule_words):
        lines, connections = auditor.lines(*rows.split(data, words))
        assert lines.count(b"\n") == len(whole), lines
        for line in lines.splitlines():
            assert json.loads(line)["status"] >= 0
            assert len(line) <= 4096
        assert connections.count(b"\n") == len(whole)
        if rest:
            with pytest.raises(ValueError, match=r"rows|bytes"):
                rows.split(data + rest, words)
    with pytest.raises(ValueError, match="bytes"):
        records.decode_caller(rest)

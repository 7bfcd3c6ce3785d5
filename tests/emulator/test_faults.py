"""Each fault does to a client what it says, and to nobody else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h11
import msgspec
import pytest
import trio
from tests.emulator.guest import Emulated, exchange, read_all, wait_until

from gpa.emulator.faults import Fault
from gpa.emulator.sending import GARBAGE

if TYPE_CHECKING:
    from gpa.emulator.records import Record

pytestmark = [
    pytest.mark.trio,
    pytest.mark.parametrize("scenario_text", ['[rules.imds]\nmode = "disabled"\n']),
]

BYTES = "/gpa-emulator/bytes?size=1000"
CLOSING = f"GET {BYTES} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()


def add(emulated: Emulated, kind: str, **rest: Any) -> None:
    emulated.host.faults.add(msgspec.convert({"kind": kind, **rest}, Fault))


async def next_record(emulated: Emulated, number: int = 0) -> Record:
    recorder = emulated.host.recorder
    await wait_until(lambda: bool(recorder.since(number, 1)))
    return recorder.since(number, 1)[0]


async def test_latency_adds_up(emulated: Emulated) -> None:
    add(emulated, "latency", seconds=0.03)
    add(emulated, "latency", seconds=0.02, endpoint="imds")
    add(emulated, "latency", seconds=60, endpoint="hostga")
    begin = trio.current_time()
    assert (await emulated.ask("imds", "GET", BYTES)).status == 200
    assert trio.current_time() - begin >= 0.05
    assert emulated.last.faults == ["latency", "latency"]
    assert emulated.last.microseconds >= 50_000


async def test_what_is_held_waits_for_its_release(
    emulated: Emulated, nursery: trio.Nursery
) -> None:
    add(emulated, "hold")
    replies: list[int] = []

    async def ask() -> None:
        replies.append((await emulated.ask("imds", "GET", BYTES)).status)

    nursery.start_soon(ask)
    nursery.start_soon(ask)
    await wait_until(lambda: emulated.host.held == 2)
    assert replies == []
    assert emulated.host.release() == 2
    await wait_until(lambda: len(replies) == 2)
    assert (await emulated.ask("imds", "GET", BYTES)).status == 200


@pytest.mark.parametrize("kind", ["hold", "black_hole"])
async def test_who_leaves_is_not_waited_for(emulated: Emulated, kind: str) -> None:
    add(emulated, kind)
    async with await emulated.connect("imds") as stream:
        await stream.send_all(CLOSING)
        with trio.move_on_after(0.05):
            assert await read_all(stream) == b"never"
    record = await next_record(emulated)
    assert (record.status, record.faults) == (None, [kind])
    assert emulated.host.held == 0


async def test_interim_answers_come_first(emulated: Emulated) -> None:
    add(emulated, "interim")
    reply = await emulated.ask("imds", "GET", BYTES)
    assert (reply.status, reply.interim) == (200, [103])


async def test_reset_and_close_come_before_any_answer(emulated: Emulated) -> None:
    add(emulated, "close", times=1)
    assert await emulated.raw("imds", CLOSING) == b""
    add(emulated, "reset", times=1)
    with pytest.raises(trio.BrokenResourceError):
        await emulated.raw("imds", CLOSING)
    assert [r.status for r in emulated.host.recorder.since(0, 9)] == [None, None]
    assert (await emulated.ask("imds", "GET", BYTES)).status == 200


async def test_another_status(emulated: Emulated) -> None:
    add(emulated, "status", status=503, retry_after=1, times=1)
    add(emulated, "status", status=429, body="slow down", method="GET")
    reply = await emulated.ask("imds", "GET", BYTES)
    assert (reply.status, reply.fields["retry-after"]) == (503, "1")
    assert reply.json()["error"] == "Emulated"
    reply = await emulated.ask("imds", "GET", BYTES)
    assert (reply.status, reply.body) == (429, b"slow down")
    assert (await emulated.ask("imds", "POST", "/gpa-emulator/echo")).status == 200


async def test_garbage(emulated: Emulated) -> None:
    add(emulated, "garbage")
    assert await emulated.raw("imds", CLOSING) == GARBAGE


@pytest.mark.parametrize(("after", "sent"), [(None, 500), (0, 0), (10, 10)])
async def test_an_answer_that_stops(emulated: Emulated, after: int | None, sent: int) -> None:
    rest = {} if after is None else {"after": after}
    add(emulated, "truncate", **rest)
    head, _, body = (await emulated.raw("imds", CLOSING)).partition(b"\r\n\r\n")
    assert b"Content-Length: 1000" in head
    assert len(body) == sent
    assert (emulated.last.sent, emulated.last.complete) == (sent, False)


async def test_a_chunk_that_stops_and_a_reset(emulated: Emulated) -> None:
    add(emulated, "framing", framing="chunked")
    add(emulated, "truncate", after=5, times=1)
    head, _, body = (await emulated.raw("imds", CLOSING)).partition(b"\r\n\r\n")
    assert b"Transfer-Encoding: chunked" in head
    assert body == b"3e8\r\n01234"
    add(emulated, "truncate", reset=True)
    with pytest.raises(trio.BrokenResourceError):
        await emulated.raw("imds", CLOSING)


async def test_a_body_that_drips(emulated: Emulated) -> None:
    add(emulated, "drip", bytes=400, seconds=0.01)
    begin = trio.current_time()
    reply = await emulated.ask("imds", "GET", BYTES)
    assert len(reply.body) == 1000
    assert trio.current_time() - begin >= 0.03


async def test_a_huge_status_is_cut_short_by_who_reads_it(emulated: Emulated) -> None:
    add(emulated, "garbled_status", variant="huge")
    async with await emulated.connect("wireserver") as stream:
        await stream.send_all(
            b"GET /secure-channel/status HTTP/1.1\r\nHost: x\r\nMetadata: True \r\n\r\n"
        )
        assert b"Content-Length: 67108864" in await stream.receive_some(65536)
    record = await next_record(emulated)
    assert (record.status, record.complete) == (200, False)


@pytest.mark.parametrize("framing", ["chunked", "trailers", "close"])
async def test_other_framings(emulated: Emulated, framing: str) -> None:
    add(emulated, "framing", framing=framing)
    reply = await emulated.ask("imds", "GET", BYTES)
    assert len(reply.body) == 1000
    assert "content-length" not in reply.fields
    assert ("trailer x-emulated-trailer" in reply.fields) == (framing == "trailers")
    assert emulated.last.complete


async def test_the_last_answer_says_so_and_a_dropped_connection_does_not(
    emulated: Emulated,
) -> None:
    add(emulated, "last", times=1)
    assert (await emulated.ask("imds", "GET", BYTES)).fields["connection"] == "close"
    add(emulated, "drop")
    async with await emulated.connect("imds") as stream:
        reply = await exchange(stream, h11.Connection(h11.CLIENT), "GET", BYTES)
        assert "connection" not in reply.fields
        assert await read_all(stream) == b""


async def test_bytes_that_nobody_asked_for(emulated: Emulated) -> None:
    add(emulated, "unasked")
    async with await emulated.connect("imds") as stream:
        await stream.send_all(CLOSING.replace(b"Connection: close\r\n", b""))
        received = b""
        with trio.fail_after(5):
            while not received.endswith(b"unasked"):
                received += await stream.receive_some(65536)
    assert received.count(b"HTTP/1.1 200 OK") == 2


@pytest.mark.parametrize(
    "variant",
    [
        "not_json", "empty", "truncated", "not_an_object", "wrong_types", "no_version",
        "unknown_version", "no_state", "unknown_state", "unknown_mode", "bad_guid",
    ],
)  # fmt: skip
async def test_a_garbled_status_is_wrong_in_one_way(emulated: Emulated, variant: str) -> None:
    right = (await emulated.ask("wireserver", "GET", "/secure-channel/status")).json()
    add(emulated, "garbled_status", variant=variant)
    reply = await emulated.ask("wireserver", "GET", "/secure-channel/status")
    assert reply.status == 200
    try:
        document = reply.json()
    except ValueError:
        assert variant in ("not_json", "empty", "truncated")
    else:
        assert document != right
    assert (await emulated.ask("imds", "GET", BYTES)).body != reply.body

"""The secure channel over a stream to a fake host, on a clock that jumps."""

from __future__ import annotations

import json
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from gpa.agent import host
from gpa.agent.clock import HostClock
from gpa.agent.host import HostChannel, LatchShell
from gpa.agent.latch import Latch
from gpa.errors import (
    CannotCreateError,
    HostAnswerError,
    HostError,
    HostStatusError,
    HostUnreachableError,
    KeyFileError,
)

if TYPE_CHECKING:
    import h11

G1 = "11111111-1111-1111-1111-111111111111"
G2 = "22222222-2222-2222-2222-222222222222"


def status_body(guid: str | None = None, **more: Any) -> bytes:
    document = {"version": "1.0", "secureChannelState": "WireserverAndImds", "keyGuid": guid}
    return json.dumps(document | more).encode()


def clock_ignored(host_ns: int, boottime_ns: int) -> None:
    pass


def channel_to(fake: Any, clock: HostClock | None = None) -> HostChannel:
    return HostChannel(fake.connect, clock or HostClock(), clock_ignored)


async def test_a_status_is_asked_as_the_protocol_says(
    fakes: Any, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    def handler(request: h11.Request) -> Any:
        return 200, {"Date": "Thu, 01 Jan 2026 00:00:00 GMT"}, status_body(G1)

    fake = fakes.Host(handler, nursery)
    clock = HostClock()
    status = await channel_to(fake, clock).status()
    assert status is not None
    assert status.key_guid == G1
    request = fake.seen[0]
    assert (request.method, request.target) == (b"GET", b"/secure-channel/status")
    fields = dict(request.headers)
    assert fields[b"host"] == b"168.63.129.16"
    assert fields[b"metadata"] == b"True"
    assert fields[b"x-ms-azure-host-claims"] == b'{ "isRoot": "true"}'
    assert fields[b"x-ms-azure-host-date"].endswith(b" GMT")
    assert b"x-ms-azure-host-authorization" not in fields
    assert abs(clock.unix_ns() - 1_767_225_600_000_000_000) < 60_000_000_000


async def test_the_hosts_own_date_goes_before_that_of_http(
    fakes: Any, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    def handler(request: h11.Request) -> Any:
        fields = {
            "Date": "Thu, 01 Jan 2026 00:00:00 GMT",
            "x-ms-azure-host-date": "Fri, 01 Jan 2100 00:00:00 GMT",
        }
        return 404, fields, b""

    clock = HostClock()
    assert await channel_to(fakes.Host(handler, nursery), clock).status() is None
    assert clock.date().startswith("Fri, 01 Jan 2100 00:0")


async def test_an_attestation_is_signed_over_what_is_sent(
    fakes: Any, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    fake = fakes.Host(lambda request: (200, {}, b""), nursery)
    await channel_to(fake).attest(fakes.Key(G1))
    request = fake.seen[0]
    assert request.method == b"POST"
    assert request.target == f"/secure-channel/key/{G1}/key-attestation".encode()
    fields = dict(request.headers)
    value = fields.pop(b"x-ms-azure-host-authorization").decode()
    _, guid, method, target, names, length = value.split()
    assert (guid, method, target, length) == (G1, "POST", request.target.decode(), "0")
    assert names.lower().encode().split(b",") == list(fields)
    assert fields[b"content-length"] == b"0"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"", HostUnreachableError),
        (b"SSH-2.0-x\r\n\r\n", HostAnswerError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}", HostAnswerError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", HostAnswerError),
        (b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", HostStatusError),
        (b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", HostStatusError),
        (b"HTTP/1.1 200 OK\r\nA: " + b"x" * (host.HEAD_LIMIT + 1), HostAnswerError),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n" + b"x" * (host.BODY_LIMIT + 1),
            HostAnswerError,
        ),
    ],
)
async def test_a_garbled_answer_is_an_error_of_the_host(
    answer: bytes,
    error: type[HostError],
    fakes: Any,
    nursery: trio.Nursery,
    autojump_clock: trio.testing.MockClock,
) -> None:
    with pytest.raises(error) as caught:
        await channel_to(fakes.Host(lambda request: answer, nursery)).status()
    assert len(str(caught.value)) < 300


async def test_silence_ends(autojump_clock: trio.testing.MockClock) -> None:
    async def connect() -> trio.abc.Stream:
        return trio.testing.memory_stream_pair()[0]

    begin = trio.current_time()
    with pytest.raises(HostUnreachableError, match="in time"):
        await HostChannel(connect, HostClock(), clock_ignored).status()
    assert trio.current_time() - begin == host.EXCHANGE_TIMEOUT


async def test_a_connection_that_cannot_be_exempted_is_not_made() -> None:
    def refuse(fd: int) -> None:
        assert socket.fromfd(fd, socket.AF_INET, socket.SOCK_STREAM).detach() >= 0
        raise OSError(92, "Protocol not available")

    with pytest.raises(HostUnreachableError, match="cannot be exempted"):
        await host.connect(refuse)


class Shell:
    """A latch shell with everything that it did in one list."""

    def __init__(self, fakes: Any, nursery: trio.Nursery) -> None:
        self.log: list[str] = []
        self.answers: list[Any] = []
        self.keys = fakes.Keys()
        self.keys.log = self.log
        self.latch = Latch()
        self.host = fakes.Host(self.answer, nursery)

        async def publish() -> None:
            self.log.append(f"publish {self.latch.key.guid[:2] if self.latch.key else '-'}")

        async def remember() -> None:
            self.log.append("remember")

        self.shell = LatchShell(
            self.latch,
            channel_to(self.host),
            self.keys,
            publish=publish,
            remember=remember,
            report=lambda words, trouble: self.log.append(f"{'!' if trouble else ''}{words}"),
        )

    def answer(self, request: h11.Request) -> Any:
        if request.target == b"/secure-channel/status":
            return self.answers.pop(0)
        self.log.append("attest")
        return self.answers.pop(0)

    async def round(self) -> list[str]:
        self.log.clear()
        await self.shell.round()
        return list(self.log)


@pytest.fixture
def shell(fakes: Any, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> Shell:
    return Shell(fakes, nursery)


async def test_a_first_round_latches(shell: Shell, fakes: Any) -> None:
    shell.keys.given.append(fakes.Key(G1, 1))
    shell.answers = [(200, {}, status_body()), (200, {}, b"")]
    log = await shell.round()
    assert log == [
        "publish -",
        "remember",
        "acquire",
        "attest",
        "publish 11",
        "remember",
        f"the key {G1} is latched, attested",
    ]
    shell.answers = [(200, {}, status_body(G1))]
    assert await shell.round() == ["publish 11", "remember"]
    shell.answers = [(200, {}, status_body(G1))]
    assert await shell.round() == []


async def test_a_stored_key_needs_one_question(shell: Shell, fakes: Any) -> None:
    shell.keys.stored[G1] = fakes.Key(G1)
    shell.answers = [(200, {}, status_body(G1))]
    assert await shell.round() == [
        "publish -",
        "remember",
        "load 11",
        "publish 11",
        "remember",
        f"the key {G1} is latched, from disk",
    ]
    assert shell.host.connects == 1


async def test_a_full_disk_is_one_line_and_the_key_is_not_attested(
    shell: Shell, fakes: Any
) -> None:
    shell.keys.given.append(KeyFileError("cannot store the key in /k: no space left"))
    shell.answers = [(200, {}, status_body())]
    log = await shell.round()
    assert (
        log[-1]
        == "!cannot store the key in /k: no space left; mend that, the key is asked for again"
    )
    assert "attest" not in log
    assert shell.latch.key is None
    shell.keys.given.append(fakes.Key(G1))
    shell.answers = [(200, {}, status_body()), (200, {}, b"")]
    await shell.round()
    assert shell.latch.latched


async def test_a_rejected_attestation_leaves_the_key_unused(shell: Shell, fakes: Any) -> None:
    shell.keys.given.append(fakes.Key(G1))
    shell.answers = [(200, {}, status_body()), (403, {}, b"")]
    log = await shell.round()
    assert "with 403" in log[-1]
    assert shell.latch.key is None
    shell.answers = [(200, {}, status_body()), b""]
    log = await shell.round()
    assert log[0] == "attest"
    assert shell.latch.key is None


async def test_a_broken_stored_key_is_said_and_another_asked_for(shell: Shell, fakes: Any) -> None:
    shell.keys.stored[G1] = CannotCreateError("torn")
    shell.keys.given.append(fakes.Key(G1))
    shell.answers = [(200, {}, status_body(G1)), (200, {}, b"")]
    log = await shell.round()
    assert f"!the stored key {G1} is not used: torn" in log
    assert shell.latch.latched


async def test_no_msp(shell: Shell) -> None:
    shell.answers = [(404, {}, b"")] * 3
    assert "asking once more" in (await shell.round())[0]
    assert not shell.latch.absent
    assert (await shell.round())[0] == "publish -"
    assert shell.latch.absent
    assert await shell.round() == []


async def test_the_clock_is_handed_on(
    fakes: Any, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    heard: list[tuple[int, int]] = []
    fake = fakes.Host(
        lambda request: (200, {"Date": "Thu, 01 Jan 2026 00:00:00 GMT"}, status_body()), nursery
    )
    channel = HostChannel(fake.connect, HostClock(), lambda *at: heard.append(at))
    await channel.status()
    assert heard[0][0] == 1_767_225_600_000_000_000
    assert abs(heard[0][1] - time.clock_gettime_ns(time.CLOCK_BOOTTIME)) < 60_000_000_000

"""The secure channel on the wire, and the shell that carries out what the latch decides.

HTTP/1.1 over a connection of its own for each call: three calls in fifteen seconds at most, and a
kept connection would outlive a host that is being moved. h11 over a trio stream, because the socket
must be exempted from our own interception before it connects. Nothing of an answer is believed
beyond its limits: time, size, status, form. A redirect is an answer like any other that is not 200.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import h11
import trio

from gpa.agent.channel import ChannelStatus, parse_status
from gpa.agent.clock import HostClock, parse_date
from gpa.agent.latch import Acquire, Action, Attest, Key, Latch, Load, Publish, Remember, Report
from gpa.endpoints import Endpoint
from gpa.errors import (
    GpaError,
    HostAnswerError,
    HostError,
    HostStatusError,
    HostUnreachableError,
    KeyFileError,
    KeyMissingError,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

CONNECT_TIMEOUT: Final = 5.0
EXCHANGE_TIMEOUT: Final = 10.0
"""Seconds for one call as a whole, connecting included; status is asked every 15 s."""

HEAD_LIMIT: Final = 64 << 10
BODY_LIMIT: Final = 8 << 20
"""Bytes; 10,000 privileges with their assignments are 3 MB."""

ROUND_LIMIT: Final = 8
"""Steps in one round of the latch: load, acquire and attest are three."""

STATUS_TARGET: Final = "/secure-channel/status"
CLAIMS: Final = '{ "isRoot": "true"}'


@dataclass(frozen=True)
class Answer:
    """What the host said.

    Attributes:
        status: HTTP status.
        body: all of it.
        host_unix: the host's time in seconds, None when it did not tell.
        boottime_ns: CLOCK_BOOTTIME when the head was there.
    """

    status: int
    body: bytes
    host_unix: int | None
    boottime_ns: int


class KeyStore(Protocol):
    """Where keys come from and stay; the real one is native."""

    async def load(self, guid: str) -> Key:
        """Read a stored key; raises `KeyMissingError` or another `GpaError`."""

    async def acquire(self, stream: trio.abc.Stream, date: str) -> Key:
        """Ask on a connected stream, store durably, read back; raises `GpaError`."""


async def connect(exempt: Callable[[int], None]) -> trio.SocketStream:
    """A connection to WireServer that our own interception lets through.

    Raises:
        HostUnreachableError: refused, no route, no answer, or the exemption was refused.
    """
    try:
        sock = trio.socket.socket()
    except OSError as error:  # descriptors are at an end; others that close give some back
        raise HostUnreachableError(f"no socket can be had: {error.strerror}") from error
    try:
        try:
            # First of all: a connection that is not exempt would come back to ourselves.
            exempt(sock.fileno())
        except OSError as error:
            raise HostUnreachableError(
                f"the agent's own connection cannot be exempted: {error.strerror}"
            ) from error
        with trio.fail_after(CONNECT_TIMEOUT):
            await sock.connect(Endpoint.WIRESERVER.address)
    except trio.TooSlowError:
        sock.close()
        raise HostUnreachableError("the host did not accept a connection in time") from None
    except OSError as error:
        sock.close()
        raise HostUnreachableError(
            f"the host cannot be connected to: {error.strerror or error}"
        ) from error
    except BaseException:
        sock.close()
        raise
    return trio.SocketStream(sock)


class HostChannel:
    """The three calls of the secure channel.

    Args:
        connect: makes a connected, exempted stream.
        clock: is set by each status answer.
        clock_set: called with (host's unix ns, CLOCK_BOOTTIME ns) after that.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[trio.abc.Stream]],
        clock: HostClock,
        clock_set: Callable[[int, int], None],
    ) -> None:
        self._connect = connect
        self._clock = clock
        self._clock_set = clock_set

    async def status(self) -> ChannelStatus | None:
        """Ask for the status; None when the host does not know the question (404).

        Raises:
            HostError: no answer, or one that is not valid.
        """
        answer = await self._call("GET", STATUS_TARGET, [])
        if answer.host_unix is not None:
            ns = answer.host_unix * 1_000_000_000
            self._clock.set(ns, answer.boottime_ns)
            self._clock_set(ns, answer.boottime_ns)
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise HostStatusError(
                f"the host answered the question for its status with {answer.status}",
                answer.status,
            )
        return parse_status(answer.body)

    async def acquire(self, keys: KeyStore) -> Key:
        """Have the key store ask for a key on a connection of ours.

        Raises:
            GpaError: no answer, not a key, or it could not be stored.
        """
        stream = await self._connect()
        try:
            return await keys.acquire(stream, self._clock.date())
        finally:
            await trio.aclose_forcefully(stream)

    async def attest(self, key: Key) -> None:
        """Tell the host, signed with the key, that it is stored.

        Raises:
            HostStatusError: the host answered and did not take it.
            HostError: no answer.
        """
        answer = await self._call(
            "POST",
            f"/secure-channel/key/{key.guid}/key-attestation",
            [("Content-Length", "0")],
            key,
        )
        if answer.status != 200:
            raise HostStatusError(
                f"the host answered the attestation of key {key.guid} with {answer.status}",
                answer.status,
            )

    async def _call(
        self, method: str, target: str, fields: Sequence[tuple[str, str]], key: Key | None = None
    ) -> Answer:
        sent = [
            ("Host", Endpoint.WIRESERVER.address[0]),
            ("Metadata", "True"),
            ("x-ms-azure-host-claims", CLAIMS),
            ("x-ms-azure-host-date", self._clock.date()),
            ("Connection", "close"),
            *fields,
        ]
        if key is not None:
            value = key.authorization(method, target, sent, b"")
            sent.append(("x-ms-azure-host-authorization", value))
        try:
            with trio.fail_after(EXCHANGE_TIMEOUT):
                stream = await self._connect()
                try:
                    return await _exchange(
                        stream, h11.Request(method=method, target=target, headers=sent)
                    )
                finally:
                    await trio.aclose_forcefully(stream)
        except trio.TooSlowError:
            raise HostUnreachableError("the host did not answer in time") from None
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise HostUnreachableError("the host reset the connection") from error
        except h11.RemoteProtocolError as error:
            raise HostAnswerError(f"the host's answer is not HTTP/1.1: {error}") from error


async def _exchange(stream: trio.abc.Stream, request: h11.Request) -> Answer:
    """One request without a body, one whole answer."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_LIMIT)
    data = connection.send(request)
    data_end = connection.send(h11.EndOfMessage())
    await stream.send_all((data or b"") + (data_end or b""))
    body = bytearray()
    head: h11.Response | None = None
    boottime = 0
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            received = await stream.receive_some(HEAD_LIMIT)
            if not received and head is None:
                raise HostUnreachableError("the host closed the connection without an answer")
            connection.receive_data(bytes(received))
        elif isinstance(event, h11.Response):
            head, boottime = event, time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        elif isinstance(event, h11.Data):
            if len(body) + len(event.data) > BODY_LIMIT:
                raise HostAnswerError(f"the host's answer is larger than {BODY_LIMIT} bytes")
            body += event.data
        elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
            break
    if head is None:
        raise HostUnreachableError("the host closed the connection without an answer")
    return Answer(head.status_code, bytes(body), _host_time(head), boottime)


def _host_time(head: h11.Response) -> int | None:
    """The host's own field, else the one of HTTP."""
    for name in (b"x-ms-azure-host-date", b"date"):
        for field, value in head.headers:
            if field == name and (at := parse_date(value.decode("ascii", "replace"))) is not None:
                return at
    return None


class LatchShell:
    """Carries out what the latch decides, one round at a time.

    Args:
        latch: decides.
        channel: the host.
        keys: where keys are stored.
        publish: brings modes, rules and key of the latch into force.
        remember: writes down what should survive a restart.
        report: one line for operators, and whether it is trouble.
    """

    def __init__(
        self,
        latch: Latch,
        channel: HostChannel,
        keys: KeyStore,
        *,
        publish: Callable[[], Awaitable[None]],
        remember: Callable[[], Awaitable[None]],
        report: Callable[[str, bool], None],
    ) -> None:
        self._latch = latch
        self._channel = channel
        self._keys = keys
        self._publish = publish
        self._remember = remember
        self._report = report

    async def round(self) -> None:
        """Ask the host how things stand and do what follows; never raises for the host's faults."""
        try:
            status = await self._channel.status()
        except HostError as error:
            actions = self._latch.status_failed(str(error))
        else:
            latch = self._latch
            actions = latch.status_missing() if status is None else latch.status(status)
        for _ in range(ROUND_LIMIT):
            if not actions:
                return
            actions = await self._carry_out(actions)

    async def _carry_out(self, actions: list[Action]) -> list[Action]:
        """Do them in order; returns what follows from how they went."""
        following: list[Action] = []
        published = False
        for action in actions:
            match action:
                case Report(words, trouble):
                    self._report(words, trouble)
                case Publish() if not published:
                    # One for all of this list: what it brings into force is the latch as it is now.
                    published = True
                    await self._publish()
                case Remember():
                    await self._remember()
                case Load(guid):
                    following += await self._load(guid)
                case Acquire():
                    following += await self._acquire()
                case Attest(key):
                    following += await self._attest(key)
        return following

    async def _load(self, guid: str) -> list[Action]:
        try:
            key = await self._keys.load(guid)
        except KeyMissingError:
            return self._latch.key_not_loaded(None)
        except GpaError as error:
            return self._latch.key_not_loaded(f"the stored key {guid} is not used: {error}")
        return self._latch.key_loaded(key)

    async def _acquire(self) -> list[Action]:
        try:
            return self._latch.acquired(await self._channel.acquire(self._keys))
        except KeyFileError as error:
            # A full disk, say: without the stored key nothing is attested, and nothing is signed.
            return self._latch.acquire_failed(f"{error}; mend that, the key is asked for again")
        except GpaError as error:
            return self._latch.acquire_failed(str(error))

    async def _attest(self, key: Key) -> list[Action]:
        try:
            await self._channel.attest(key)
        except HostStatusError as error:
            return self._latch.attest_failed(str(error), rejected=400 <= error.status < 500)
        except HostError as error:
            return self._latch.attest_failed(str(error), rejected=False)
        return self._latch.attested()

"""One client's connection: requests in turn, each read, judged, answered (or spoiled), recorded."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import struct
import time
from functools import partial
from typing import TYPE_CHECKING, Final

import h11
import trio

from gpa.emulator import sending
from gpa.emulator.dates import iso_date
from gpa.emulator.faults import (
    BlackHoleFault,
    CloseFault,
    HoldFault,
    LatencyFault,
    ResetFault,
    kind,
)
from gpa.emulator.host import KEPT_BODY, Body
from gpa.emulator.message import Request, error_answer
from gpa.emulator.records import Record

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from gpa.emulator.faults import Fault
    from gpa.emulator.host import Host
    from gpa.emulator.judge import Examination
    from gpa.emulator.message import EndpointName

IDLE_SECONDS: Final = 180.0
"""A kept connection without a request; longer than agents keep theirs."""

BODY_SECONDS: Final = 60.0
"""Without a byte of a body that was announced."""

MAX_HEAD: Final = 160 << 10
"""An agent lets 64 KiB of fields through and adds three of its own; a host must take that."""

READ_BYTES: Final = 128 << 10

LINGER_SECONDS: Final = 1.0
"""Reading on after the last answer, so that a reset does not overtake it."""


class EndedError(Exception):
    """Nothing more is to be done on this connection."""


class Connection:
    """Serves one accepted stream."""

    def __init__(
        self, host: Host, endpoint: EndpointName, stream: trio.SocketStream, number: int, peer: str
    ) -> None:
        self._host = host
        self._endpoint = endpoint
        self._stream = stream
        self._number = number
        self._peer = peer
        self._requests = 0
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)

    async def serve(self) -> None:
        """Until the client leaves, or a fault ends it."""
        try:
            while True:
                with trio.fail_after(IDLE_SECONDS):
                    event = await self._event()
                if not isinstance(event, h11.Request):
                    return
                await self._exchange(event)
                if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
                    await self._linger()
                    return
                self._http.start_next_cycle()
        except h11.RemoteProtocolError as error:
            await self._refuse(error)
        except (EndedError, OSError, trio.BrokenResourceError, trio.TooSlowError):
            pass
        finally:
            await trio.aclose_forcefully(self._stream)

    async def _event(self) -> h11.Event | type[h11.PAUSED]:
        while True:
            event = self._http.next_event()
            if event is not h11.NEED_DATA:
                return event  # type: ignore[return-value] # NEED_DATA is taken out above
            self._http.receive_data(await self._stream.receive_some(READ_BYTES))

    async def _exchange(self, head: h11.Request) -> None:
        begin = time.perf_counter()
        request = Request(self._endpoint, head.method, head.target, tuple(head.headers))
        record = self._record(request)
        faults = self._host.faults.take(request)
        record.faults = [kind(fault) for fault in faults]
        try:
            await self._answer(request, record, faults)
        finally:
            record.microseconds = int((time.perf_counter() - begin) * 1e6)
            self._host.recorder.add(record)

    def _record(self, request: Request) -> Record:
        self._requests += 1
        return Record(
            time=iso_date(self._host.now()),
            endpoint=request.endpoint,
            peer=self._peer,
            connection=self._number,
            request=self._requests,
            method=request.verb,
            target=request.target.decode("latin-1"),
            fields=[name.decode("latin-1") for name, _ in request.fields],
            mode=self._host.channel.mode(request.endpoint),
        )

    async def _answer(self, request: Request, record: Record, faults: list[Fault]) -> None:
        self._end_at_once(faults)
        examination = self._host.judge.examine(request)
        # A body that nobody needs is not asked for.
        if self._http.they_are_waiting_for_100_continue and examination.is_unsigned:
            body = Body()
            judgement = examination.judge()
            if not self._host.refuses(request, judgement):
                body = await self._body(examination, record)
        else:
            body = await self._body(examination, record)
            judgement = examination.judge()
        record.signature, record.why = judgement.verdict.value, judgement.words
        record.key, record.is_root = judgement.key, judgement.is_root
        record.skew = judgement.skew
        await self._wait(faults)
        answer = self._host.answer(request, body, judgement, faults)
        channel = sending.Sender(self._stream, self._http, self._host, self._endpoint, record)
        await channel.send(answer, faults)

    def _end_at_once(self, faults: list[Fault]) -> None:
        for fault in faults:
            if isinstance(fault, ResetFault):
                reset(self._stream)
                raise EndedError
            if isinstance(fault, CloseFault):
                raise EndedError

    async def _body(self, examination: Examination, record: Record) -> Body:
        if self._http.they_are_waiting_for_100_continue:
            go_on = h11.InformationalResponse(status_code=100, headers=[], reason="Continue")
            await self._stream.send_all(self._http.send(go_on) or b"")
        digest = hashlib.sha256()
        kept = bytearray()
        while True:
            with trio.fail_after(BODY_SECONDS):
                event = await self._event()
            if not isinstance(event, h11.Data):
                break
            piece = bytes(event.data)
            examination.update(piece)
            digest.update(piece)
            kept += piece[: KEPT_BODY - len(kept)]
            record.body += len(piece)
        if record.body:
            record.digest = digest.hexdigest()
        return Body(bytes(kept), record.body, record.digest)

    async def _wait(self, faults: list[Fault]) -> None:
        """All that comes before the first byte of the answer."""
        seconds = self._host.latency(self._endpoint)
        seconds += sum(fault.seconds for fault in faults if isinstance(fault, LatencyFault))
        if seconds:
            await self._unless_left(partial(trio.sleep, seconds))
        for fault in faults:
            if isinstance(fault, HoldFault):
                await self._unless_left(self._host.hold)
            elif isinstance(fault, BlackHoleFault):
                await self._unless_left(trio.sleep_forever)

    async def _unless_left(self, wait: Callable[[], Awaitable[None]]) -> None:
        """Wait, but not for a client that is gone.

        Raises:
            EndedError: it is.
        """
        left = False

        async def watch(scope: trio.CancelScope) -> None:
            nonlocal left
            await self._until_left()
            left = True
            scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch, nursery.cancel_scope)
            await wait()
            nursery.cancel_scope.cancel()
        if left:
            raise EndedError

    async def _until_left(self) -> None:
        sock = self._stream.socket
        await trio.lowlevel.wait_readable(sock)
        try:
            if await sock.recv(1, socket.MSG_PEEK) == b"":
                return
        except OSError:
            return
        await trio.sleep_forever()  # the next request, which waits its turn

    async def _refuse(self, error: h11.RemoteProtocolError) -> None:
        """What is not HTTP/1.1: said, recorded, closed."""
        # h11 quotes what it could not read after a colon, and that may be a signature.
        words = str(error).partition(":")[0]
        answer = error_answer(error.error_status_hint, "BadRequest", words)
        request = Request(self._endpoint, b"", b"", ())
        record = self._record(request)
        record.why = words
        try:
            if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                channel = sending.Sender(
                    self._stream, self._http, self._host, self._endpoint, record
                )
                await channel.send(answer, [])
        except (OSError, trio.BrokenResourceError, trio.TooSlowError):
            return
        finally:
            self._host.recorder.add(record)
        await self._linger()

    async def _linger(self) -> None:
        """Say that nothing more comes, and read what is still on the way."""
        with contextlib.suppress(OSError, trio.BrokenResourceError):
            await self._stream.send_eof()
            with trio.move_on_after(LINGER_SECONDS):
                while await self._stream.receive_some(READ_BYTES):
                    pass


def reset(stream: trio.SocketStream) -> None:
    """Let the close that follows be a reset."""
    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

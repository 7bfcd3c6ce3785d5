"""An answer onto the wire, whole or spoiled."""

from __future__ import annotations

import socket
import struct
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import h11
import trio

from gpa.emulator.dates import http_date
from gpa.emulator.faults import (
    DripFault,
    DropFault,
    FramingFault,
    GarbageFault,
    InterimFault,
    LastFault,
    TruncateFault,
    UnaskedFault,
)
from gpa.emulator.host import SERVERS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpa.emulator.faults import Fault
    from gpa.emulator.host import Host
    from gpa.emulator.message import Answer, EndpointName
    from gpa.emulator.records import Record

SEND_SECONDS: Final = 60.0
"""A client that takes nothing for so long is given up."""

GARBAGE: Final = b"\x16\x03\x01 this is not HTTP\x00\xff\r\n\r\n" * 8

UNASKED: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nunasked"

_NO_BODY: Final = (204, 304)


class SpoiledError(trio.BrokenResourceError):
    """The connection ends here, as a fault wants it."""


class Sender:
    """Sends one answer; `record` learns how far it got."""

    def __init__(
        self,
        stream: trio.SocketStream,
        http: h11.Connection,
        host: Host,
        endpoint: EndpointName,
        record: Record,
    ) -> None:
        self._stream = stream
        self._http = http
        self._host = host
        self._endpoint = endpoint
        self._record = record

    async def send(self, answer: Answer, faults: list[Fault]) -> None:
        """Send the answer with what the faults make of it.

        Raises:
            SpoiledError: a fault ended the connection.
        """
        spoil = {type(fault): fault for fault in reversed(faults)}
        if GarbageFault in spoil:
            await self._put(GARBAGE)
            raise SpoiledError
        if InterimFault in spoil and not self._is_http10():
            early = h11.InformationalResponse(
                status_code=103, headers=[("Link", "</>; rel=preload")], reason="Early Hints"
            )
            await self._put(self._http.send(early) or b"")
        framing = spoil.get(FramingFault)
        if isinstance(framing, FramingFault):
            answer = _framed(answer, framing)
        truncate = spoil.get(TruncateFault)
        drip = spoil.get(DripFault)
        head = self._head(answer, last=LastFault in spoil)
        self._record.status = answer.status
        if isinstance(truncate, TruncateFault):
            await self._truncated(answer, head, truncate)
        elif answer.framing == "close" and self._has_body(answer):
            await self._until_close(answer, head)
        else:
            await self._framed_body(answer, head, drip if isinstance(drip, DripFault) else None)
        self._record.complete = True
        if UnaskedFault in spoil:
            await self._put(UNASKED)
        if DropFault in spoil:
            raise SpoiledError

    def _head(self, answer: Answer, *, last: bool) -> h11.Response:
        fields = [
            ("Date", http_date(self._host.now())),
            ("Server", SERVERS[self._endpoint]),
            *answer.fields,
        ]
        if answer.content_type is not None:
            fields.append(("Content-Type", answer.content_type))
        if answer.framing == "length" and answer.status not in _NO_BODY:
            fields.append(("Content-Length", str(answer.length)))
        if answer.trailers:
            fields.append(("Trailer", ", ".join(name for name, _ in answer.trailers)))
        unread = self._http.their_state not in (h11.DONE, h11.MUST_CLOSE, h11.CLOSED)
        if last or unread or answer.framing == "close":
            fields.append(("Connection", "close"))
        reason = HTTPStatus(answer.status).phrase if answer.status in _KNOWN else "Emulated"
        return h11.Response(status_code=answer.status, headers=fields, reason=reason)

    async def _framed_body(
        self, answer: Answer, head: h11.Response, drip: DripFault | None
    ) -> None:
        """With Content-Length or in chunks; a small one goes out with its head in one piece."""
        waiting = self._http.send(head) or b""
        in_chunks = answer.framing == "chunked" and not self._is_http10()
        trailers = answer.trailers if in_chunks and self._has_body(answer) else ()
        end = h11.EndOfMessage(headers=list(trailers))
        if self._has_body(answer):
            for piece in _dripped(answer, drip):
                if drip is not None:
                    await self._put(waiting)
                    waiting = b""
                    await trio.sleep(drip.seconds)
                waiting += self._http.send(h11.Data(data=piece)) or b""
                if len(waiting) >= _TOGETHER:
                    await self._put(waiting)
                    waiting = b""
                self._record.sent += len(piece)
        waiting += self._http.send(end) or b""
        if waiting:
            await self._put(waiting)

    async def _until_close(self, answer: Answer, head: h11.Response) -> None:
        """The end of the connection is the end of the body, which h11 would frame in chunks."""
        await self._put(_head_bytes(head))
        for piece in answer.pieces():
            await self._put(piece)
            self._record.sent += len(piece)
        self._record.complete = True
        await self._stream.send_eof()
        raise SpoiledError

    async def _truncated(self, answer: Answer, head: h11.Response, fault: TruncateFault) -> None:
        """The head promises more than comes."""
        left = answer.length // 2 if fault.after is None else fault.after
        if answer.framing == "chunked":
            await self._put(_head_bytes(head, (b"Transfer-Encoding", b"chunked")))
            await self._put(b"%x\r\n" % answer.length)
        else:
            await self._put(_head_bytes(head))
        for piece in answer.pieces():
            await self._put(piece[:left])
            self._record.sent += min(left, len(piece))
            left -= len(piece)
            if left <= 0:
                break
        if fault.reset:
            self._stream.socket.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
        raise SpoiledError

    def _has_body(self, answer: Answer) -> bool:
        return self._record.method != "HEAD" and answer.status not in _NO_BODY

    def _is_http10(self) -> bool:
        return self._http.their_http_version == b"1.0"

    async def _put(self, data: bytes) -> None:
        with trio.fail_after(SEND_SECONDS):
            await self._stream.send_all(data)


_TOGETHER: Final = 32 << 10
"""Below this, head and body go out in one piece."""

_KNOWN: Final = frozenset(status.value for status in HTTPStatus)


def _framed(answer: Answer, fault: FramingFault) -> Answer:
    if fault.framing == "trailers":
        return replace(answer, framing="chunked", trailers=(("X-Emulated-Trailer", "end"),))
    return replace(answer, framing=fault.framing)


def _dripped(answer: Answer, drip: DripFault | None) -> Iterator[bytes]:
    for piece in answer.pieces():
        if drip is None:
            yield piece
            continue
        for start in range(0, len(piece), drip.bytes):
            yield piece[start : start + drip.bytes]


def _head_bytes(head: h11.Response, *more: tuple[bytes, bytes]) -> bytes:
    lines = [b"HTTP/1.1 %d %s" % (head.status_code, head.reason)]
    lines += [name + b": " + value for name, value in (*head.headers.raw_items(), *more)]
    return b"\r\n".join(lines) + b"\r\n\r\n"

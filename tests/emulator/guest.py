"""The guest's side for tests of the host: a client, and signatures by a third hand (hashlib's)."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import h11
import trio

from gpa.emulator.dates import http_date
from gpa.emulator.message import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gpa.emulator.host import Host
    from gpa.emulator.message import EndpointName
    from gpa.emulator.server import Server

NOW = 1_767_225_600.0  # Thu, 01 Jan 2026 00:00:00 GMT

Fields = list[tuple[str, str]]


@dataclass
class Clock:
    """Stands still until it is moved."""

    now: float = NOW

    def __call__(self) -> float:
        return self.now


@dataclass
class Reply:
    status: int
    fields: dict[str, str]
    body: bytes
    interim: list[int] = field(default_factory=list)

    def json(self) -> Any:
        return json.loads(self.body)


def sign(
    key: str, guid: str, method: str, target: str, fields: Sequence[tuple[str, str]], body: bytes
) -> str:
    """The authorization field, written down from docs/protocol.md once more."""
    path, _, query = target.partition("?")
    last = {name.lower(): value.strip() for name, value in fields}
    lines = [f"{name}:{last[name]}" for name in sorted(last)]
    pairs = {
        (piece.partition("=")[0].lower(), piece.partition("=")[2]) for piece in query.split("&")
    }
    ordered = sorted((pair for pair in pairs if pair[0]), key=lambda pair: pair[0] + pair[1])
    parameters = "&".join(f"{name}={value}" if value else name for name, value in ordered)
    message = f"{method}\n".encode() + body + b"\n" + "\n".join([*lines, path, parameters]).encode()
    digest = hmac.new(bytes.fromhex(key), message, hashlib.sha256).hexdigest()
    return f"Azure-HMAC-SHA256 {guid} {digest}"


def signed(
    key: dict[str, Any],
    method: str,
    target: str,
    *,
    date: float = NOW,
    is_root: bool = True,
    more: Sequence[tuple[str, str]] = (),
    body: bytes = b"",
    host: str = "169.254.169.254",
) -> Fields:
    """Fields as an agent sends them; `key` is the host's answer to acquire."""
    fields: Fields = [
        ("Host", host),
        ("Metadata", "true"),
        *more,
        ("x-ms-azure-host-claims", f'{{ "isRoot": "{str(is_root).lower()}"}}'),
        ("x-ms-azure-host-date", http_date(date)),
    ]
    if body:
        fields.append(("Content-Length", str(len(body))))
    authorization = sign(key["key"], key["guid"], method, target, fields, body)
    return [*fields, ("x-ms-azure-host-authorization", authorization)]


def request(
    endpoint: EndpointName, method: str, target: str, fields: Sequence[tuple[str, str]] = ()
) -> Request:
    """A request as the connection hands it on."""
    return Request(
        endpoint,
        method.encode(),
        target.encode(),
        tuple((name.lower().encode(), value.strip().encode()) for name, value in fields),
    )


@dataclass
class Emulated:
    """A host that listens on loopback, and a client for it."""

    host: Host
    server: Server

    async def connect(self, endpoint: EndpointName) -> trio.SocketStream:
        address, _, port = self.server.places[endpoint].partition(":")
        return await trio.open_tcp_stream(address, int(port))

    async def ask(
        self,
        endpoint: EndpointName,
        method: str,
        target: str,
        fields: Sequence[tuple[str, str]] = (("Host", "x"), ("Metadata", "true")),
        body: bytes = b"",
    ) -> Reply:
        """A request on a connection of its own."""
        before = self.host.recorder.last
        async with await self.connect(endpoint) as stream:
            http = h11.Connection(h11.CLIENT)
            reply = await exchange(stream, http, method, target, fields, body)
        await wait_until(lambda: self.host.recorder.last > before)
        return reply

    async def latch(self) -> dict[str, Any]:
        """Acquire a key and attest it."""
        content = b'{"authorizationScheme": "Azure-HMAC-SHA256"}'
        fields = [("Host", "x"), ("Metadata", "True"), ("Content-Length", str(len(content)))]
        reply = await self.ask("wireserver", "POST", "/secure-channel/key", fields, content)
        key: dict[str, Any] = reply.json()
        target = f"/secure-channel/key/{key['guid']}/key-attestation"
        more = [("Content-Length", "0")]
        reply = await self.ask("wireserver", "POST", target, signed(key, "POST", target, more=more))
        assert reply.status == 200, reply
        return key

    async def raw(self, endpoint: EndpointName, data: bytes) -> bytes:
        """All that comes back for these bytes, until the host closes."""
        before = self.host.recorder.last
        async with await self.connect(endpoint) as stream:
            await stream.send_all(data)
            received = await read_all(stream)
        await wait_until(lambda: self.host.recorder.last > before)
        return received

    @property
    def last(self) -> Any:
        """The latest record."""
        return self.host.recorder.since(0, 100_000)[-1]


async def wait_until(done: Callable[[], bool]) -> None:
    """For what another task does; looks each millisecond, for at most 5 s."""
    for _ in range(5000):
        if done():
            return
        await trio.sleep(0.001)
    raise TimeoutError


async def read_all(stream: trio.SocketStream) -> bytes:
    received = b""
    with trio.fail_after(10):
        while piece := await stream.receive_some(65536):
            received += piece
    return received


async def exchange(
    stream: trio.SocketStream,
    http: h11.Connection,
    method: str,
    target: str,
    fields: Sequence[tuple[str, str]] = (("Host", "x"), ("Metadata", "true")),
    body: bytes = b"",
) -> Reply:
    """One request and its answer; the connection can be used again after `start_next_cycle`."""
    fields = list(fields)
    if body and not {"content-length", "transfer-encoding"} & {n.lower() for n, _ in fields}:
        fields.append(("Content-Length", str(len(body))))
    await stream.send_all(
        http.send(h11.Request(method=method, target=target, headers=fields)) or b""
    )
    interim: list[int] = []
    if not http.they_are_waiting_for_100_continue and not any(
        n.lower() == "expect" for n, _ in fields
    ):
        for start in range(0, len(body), 65536):
            await stream.send_all(http.send(h11.Data(data=body[start : start + 65536])) or b"")
        await stream.send_all(http.send(h11.EndOfMessage()) or b"")
    reply: Reply | None = None
    content = bytearray()
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(await stream.receive_some(65536))
        elif isinstance(event, h11.InformationalResponse):
            interim.append(event.status_code)
            if event.status_code == 100:
                await stream.send_all(http.send(h11.Data(data=body)) or b"")
                await stream.send_all(http.send(h11.EndOfMessage()) or b"")
        elif isinstance(event, h11.Response):
            names = {name.decode(): value.decode() for name, value in event.headers}
            reply = Reply(event.status_code, names, b"", interim)
        elif isinstance(event, h11.Data):
            content += event.data
        else:
            assert reply is not None
            reply.body = bytes(content)
            if isinstance(event, h11.EndOfMessage):
                reply.fields |= {f"trailer {n.decode()}": v.decode() for n, v in event.headers}
            return reply

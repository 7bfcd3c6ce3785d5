"""The control API: JSON over HTTP on a Unix socket that only its owner may open (docs/emulator.md).

One request a connection, so that curl, a test and a shell script all find it easy.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, unquote

import h11
import msgspec
import trio

from gpa.emulator.commands import CommandError, Commands
from gpa.errors import CannotCreateError

if TYPE_CHECKING:
    from pathlib import Path

    from gpa.emulator.server import Server

MAX_BODY: Final = 4 << 20
"""A scenario of ten thousand rules fits."""

REQUEST_SECONDS: Final = 75.0
"""For a request in all; the longest wait for records is 60 s."""

_PEER: Final = struct.Struct("3i")  # pid, uid, gid of struct ucred


def open_socket(path: Path) -> socket.socket:
    """The socket, 0600; one that a dead emulator left is replaced.

    Raises:
        CannotCreateError: something else is there, somebody listens, or it cannot be made.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _clear(path)
        before = os.umask(0o177)  # there is no moment in which others could connect
        try:
            sock.bind(os.fspath(path))
        finally:
            os.umask(before)
        sock.listen(64)
    except OSError as error:
        sock.close()
        raise CannotCreateError(f"cannot make {path}: {error.strerror or error}") from error
    except CannotCreateError:
        sock.close()
        raise
    return sock


def _clear(path: Path) -> None:
    try:
        info = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(info.st_mode):
        raise CannotCreateError(f"{path} is there and is no socket: choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        if probe.connect_ex(os.fspath(path)) == 0:
            raise CannotCreateError(f"another emulator listens on {path}: choose another path")
    path.unlink()


async def serve(sock: socket.socket, server: Server) -> None:
    """Serve the API on an open socket until cancelled."""
    sock.setblocking(False)
    listener = trio.SocketListener(trio.socket.from_stdlib_socket(sock))
    commands = Commands(server)

    async def handle(stream: trio.SocketStream) -> None:
        try:
            with trio.move_on_after(REQUEST_SECONDS):
                await _serve_one(stream, commands)
        except (OSError, trio.BrokenResourceError, h11.ProtocolError):
            pass
        finally:
            await trio.aclose_forcefully(stream)

    await trio.serve_listeners(handle, [listener])


async def _serve_one(stream: trio.SocketStream, commands: Commands) -> None:
    if not _is_ours(stream):
        return
    http = h11.Connection(h11.SERVER)
    try:
        received = await _receive(stream, http)
        if received is None:
            return
        status, document = await _run(commands, *received)
    except h11.RemoteProtocolError as error:
        if http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        status, document = error.error_status_hint, {"error": str(error)}
    body = msgspec.json.encode(document) + b"\n"
    head = h11.Response(
        status_code=status,
        headers=[
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
            ("Connection", "close"),
        ],
    )
    events: tuple[h11.Event, ...] = (head, h11.Data(data=body), h11.EndOfMessage())
    await stream.send_all(b"".join(http.send(event) or b"" for event in events))
    await stream.send_eof()


def _is_ours(stream: trio.SocketStream) -> bool:
    """Root's or our own user's process: the mode of the socket says so already, the kernel too."""
    data = stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    return _PEER.unpack(data)[1] in (0, os.geteuid())


async def _receive(
    stream: trio.SocketStream, http: h11.Connection
) -> tuple[str, str, dict[str, str], bytes] | None:
    head: h11.Request | None = None
    body = bytearray()
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            if http.they_are_waiting_for_100_continue:
                go_on = h11.InformationalResponse(status_code=100, headers=[])
                await stream.send_all(http.send(go_on) or b"")
            http.receive_data(await stream.receive_some(65536))
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > MAX_BODY:
                raise h11.RemoteProtocolError("the body is too large", 413)
        elif head is None:
            return None
        else:
            break
    path, _, query = head.target.decode("latin-1").partition("?")
    return head.method.decode(), unquote(path), dict(parse_qsl(query)), bytes(body)


async def _run(
    commands: Commands, method: str, path: str, query: dict[str, str], body: bytes
) -> tuple[int, object]:
    try:
        return 200, await commands.run(method, path, query, body)
    except CommandError as error:
        return error.status, {"error": str(error)}

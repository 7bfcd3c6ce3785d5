"""Paths below `/gpa-emulator/` that no real host has: answers of any size, an echo, any status.

They are judged like every other request, so a test can send what it likes through an agent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from gpa.emulator.message import Answer, error_answer, json_answer
from gpa.emulator.signature import AUTHORIZATION

if TYPE_CHECKING:
    from gpa.emulator.message import Framing, Request

PREFIX: Final = "/gpa-emulator/"

MAX_SIZE: Final = 1 << 40
"""Of `bytes?size=`: nothing of it is held, this only keeps typing errors out."""


def answer(request: Request, size: int, digest: str | None) -> Answer:
    """`size` and `digest` (SHA-256) are of the request's body."""
    match request.path.removeprefix(PREFIX):
        case "bytes":
            return _bytes(request)
        case "echo":
            return _echo(request, size, digest)
        case "status":
            return _status(request)
    return error_answer(404, "NotFound", "there are bytes, echo and status")


def _bytes(request: Request) -> Answer:
    size = _number(request, "size", 1024, MAX_SIZE)
    framing = request.parameter("framing") or "length"
    if size is None or framing not in ("length", "chunked", "close"):
        return error_answer(400, "BadRequest", "size is a number, framing length, chunked or close")
    return Answer(
        200,
        size=size,
        content_type="application/octet-stream",
        framing=cast("Framing", framing),
    )


def _echo(request: Request, size: int, digest: str | None) -> Answer:
    """What arrived, without the signature."""
    return json_answer(
        {
            "endpoint": request.endpoint,
            "method": request.verb,
            "target": request.target.decode("latin-1"),
            "fields": [
                [name.decode("latin-1"), value.decode("latin-1")]
                for name, value in request.fields
                if name != AUTHORIZATION
            ],
            "body": size,
            "digest": digest,
        }
    )


def _status(request: Request) -> Answer:
    code = _number(request, "code", 200, 599)
    if code is None or code < 200:
        return error_answer(400, "BadRequest", "code is a status from 200 to 599")
    return Answer(code)


def _number(request: Request, name: str, default: int, most: int) -> int | None:
    text = request.parameter(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdecimal() or len(text) > 15 or int(text) > most:
        return None
    return int(text)

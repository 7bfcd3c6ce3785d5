"""What arrives and what goes back, as values: requests with their fields as sent, answers."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterable

EndpointName = Literal["imds", "wireserver", "hostga"]
ENDPOINTS: Final[tuple[EndpointName, ...]] = ("imds", "wireserver", "hostga")

Framing = Literal["length", "chunked", "close"]

PATTERN: Final = b"0123456789abcdef" * 4096
"""What large answers are made of: byte n is `PATTERN[n % 16]`."""


@dataclass(frozen=True, slots=True)
class Request:
    """The head of a request.

    Attributes:
        endpoint: where it arrived.
        method, target: as on the wire.
        fields: names in lower case and trimmed values, in the order sent.
    """

    endpoint: EndpointName
    method: bytes
    target: bytes
    fields: tuple[tuple[bytes, bytes], ...]

    @property
    def verb(self) -> str:
        """The method as text."""
        return self.method.decode("latin-1")

    @property
    def path(self) -> str:
        """Decoded once, in lower case: the services of the host do not care about letters."""
        return unquote(self.raw_path.decode("latin-1")).lower()

    @property
    def raw_path(self) -> bytes:
        """As on the wire, without the query."""
        return self.target.partition(b"?")[0]

    @property
    def raw_query(self) -> bytes:
        """As on the wire, empty when there is none."""
        return self.target.partition(b"?")[2]

    def values(self, name: bytes) -> list[bytes]:
        """Every value of a field; `name` in lower case."""
        return [value for other, value in self.fields if other == name]

    def value(self, name: bytes) -> str | None:
        """The last value of a field."""
        values = self.values(name)
        return values[-1].decode("latin-1") if values else None

    def parameter(self, name: str) -> str | None:
        """The first value of a query parameter, decoded once; names in any case of letters."""
        for piece in self.raw_query.decode("latin-1").split("&"):
            key, _, value = piece.partition("=")
            if unquote(key).lower() == name:
                return unquote(value)
        return None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a service answers.

    Attributes:
        fields: beyond Date, Server, Content-Type and the framing.
        size: a body of so many bytes of `PATTERN` instead of `body`.
        framing: how the end of the body is told.
        trailers: with chunked framing, sent after the body.
    """

    status: int
    body: bytes = b""
    content_type: str | None = None
    fields: tuple[tuple[str, str], ...] = ()
    size: int | None = None
    framing: Framing = "length"
    trailers: tuple[tuple[str, str], ...] = field(default=())

    @property
    def length(self) -> int:
        """Of the body, in bytes."""
        return len(self.body) if self.size is None else self.size

    def pieces(self) -> Iterable[bytes]:
        """The body in pieces of at most 64 KiB."""
        if self.size is None:
            for start in range(0, len(self.body), len(PATTERN)):
                yield self.body[start : start + len(PATTERN)]
            return
        left = self.size
        while left > 0:
            yield PATTERN[:left]
            left -= len(PATTERN)


def json_answer(
    document: object, status: int = 200, fields: tuple[tuple[str, str], ...] = ()
) -> Answer:
    """A JSON document."""
    body = json.dumps(document, separators=(",", ":")).encode()
    return Answer(status, body, "application/json; charset=utf-8", fields)


def text_answer(text: str, status: int = 200) -> Answer:
    """Plain text."""
    return Answer(status, text.encode(), "text/plain; charset=utf-8")


def xml_answer(text: str, status: int = 200) -> Answer:
    """An XML document."""
    return Answer(status, text.encode(), "text/xml; charset=utf-8")


def error_answer(
    status: int, error: str, words: str, fields: tuple[tuple[str, str], ...] = ()
) -> Answer:
    """An error in the flat form that the SDKs of the cloud show to their users."""
    return json_answer({"error": error, "error_description": words}, status, fields)

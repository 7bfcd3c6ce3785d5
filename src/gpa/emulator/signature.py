"""The signature of a request, computed a second time (docs/protocol.md, "Signature").

Written from the protocol, not from the agent's code, over an HMAC that is not ours either. The body
comes second in the message and the fields after it, so a body of any size is taken piece by piece.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gpa.emulator.message import Request

SCHEME: Final = "Azure-HMAC-SHA256"
AUTHORIZATION: Final = b"x-ms-azure-host-authorization"


class Signature:
    """The message of one request on its way into the MAC: body pieces first, then `verify`."""

    def __init__(self, secret: bytes, request: Request) -> None:
        self._request = request
        self._mac = HMAC(secret, SHA256())
        self._mac.update(request.method + b"\n")

    def update(self, piece: bytes) -> None:
        """The next bytes of the raw body."""
        self._mac.update(piece)

    def verify(self, signature: bytes) -> bool:
        """True when this is the signature, 32 bytes; ends the use of this object."""
        self._finish()
        try:
            self._mac.verify(signature)
        except InvalidSignature:
            return False
        return True

    def sign(self) -> str:
        """The signature in lower-case hex, for those who test the judge."""
        self._finish()
        return self._mac.finalize().hex()

    def _finish(self) -> None:
        self._mac.update(b"\n" + tail(self._request))


def tail(request: Request) -> bytes:
    """What follows the body in the message: fields, path, parameters."""
    lines = [name + b":" + value for name, value in canonical_fields(request.fields)]
    lines += [request.raw_path, canonical_parameters(request.raw_query)]
    return b"\n".join(lines)


def canonical_fields(fields: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Names in lower case, by byte; values trimmed; the last of a repeated one; ours left out."""
    last = {name.lower(): value.strip(b" \t") for name, value in fields}
    last.pop(AUTHORIZATION, None)
    return sorted(last.items())


def canonical_parameters(query: bytes) -> bytes:
    """Names in lower case, values as they are, each pair once, sorted by both as one text."""
    pairs: dict[tuple[bytes, bytes], None] = {}  # a set that keeps the order of arrival
    for piece in query.split(b"&"):
        name, _, value = piece.partition(b"=")
        if name:
            pairs[name.lower(), value] = None
    ordered = sorted(pairs, key=b"".join)
    return b"&".join(name + b"=" + value if value else name for name, value in ordered)

"""What becomes of the bytes of a connection: a plain reading of docs/protocol.md and RFC 9112.

Independent of the relay: regular expressions on whole messages, no state. Good for callers that are
root, and for rules that allow everything.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal
from unicodedata import category, normalize
from urllib.parse import unquote_to_bytes

ADDRESS: Final = {"imds": "169.254.169.254", "wireserver": "168.63.129.16"}
METHODS: Final = {b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH"}
MIB: Final = 1 << 20
TARGET, SECTION, FIELDS, HELD, STREAMED = 8 << 10, 64 << 10, 128, 8 * MIB, 100 * MIB
OURS: Final = {
    b"x-ms-azure-host-claims",
    b"x-ms-azure-host-date",
    b"x-ms-azure-host-authorization",
}
FRAMING: Final = {b"content-length", b"transfer-encoding"}
TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"


@dataclass(frozen=True)
class Sent:
    """A request that the host gets."""

    method: bytes
    target: bytes
    body: bytes


Outcome = Sent | int | Literal["wait"]
"""Sent on, refused with a status, or not yet whole."""


class RefusedError(Exception):
    """With a status."""

    def __init__(self, status: int) -> None:
        self.status = status


class IncompleteError(Exception):
    """More bytes are needed."""


def outcomes(stream: bytes, endpoint: str) -> list[Outcome]:
    """What becomes of each request in the bytes, up to the one that ends the connection."""
    found: list[Outcome] = []
    while stream:
        try:
            sent, stream, close = _one(stream, endpoint)
        except RefusedError as refused:
            return [*found, refused.status]
        except IncompleteError:
            return [*found, "wait"]
        found.append(sent)
        if close:
            break
    return found


def _line(data: bytes) -> tuple[bytes, bytes]:
    """The line before the first LF, which must end with the only CR."""
    line, lf, rest = data.partition(b"\n")
    if re.search(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?!\Z)", line):
        raise RefusedError(400)
    if not lf:
        raise IncompleteError
    if not line.endswith(b"\r"):
        raise RefusedError(400)
    return line[:-1], rest


def _one(stream: bytes, endpoint: str) -> tuple[Sent, bytes, bool]:
    if start := re.match(TOKEN + rb" [!-\"$-~]{%d}(?! )." % TARGET, stream, re.DOTALL):
        raise RefusedError(414 if re.match(rb"[!-\"$-~]", start[0][-1:]) else 400)
    begun = rb"(?s)[!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}(?:\Z| [!-\"$-~]*(?:\Z| .{0,9}\Z))"
    if b"\n" not in stream and not re.match(begun, stream):
        raise RefusedError(400)  # no request begins so
    line, rest = _line(stream)
    parts = re.fullmatch(rb"(%s) ([!-\"$-~]+) HTTP/1\.([01])" % TOKEN, line)
    if not parts or len(parts[1]) > 32:
        raise RefusedError(400)
    method, target, old = parts[1], parts[2], parts[3] == b"0"
    absolute = re.match(rb"(?i)http://([^/]*)(?=/)", target)
    if absolute and not _is_authority(absolute[1]):
        if method in METHODS:
            raise RefusedError(400)
        absolute = None  # what a method that nobody knows asks for may look like anything
    origin = target[absolute.end() :] if absolute else target
    if not origin.startswith(b"/") and method in METHODS:
        raise RefusedError(400)  # authority-form and others that nobody knows: 405
    fields, rest = _fields(rest)
    names = [name for name, _ in fields]
    values = dict(fields)
    length = _framing(names, values, old)
    options = _options(fields)
    if names.count(b"host") > 1 or (b"host" not in names and not old):
        raise RefusedError(400)
    if b"host" in names and not _is_authority(values[b"host"]):
        raise RefusedError(400)
    if origin.startswith(b"/"):
        traversal = _path(*origin.partition(b"?")[::2])
    if method not in METHODS:
        raise RefusedError(405)
    for authority, name_allowed in (
        (absolute[1] if absolute else None, False),
        (values.get(b"host"), not absolute),
    ):
        if authority is not None and not _leads_to(authority, endpoint, name_allowed):
            raise RefusedError(400)
    if traversal:
        raise RefusedError(403)
    exempt = origin.lower() == b"/machine/?comp=telemetrydata" and method == b"POST"
    exempt &= endpoint == "wireserver"
    if length is not None and length > (STREAMED if exempt else HELD):
        raise RefusedError(413)
    close = b"close" in options or (old and b"keep-alive" not in options)
    if length is not None:
        if len(rest) < length:
            raise IncompleteError
        return Sent(method, origin, rest[:length]), rest[length:], close
    if b"transfer-encoding" in names:
        body, rest = _chunks(rest)
        return Sent(method, origin, body), rest, close
    return Sent(method, origin, b""), rest, close


def _fields(data: bytes) -> tuple[list[tuple[bytes, bytes]], bytes]:
    fields: list[tuple[bytes, bytes]] = []
    size = 0
    while True:
        try:
            line, rest = _line(data[: SECTION - size])
        except IncompleteError:
            raise (RefusedError(431) if len(data) + size > SECTION else IncompleteError) from None
        if not line:
            return fields, data[len(data[: SECTION - size]) - len(rest) :]
        if len(fields) == FIELDS:
            raise RefusedError(431)
        field = re.fullmatch(rb"(%s):[ \t]*(.*?)[ \t]*" % TOKEN, line, re.DOTALL)
        if not field:
            raise RefusedError(400)
        name = field[1].lower()
        folded = re.sub(rb"[^a-z0-9]", b"-", name)
        if folded in OURS | FRAMING and folded != name:
            raise RefusedError(400)
        fields.append((name, field[2]))
        size += len(line) + 2
        data = data[len(line) + 2 :]


def _framing(names: list[bytes], values: dict[bytes, bytes], old: bool) -> int | None:
    lengths, codings = names.count(b"content-length"), names.count(b"transfer-encoding")
    if lengths + codings > 1 or (codings and old):
        raise RefusedError(400)
    if codings and values[b"transfer-encoding"].lower() != b"chunked":
        raise RefusedError(400)
    if not lengths:
        return None
    if not re.fullmatch(rb"0|[1-9][0-9]*", values[b"content-length"]):
        raise RefusedError(400)
    if (length := int(values[b"content-length"])) >= 1 << 64:
        raise RefusedError(400)
    return length


def _options(fields: list[tuple[bytes, bytes]]) -> list[bytes]:
    """What `Connection` lists; 400 for naming what frames the request or says whose it is."""
    if [v.lower() for n, v in fields if n == b"expect"] not in ([], [b"100-continue"]):
        raise RefusedError(400)
    values = [v for n, v in fields if n == b"connection"]
    options = [o.strip(b" \t").lower() for v in values for o in v.split(b",")]
    for option in filter(None, options):
        folded = re.sub(rb"[^a-z0-9]", b"-", option)
        if not re.fullmatch(TOKEN, option) or option in FRAMING | {b"host"}:
            raise RefusedError(400)
        if folded in OURS | FRAMING and folded != option:
            raise RefusedError(400)
    return options


def _is_authority(text: bytes) -> bool:
    parts = re.fullmatch(rb"([A-Za-z0-9._-]+)(?::(0|[1-9][0-9]{0,4}))?", text)
    if not parts or int(parts[2] or 0) > 65535:
        return False
    last = parts[1].removesuffix(b".").split(b".")[-1]
    if not re.fullmatch(rb"[0-9]*|0[xX][0-9a-fA-F]*", last):
        return True  # a name
    octet = rb"(0|[1-9][0-9]?|1[0-9][0-9]|2[0-4][0-9]|25[0-5])"
    return re.fullmatch(rb"\.".join([octet] * 4), parts[1]) is not None


def _leads_to(authority: bytes, endpoint: str, name_allowed: bool) -> bool:
    host, _, port = authority.partition(b":")
    if re.fullmatch(rb"[0-9.]+", host):
        return host == ADDRESS[endpoint].encode() and port in {b"", b"80"}
    return name_allowed


def _path(path: bytes, query: bytes) -> bool:
    """True for traversal."""
    if re.search(rb"%(?![0-9A-Fa-f]{2})", path + b"&" + query) or re.search(rb"%00", query):
        raise RefusedError(400)
    if re.search(rb"(?i)%2f|%5c", path):
        raise RefusedError(400)
    decoded = unquote_to_bytes(path)
    if re.search(rb"[\x00-\x1f\x7f\\;?#]|%([0-9A-Fa-f]{2}|u)", decoded):
        raise RefusedError(400)
    try:
        foreign = [c for c in decoded.decode() if not c.isascii()]
    except UnicodeDecodeError:
        raise RefusedError(400) from None
    # Unseen, or taken for ASCII by somebody.
    if any(category(c) in {"Cc", "Cf"} or normalize("NFKC", c).isascii() for c in foreign):
        raise RefusedError(400)
    segments = decoded[1:].removesuffix(b"/").split(b"/") if decoded != b"/" else []
    if any(s.endswith((b".", b" ")) and s not in {b".", b".."} for s in segments):
        raise RefusedError(400)
    return any(s in {b"", b".", b".."} for s in segments)


def _chunks(data: bytes) -> tuple[bytes, bytes]:
    body, extensions, trailers = b"", 0, 0
    while True:
        piece = data[:20000]
        size = re.match(rb"([0-9A-Fa-f]{1,15})(;[\t -~]*)?\r\n", piece)
        if not size:
            if re.fullmatch(rb"([0-9A-Fa-f]{1,15}((;[\t -~]*)?\r?)?)?", piece):
                raise IncompleteError
            raise RefusedError(400)
        extensions += len(size[2] or b";") - 1
        if extensions > 1024:
            raise RefusedError(400)
        data, length = data[size.end() :], int(size[1], 16)
        if not length:
            break
        if len(data) < length + 2:
            body += data[:length]
            if len(body) > HELD:
                raise RefusedError(413)
            if not b"\r\n".startswith(data[length:]):
                raise RefusedError(400)
            raise IncompleteError
        body += data[:length]
        if data[length : length + 2] != b"\r\n":
            raise RefusedError(400)
        if len(body) > HELD:
            raise RefusedError(413)
        data = data[length + 2 :]
    while True:
        line, rest = _line(data)
        data = rest
        if not line:
            return body, data
        trailers += len(line)
        if trailers > 8 << 10 or not re.fullmatch(TOKEN + rb":[\t -~\x80-\xff]*", line):
            raise RefusedError(400)

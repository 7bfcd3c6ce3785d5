# ruff: noqa: E501 - a table is as wide as its rows
"""The table: messages to IMDS or WireServer, and what becomes of each.

An expectation is a status of the agent's own, `SENT` when the host gets the request, `WAIT` while
bytes are missing. `{}` in a head stands for the endpoint's address.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

SENT: Final = "sent"
WAIT: Final = "wait"

HOST: Final = b"Host: 169.254.169.254\r\n"
GET: Final = b"GET /metadata/versions HTTP/1.1\r\n" + HOST
POST: Final = b"POST /metadata/versions HTTP/1.1\r\n" + HOST
CHUNKED: Final = POST + b"Transfer-Encoding: chunked\r\n\r\n"
SMUGGLED: Final = b"GET /smuggled HTTP/1.1\r\n" + HOST + b"\r\n"

Expected = int | str


def fields(*lines: bytes) -> bytes:
    """A GET with these header lines."""
    return GET + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


def target(text: bytes, method: bytes = b"GET") -> bytes:
    """A request for this target."""
    return method + b" " + text + b" HTTP/1.1\r\n" + HOST + b"\r\n"


def body(*lines: bytes, data: bytes = b"") -> bytes:
    """A POST with these header lines and this body."""
    return POST + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + data


def chunked(data: bytes) -> bytes:
    """A POST with a chunked body."""
    return CHUNKED + data


CASES: Final[tuple[tuple[str, Expected, bytes], ...]] = (
    # --- two framings ---
    ("CL.TE", 400, body(b"Content-Length: 6", b"Transfer-Encoding: chunked", data=b"0\r\n\r\nG")),
    ("TE.CL", 400, body(b"Transfer-Encoding: chunked", b"Content-Length: 4", data=b"5c\r\nGPOST")),
    *(
        (f"TE.TE {coding!r}", 400, body(coding, data=b"0\r\n\r\n" + SMUGGLED))
        for coding in (
            b"Transfer-Encoding: xchunked",
            b"Transfer-Encoding: chunked, identity",
            b"Transfer-Encoding: identity, chunked",
            b"Transfer-Encoding: gzip, chunked",
            b"Transfer-Encoding: chunked, chunked",
            b"Transfer-Encoding: ,chunked",
            b"Transfer-Encoding: chunked;q=1",
            b'Transfer-Encoding: "chunked"',
            b"Transfer-Encoding:",
            b"Transfer-Encoding: identity",
            b"Transfer-Encoding : chunked",
            b"Transfer-Encoding\t: chunked",
            b" Transfer-Encoding: chunked",
            b"X: y\r\n Transfer-Encoding: chunked",
            b"Transfer-Encoding: \x0bchunked",
            b"Transfer-Encoding: chunked\x00",
            b"Transfer-Encoding: chunked\xa0",
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
            b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            b"Transfer_Encoding: chunked",
            b"Transfer.Encoding: chunked",
            b"X: y\nTransfer-Encoding: chunked",
            b"X: y\rTransfer-Encoding: chunked",
        )
    ),
    ("TE in any case", SENT, body(b"TRANSFER-encoding: \tChunkED ", data=b"0\r\n\r\n")),
    ("TE and 1.0", 400, chunked(b"0\r\n\r\n").replace(b"1.1", b"1.0", 1)),
    ("CL.0", SENT, body(b"Content-Length: %d" % len(SMUGGLED), data=SMUGGLED)),
    ("CL.0 GET", SENT, fields(b"Content-Length: %d" % len(SMUGGLED)) + SMUGGLED),
    ("0.CL", 400, body(b"Content-Length: 0", b"Content-Length: 44", data=SMUGGLED)),
    ("CL named hop-by-hop", 400, body(b"Connection: Content-Length", b"Content-Length: 1")),
    ("TE named hop-by-hop", 400, body(b"Connection: close, transfer-encoding")),
    ("Host named hop-by-hop", 400, fields(b"Connection: host")),
    # --- lengths ---
    *(
        (f"length {value!r}", 400, body(b"Content-Length: " + value, data=b"12345678"))
        for value in (
            b"+5", b"-5", b"-0", b"5,5", b"5, 5", b"5 5", b"0x5", b"05", b"00", b"5.0", b"5e0", b"",
            b"5;", b"\xd9\xa5", b"18446744073709551616", b"99999999999999999999999", b"5\x00", b"5_0",
        )
    ),
    ("two equal lengths", 400, body(b"Content-Length: 5", b"Content-Length: 5", data=b"12345")),
    ("a length imitated", 400, body(b"Content_Length: 5", data=b"12345")),
    ("white space around a length", SENT, body(b"Content-Length: \t5 \t", data=b"12345")),
    ("a length too large", 413, body(b"Content-Length: 18446744073709551615")),
    ("a length one over", 413, body(b"Content-Length: 8388609")),
    ("a length of zero", SENT, body(b"Content-Length: 0")),
    ("a body not whole", WAIT, body(b"Content-Length: 5", data=b"1234")),
    # --- chunks ---
    ("chunks", SENT, chunked(b"5\r\nhello\r\n00a\r\n0123456789\r\n0\r\n\r\n")),
    ("chunk extensions", SENT, chunked(b'5;a=b;c="d"\r\nhello\r\n0;x\r\n\r\n')),
    ("trailers", SENT, chunked(b"1\r\nx\r\n0\r\nHost: evil\r\nContent-Length: 3\r\n\r\n")),
    ("1024 bytes of extensions", SENT, chunked(b"1;" + b"x" * 1024 + b"\r\nx\r\n0\r\n\r\n")),
    ("more extensions", 400, chunked(b"1;" + b"x" * 1025 + b"\r\nx\r\n0\r\n\r\n")),
    ("trailers without end", 400, chunked(b"0\r\n" + b"x: yyyyyyyyyyyyyyyy\r\n" * 500)),
    ("last chunk missing", WAIT, chunked(b"5\r\nhello\r\n")),
    ("a size of 15 digits", 413, chunked(b"000000000800001\r\n" + b"x" * 8388609 + b"\r\n")),
    *(
        (f"chunk {data!r}", 400, chunked(data + b"\r\n0\r\n\r\n"))
        for data in (
            b"0x5\r\nhello", b"+5\r\nhello", b"-5\r\nhello", b"5 \r\nhello", b" 5\r\nhello", b"\r\n",
            b"5\nhello", b"5\r\nhello\n", b"5\r\nhello6", b"4\r\nhello", b"6\r\nhello", b"5\rhello",
            b"5;a\nb\r\nhello", b"5;a\x00\r\nhello", b"5\r\r\nhello", b"g\r\n", b";\r\n",
            b"10000000000000005\r\nhello", b"0000000000000005\r\nhello", b"FFFFFFFFFFFFFFFF\r\nhello",
            b"5\x00\r\nhello", b"0\r\nbad trailer\r\n", b"0\r\nx : y\r\n", b"0\r\n x: y\r\n", b"0\r\nx: \x00\r\n",
            b"0\r\n\n",
        )
    ),
    # --- lines ---
    ("bare LF ends the line", 400, GET.replace(b"\r\n", b"\n") + b"\n"),
    ("bare LF ends a field", 400, GET + b"A: b\nC: d\r\n\r\n"),
    ("bare LF ends the head", 400, GET + b"\n"),
    ("bare CR in a value", 400, fields(b"A: b\rC: d")),
    ("CR CR LF", 400, GET + b"A: b\r\r\n\r\n"),
    ("CR in the line", 400, GET.replace(b" HTTP", b"\rHTTP")),
    ("obs-fold", 400, fields(b"A: b", b" c")),
    ("obs-fold by tab", 400, fields(b"A: b", b"\tc")),
    ("first line folded", 400, GET.replace(b"Host", b" Host") + b"\r\n"),
    ("space before colon", 400, fields(b"A : b")),
    ("no colon", 400, fields(b"A")),
    ("no name", 400, fields(b": b")),
    ("an empty value", SENT, fields(b"A:")),
    ("8 bit in a value", SENT, fields(b"A: \xe4\xff")),
    ("8 bit in a name", 400, fields(b"\xe4: b")),
    *((f"{byte!r} in a name", 400, fields(b"A" + byte + b"B: c")) for byte in (
        b"\0", b"\x01", b"\x7f", b'"', b"(", b",", b"/", b"[", b"\\", b"{", b"@", b"=", b";")),
    *((f"{byte!r} in a value", 400, fields(b"A: b" + byte)) for byte in (
        b"\0", b"\x01", b"\x08", b"\x0b", b"\x0c", b"\x1b", b"\x7f")),
    ("a tab in a value", SENT, fields(b"A: b\tc")),
    ("an empty line first", 400, b"\r\n" + fields()),
    ("a space first", 400, b" " + fields()),
    # --- the request line ---
    *((f"line {line!r}", 400, line + b"\r\n" + HOST + b"\r\n") for line in (
        b"GET  / HTTP/1.1", b"GET /  HTTP/1.1", b"GET\t/ HTTP/1.1", b"GET / HTTP/1.1 ", b"GET / ", b"GET /",
        b"GET", b"GET / HTTP/2.0", b"GET / HTTP/1.2", b"GET / HTTP/0.9", b"GET / HTTP/1.10", b"GET / HTTP/01.1",
        b"GET / http/1.1", b"GET / HTTP/1,1", b"GET / ICY/1.1", b"GET / HTTP/1.1;x", b"G\x00T / HTTP/1.1", b"G:T / HTTP/1.1",
        b"GET * HTTP/1.1", b"OPTIONS * HTTP/1.1", b"GET metadata HTTP/1.1", b"GET ?x HTTP/1.1",
        b"GET /\xc3\xa4 HTTP/1.1", b"GET /#x HTTP/1.1", b"GET /\x7f HTTP/1.1", b"A" * 33 + b" / HTTP/1.1",
        b"PRI * HTTP/2.0", b"\x16\x03\x01\x02\x00\x01",
    )),
    *((f"method {m!r}", 405, target(b"/metadata/versions", m)) for m in (
        b"TRACE", b"get", b"Get", b"PROPFIND", b"BREW", b"GETT", b"GE", b"PRI", b"!#$%")),
    ("CONNECT", 405, target(b"169.254.169.254:80", b"CONNECT")),
    *((f"method {m!r}", SENT, target(b"/metadata/versions", m)) for m in (
        b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH")),
    ("HTTP/1.0", SENT, fields().replace(b"1.1", b"1.0", 1)),
    ("HTTP/1.0 without Host", SENT, b"GET /metadata/versions HTTP/1.0\r\n\r\n"),
    # --- where to ---
    ("no Host", 400, b"GET / HTTP/1.1\r\n\r\n"),
    ("two Hosts", 400, fields(HOST.strip())),
    ("two Hosts that differ", 400, fields(b"Host: evil")),
    *((f"Host {host!r}", want, target(b"/metadata/versions").replace(HOST, b"Host: " + host + b"\r\n")) for host, want in (
        (b"169.254.169.254:80", SENT), (b"metadata.azure.internal", SENT), (b"", 400), (b"168.63.129.16", 400),
        (b"169.254.169.254:8080", 400), (b"169.254.169.254:", 400), (b"0xa9fea9fe", 400), (b"2852039166", 400),
        (b"0251.0376.0251.0376", 400), (b"a b", 400), (b"a, b", 400), (b"u@169.254.169.254", 400), (b"a/b", 400),
        (b"127.0.0.1:3080", 400), (b"169.254.169.254.", 400))),
    ("absolute-form", SENT, target(b"http://169.254.169.254/metadata/versions")),
    ("absolute-form, other case", SENT, target(b"HTTP://169.254.169.254:80/metadata/versions")),
    ("absolute-form elsewhere", 400, target(b"http://168.63.129.16/metadata/versions")),
    ("absolute-form, a name", 400, target(b"http://metadata/metadata/versions")),
    ("absolute-form against Host", 400, target(b"http://169.254.169.254/").replace(HOST, b"Host: evil\r\n")),
    ("absolute-form with user", 400, target(b"http://u@169.254.169.254/")),
    ("absolute-form without path", 400, target(b"http://169.254.169.254")),
    ("absolute-form, https", 400, target(b"https://169.254.169.254/")),
    # --- whose ---
    *((f"imitated {name!r}", 400, fields(name + b": x")) for name in (
        b"x_ms_azure_host_claims", b"X-MS-Azure-Host_Claims", b"x.ms.azure.host.date",
        b"x-ms-azure-host_authorization", b"x~ms~azure~host~claims")),
    ("our fields replaced", SENT, fields(b'X-Ms-Azure-Host-Claims: { "isRoot": "true"}', b"x-ms-azure-host-date: never",
                                         b"x-ms-azure-host-authorization: Azure-HMAC-SHA256 0 0")),
    ("our fields named", SENT, fields(b"Connection: x-ms-azure-host-claims, X-MS-AZURE-HOST-DATE",
                                      b"Connection: close, x-ms-azure-host-authorization")),
    ("imitations named", 400, fields(b"Connection: x_ms_azure_host_claims")),
    ("no list in Connection", 400, fields(b"Connection: a b")),
    # --- paths: docs/protocol.md, "Paths" ---
    *((f"path {p!r}", 403, target(p)) for p in (
        b"/metadata/../machine", b"/..", b"/.", b"/metadata/./versions", b"//", b"//metadata", b"/metadata//versions",
        b"/%2e%2e/x", b"/%2E./x", b"/.%2e", b"/%2e", b"/a/..?x=y", b"/metadata/versions//")),
    *((f"path {p!r}", 400, target(p)) for p in (
        b"/a%2fb", b"/a%2Fb", b"/a%5cb", b"/a\\b", b"/..\\x", b"/a%00", b"/a%0a", b"/a%0d%0a", b"/a%7f", b"/%ff", b"/%c0%ae",
        b"/%c0%af", b"/%252e%252e/", b"/%252f", b"/%25%32%65", b"/a;b", b"/;/", b"/..;/x", b"/a%3bb", b"/%3f", b"/%23",
        b"/%", b"/%2", b"/%zz", b"/%u002e", b"/a.", b"/a%20", b"/...", b"/%ed%a0%80", b"/%c2%85", b"/?a=%00", b"/?a=%", b"/?%zz",
        b"/%ef%bc%8e", b"/%e2%84%aa")),
    *((f"path {p!r}", SENT, target(p)) for p in (
        b"/", b"/%61", b"/metadata/versions/", b"/a..b", b"/..a", b"/%c3%a4", b"/a+b", b"/a?b=..%2f..;//", b"/?", b"/?&&=&a", b"/%20a",
        b"/a'b\"<>|{}^`", b"/a?http://168.63.129.16/")),
    # --- expectations ---
    ("Expect", SENT, body(b"Content-Length: 5", b"EXPECT: 100-Continue", data=b"12345")),
    ("Expect and chunks", SENT, body(b"Transfer-Encoding: chunked", b"Expect: 100-continue", data=b"1\r\nx\r\n0\r\n\r\n")),
    ("Expect without a body", SENT, fields(b"Expect: 100-continue")),
    ("another Expect", 400, fields(b"Expect: 200-ok")),
    ("two Expects", 400, fields(b"Expect: 100-continue", b"Expect: 100-continue")),
    # --- limits ---
    ("target 8 KiB", SENT, target(b"/" + b"x" * 8191)),
    ("target 8 KiB + 1", 414, target(b"/" + b"x" * 8192)),
    ("target 1 MiB", 414, target(b"/" + b"x" * (1 << 20))),
    ("128 fields", SENT, fields(*[b"A: b"] * 127)),
    ("129 fields", 431, fields(*[b"A: b"] * 128)),
    ("section 64 KiB", SENT, fields(b"A: " + b"x" * (65536 - len(HOST) - 7))),
    ("section 64 KiB + 1", 431, fields(b"A: " + b"x" * (65536 - len(HOST) - 6))),
    ("section 1 MiB", 431, fields(b"A: " + b"x" * (1 << 20))),
    ("a body of 8 MiB", SENT, body(b"Content-Length: 8388608", data=b"x" * (8 << 20))),
    ("chunks of 8 MiB", SENT, chunked(b"800000\r\n" + b"x" * (8 << 20) + b"\r\n0\r\n\r\n")),
    ("chunks of 8 MiB + 1", 413, chunked((b"400000\r\n" + b"x" * (4 << 20) + b"\r\n") * 2 + b"1\r\nx\r\n0\r\n\r\n")),
    # --- the order of refusals ---
    ("405 before 403", 405, target(b"/../x", b"TRACE")),
    ("400 before 405", 400, target(b"/a;b", b"TRACE")),
    ("403 before 413", 403, target(b"/../x").replace(b"\r\n\r\n", b"\r\nContent-Length: 99999999\r\n\r\n")),
    ("a head not whole", WAIT, GET),
)  # fmt: skip


_MARKS: Final = (b"\0", b"\t", b"\n", b"\r", b" ", b"%", b",", b"-", b".", b"/", b":", b";", b"_", b"0", b"\\", b"\xe4", b"\r\n")  # fmt: skip


def mutations(amount: int, seed: int) -> Iterator[bytes]:
    """Good requests with a byte more, less or another."""
    good = (
        fields(b"Metadata: true", b"Connection: keep-alive, X-A", b"X-A: b", b"TE: trailers"),
        fields(b"X-Ms-Azure-Host-Claims: a", b"Cookie: a=b; c=d"),
        target(b"/metadata/inst%61nce/compute?api-version=2021-02-01&a=%20b"),
        target(b"http://169.254.169.254:80/metadata/versions?a"),
        body(b"Content-Length: 12", b"Expect: 100-continue", data=b"hello, world"),
        chunked(b"5\r\nhello\r\n7;a=b\r\n, world\r\n0\r\nTrailer: x\r\n\r\n"),
        fields(b"Connection: close").replace(b"1.1", b"1.0", 1),
    )
    chance = random.Random(seed)  # noqa: S311 - to be repeated
    for _ in range(amount):
        message = chance.choice(good)
        for _ in range(chance.choice((1, 1, 1, 2))):
            at = chance.randrange(len(message))
            mark = chance.choice((*_MARKS, b"", message[at - 1 : at], message[at:][:12]))
            message = message[:at] + mark + message[at + chance.choice((0, 1)) :]
        yield message

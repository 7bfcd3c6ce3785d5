"""The host on the wire: reading, framing, keeping connections, refusing, recording."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import h11
import pytest
from tests.emulator.guest import Emulated, exchange, read_all, signed, wait_until

from gpa.emulator import connection
from gpa.emulator.message import PATTERN

if TYPE_CHECKING:
    from gpa.emulator.message import EndpointName

pytestmark = pytest.mark.trio

TARGET = "/metadata/instance?api-version=2021-02-01"
PLAIN = 'rules = { imds = { mode = "disabled" }, wireserver = { mode = "disabled" } }\n'
unprotected = pytest.mark.parametrize("scenario_text", [PLAIN])

HEAD = b"GET /metadata/versions HTTP/1.1\r\nHost: x\r\nMetadata: true\r\n\r\n"


async def test_a_key_is_latched_and_used(emulated: Emulated) -> None:
    key = await emulated.latch()
    assert (emulated.last.signature, emulated.last.key) == ("valid", key["guid"])
    reply = await emulated.ask("imds", "GET", TARGET, signed(key, "GET", TARGET, is_root=False))
    assert reply.status == 200
    assert reply.json()["compute"]["osType"] == "Linux"
    record = emulated.last
    assert (record.signature, record.is_root, record.status) == ("valid", False, 200)
    assert record.complete
    assert record.sent == len(reply.body)
    status = await emulated.ask("wireserver", "GET", "/secure-channel/status")
    assert status.json()["keyGuid"] == key["guid"]
    assert status.fields["x-ms-azure-host-date"] == "Thu, 01 Jan 2026 00:00:00 GMT"
    assert reply.fields["date"] == "Thu, 01 Jan 2026 00:00:00 GMT"
    assert "x-ms-azure-host-date" not in reply.fields


@pytest.mark.parametrize("endpoint", ["imds", "wireserver", "hostga"])
async def test_what_is_unsigned_is_refused_with_401(
    emulated: Emulated, endpoint: EndpointName
) -> None:
    for target in (TARGET, "/?comp=versions", "/versions", "/secure-channel/other"):
        reply = await emulated.ask(endpoint, "GET", target)
        assert (reply.status, reply.json()["error"]) == (401, "Unauthorized")
        assert emulated.last.signature == "unsigned"


@pytest.mark.parametrize("scenario_text", ['[channel]\nversion = "1.0"\nstate = "Audit"\n'])
async def test_an_auditing_host_serves_and_records(emulated: Emulated) -> None:
    assert (await emulated.ask("imds", "GET", TARGET)).status == 200
    assert (emulated.last.mode, emulated.last.signature) == ("audit", "unsigned")


async def test_exempt_uploads_are_streamed_and_served(emulated: Emulated) -> None:
    body = PATTERN * 20
    fields = [("Host", "x"), ("Content-Length", str(len(body)))]
    reply = await emulated.ask("hostga", "PUT", "/vmAgentLog", fields, body)
    record = emulated.last
    assert (reply.status, record.signature, record.body) == (200, "exempt", len(body))
    assert record.digest == hashlib.sha256(body).hexdigest()


async def test_the_order_of_latching(emulated: Emulated) -> None:
    content = b'{"authorizationScheme": "Azure-HMAC-SHA256"}'
    key = (await emulated.ask("wireserver", "POST", "/secure-channel/key", body=content)).json()
    target = f"/secure-channel/key/{key['guid']}/key-attestation"
    nobody = f"/secure-channel/key/{key['guid'][::-1]}/key-attestation"
    empty = [("Content-Length", "0")]
    other = {"key": "00" * 32, "guid": key["guid"]}

    async def attest(target: str, fields: list[tuple[str, str]], body: bytes = b"") -> int:
        return (await emulated.ask("wireserver", "POST", target, fields, body)).status

    right = signed(key, "POST", target, more=empty)
    assert await attest(target, [("Host", "x"), ("Metadata", "true"), *empty]) == 401
    assert await attest(target, signed(other, "POST", target, more=empty)) == 401
    assert await attest(target, signed(key, "POST", target, is_root=False, more=empty)) == 401
    assert await attest(nobody, signed(key, "POST", nobody, more=empty)) == 404
    assert await attest(target, signed(key, "POST", target, body=b"x"), b"x") == 400
    assert await attest(target, [f for f in right if f[0] != "Metadata"]) == 400
    assert emulated.host.channel.latched is None
    use = await emulated.ask("imds", "GET", TARGET, signed(key, "GET", TARGET))
    assert (use.status, emulated.last.signature) == (401, "not_attested")
    assert await attest(target, right) == 200
    second = await emulated.ask("wireserver", "POST", "/secure-channel/key", body=content)
    assert second.status == 403


@pytest.mark.parametrize(
    ("method", "target", "body", "status"),
    [
        ("POST", "/secure-channel/key", b"x", 400),
        ("POST", "/secure-channel/key", b"[]", 400),
        ("POST", "/secure-channel/key", b'{"authorizationScheme": "other"}', 400),
        ("GET", "/secure-channel/key", b"", 401),  # only the acquire itself needs no signature
        ("POST", "/secure-channel/status", b"", 401),
    ],
)
async def test_calls_of_the_channel_that_are_wrong(
    emulated: Emulated, method: str, target: str, body: bytes, status: int
) -> None:
    assert (await emulated.ask("wireserver", method, target, body=body)).status == status


async def test_the_channel_wants_its_metadata_field(emulated: Emulated) -> None:
    reply = await emulated.ask("wireserver", "GET", "/secure-channel/status", [("Host", "x")])
    assert reply.status == 400


@pytest.mark.parametrize("scenario_text", ['[channel]\nversion = "none"\n'])
async def test_a_host_without_the_protocol(emulated: Emulated) -> None:
    assert (await emulated.ask("wireserver", "GET", "/secure-channel/status")).status == 404
    assert (await emulated.ask("imds", "GET", TARGET)).status == 200


@unprotected
async def test_three_readings_of_one_request(emulated: Emulated) -> None:
    whole = await emulated.raw("imds", HEAD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    async with await emulated.connect("imds") as stream:
        for byte in HEAD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"):
            await stream.send_all(bytes([byte]))
        assert await read_all(stream) == whole
    both = await emulated.raw(
        "imds", HEAD + HEAD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    )
    assert both.count(b"HTTP/1.1 200 OK") == 2
    assert [r.request for r in emulated.host.recorder.since(0, 9)][-2:] == [1, 2]


@unprotected
async def test_a_connection_is_kept(emulated: Emulated) -> None:
    async with await emulated.connect("imds") as stream:
        http = h11.Connection(h11.CLIENT)
        for number in range(1, 4):
            reply = await exchange(stream, http, "GET", TARGET)
            assert reply.status == 200
            assert (emulated.last.connection, emulated.last.request) == (1, number)
            http.start_next_cycle()


@unprotected
async def test_a_chunked_body_and_expect(emulated: Emulated) -> None:
    fields = [
        ("Host", "x"), ("Metadata", "true"), ("Transfer-Encoding", "chunked"),
        ("Expect", "100-Continue"),
    ]  # fmt: skip
    reply = await emulated.ask("imds", "POST", "/gpa-emulator/echo", fields, b"body")
    assert (reply.status, reply.interim) == (200, [100])
    assert reply.json()["digest"] == hashlib.sha256(b"body").hexdigest()


async def test_a_body_that_nobody_needs_is_not_asked_for(emulated: Emulated) -> None:
    fields = [("Host", "x"), ("Content-Length", "1000000"), ("Expect", "100-continue")]
    reply = await emulated.ask("imds", "POST", "/gpa-emulator/echo", fields)
    assert (reply.status, reply.interim) == (401, [])
    assert reply.fields["connection"] == "close"


async def test_a_large_signed_body(emulated: Emulated) -> None:
    key, body = await emulated.latch(), PATTERN * 128
    fields = signed(key, "PUT", "/status", body=body)
    reply = await emulated.ask("hostga", "PUT", "/status", fields, body)
    assert (reply.status, emulated.last.signature) == (200, "valid")
    reply = await emulated.ask("hostga", "PUT", "/status", fields, body[:-1] + b"!")
    assert (reply.status, emulated.last.signature) == (401, "mismatch")


@unprotected
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("size", [0, 1, 65536, 300_001])
async def test_answers_of_any_size_and_framing(emulated: Emulated, framing: str, size: int) -> None:
    target = f"/gpa-emulator/bytes?size={size}&framing={framing}"
    reply = await emulated.ask("imds", "GET", target)
    assert reply.body == (PATTERN * 5)[:size]
    assert ("content-length" in reply.fields) == (framing == "length")
    assert (reply.fields.get("transfer-encoding") == "chunked") == (framing == "chunked")
    assert emulated.last.sent == size
    assert emulated.last.complete


@unprotected
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
async def test_a_client_of_http_1_0(emulated: Emulated, framing: str) -> None:
    target = f"/gpa-emulator/bytes?size=10&framing={framing}".encode()
    answer = await emulated.raw("imds", b"GET " + target + b" HTTP/1.0\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert body == PATTERN[:10]
    assert b"chunked" not in head


@unprotected
async def test_head_has_the_length_and_no_body(emulated: Emulated) -> None:
    reply = await emulated.ask("imds", "HEAD", "/gpa-emulator/bytes?size=10")
    assert (reply.fields["content-length"], reply.body) == ("10", b"")


@unprotected
async def test_any_status(emulated: Emulated) -> None:
    for code in (204, 304, 418, 429, 599):
        reply = await emulated.ask("imds", "GET", f"/gpa-emulator/status?code={code}")
        assert reply.status == code
    for query in ("?code=99", "?code=1000", "?code=x"):
        reply = await emulated.ask("imds", "GET", f"/gpa-emulator/status{query}")
        assert reply.status == 400
    assert (await emulated.ask("imds", "GET", "/gpa-emulator/bytes?size=-1")).status == 400
    assert (await emulated.ask("imds", "GET", "/gpa-emulator/none")).status == 404


@unprotected
async def test_an_echo_shows_what_arrived_but_no_signature(emulated: Emulated) -> None:
    fields = [("Host", "x"), ("B", "1"), ("a", "2"), ("x-ms-azure-host-authorization", "secret")]
    reply = await emulated.ask("imds", "GET", "/gpa-emulator/echo?x", fields)
    assert reply.json() == {
        "endpoint": "imds",
        "method": "GET",
        "target": "/gpa-emulator/echo?x",
        "fields": [["host", "x"], ["b", "1"], ["a", "2"]],
        "body": 0,
        "digest": None,
    }


@unprotected
@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 2 * connection.MAX_HEAD + b"\r\n\r\n",
    ],
)
async def test_what_is_not_http_is_said_recorded_and_closed(
    emulated: Emulated, data: bytes
) -> None:
    answer = await emulated.raw("imds", data)
    assert answer.startswith(b"HTTP/1.1 4")
    assert (emulated.last.method, emulated.last.signature) == ("", "unjudged")
    assert emulated.last.status in (400, 431)


async def test_a_line_that_cannot_be_read_is_not_quoted(emulated: Emulated) -> None:
    line = b"x-ms-azure-host-authorization: Azure-HMAC-SHA256 x secret\x00"
    answer = await emulated.raw("imds", b"GET / HTTP/1.1\r\nHost: x\r\n" + line + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"secret" not in answer
    assert "secret" not in emulated.last.why


async def test_a_defect_of_ours_ends_one_connection_and_quotes_nothing(
    emulated: Emulated, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(emulated.host, "answer", fail)
    assert await emulated.raw("imds", HEAD) == b""
    await wait_until(lambda: emulated.server.refused == 1)
    monkeypatch.undo()
    said = capsys.readouterr().err
    assert said.startswith("gpa: a request could not be served: RuntimeError at test_connection.py")
    assert "secret" not in said
    assert (await emulated.ask("imds", "GET", TARGET)).status == 401


@unprotected
async def test_a_target_that_is_no_path_is_400(emulated: Emulated) -> None:
    reply = await emulated.ask("imds", "GET", "http://169.254.169.254/metadata/versions")
    assert reply.status == 400


async def test_a_connection_without_a_byte_leaves_no_record(emulated: Emulated) -> None:
    async with await emulated.connect("imds") as stream:
        await stream.send_eof()
        assert await read_all(stream) == b""
    assert emulated.host.recorder.since(0, 9) == []
    assert emulated.server.connections == 1


async def test_a_client_that_leaves_in_its_body_is_recorded_as_unjudged(
    emulated: Emulated,
) -> None:
    data = b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc"
    async with await emulated.connect("imds") as stream:
        await stream.send_all(data)
    await wait_until(lambda: bool(emulated.host.recorder.since(0, 9)))
    record = emulated.host.recorder.since(0, 9)[0]
    assert (record.body, record.status, record.signature) == (3, None, "unjudged")


async def test_records_hold_neither_key_nor_signature(emulated: Emulated) -> None:
    key = await emulated.latch()
    fields = signed(key, "GET", TARGET)
    await emulated.ask("imds", "GET", TARGET, fields)
    import msgspec

    text = msgspec.json.encode(emulated.host.recorder.since(0, 99)).decode()
    assert key["key"].lower() not in text.lower()
    assert fields[-1][1].split()[-1] not in text
    records: list[dict[str, Any]] = json.loads(text)
    assert [record["id"] for record in records] == list(range(1, len(records) + 1))

"""The corpus of requests read by h11: what the agent sends on is one request to it, too.

The native half is held to the same corpus under cargo test; here its expectations are judged.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h11
import pytest

CORPUS = Path(__file__).resolve().parent.parent / "vectors" / "http"
OURS = {b"x-ms-azure-host-claims", b"x-ms-azure-host-date"}


def cases(*names: str) -> list[Any]:
    found = [case for name in names for case in json.loads((CORPUS / name).read_text())["cases"]]
    return [pytest.param(case, id=case["name"]) for case in found]


def read(head: bytes, body: bytes) -> tuple[h11.Request, bytes, bytes]:
    """The request, its body, and what h11 takes for the next message."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 17)
    connection.receive_data(head + body)
    request = connection.next_event()
    assert isinstance(request, h11.Request)
    data = b""
    while isinstance(event := connection.next_event(), h11.Data):
        data += event.data
    return request, data, connection.trailing_data[0]


@pytest.mark.parametrize("case", cases("accepted.json", "clients.json"))
def test_what_is_sent_on_is_one_request_to_another_parser(case: dict[str, Any]) -> None:
    head = case["forwarded"].encode("latin-1")
    length = case.get("framing", "none")
    body = case.get("body", "").encode("latin-1")
    if isinstance(length, int):
        body = b"x" * min(length, 10_000)
    request, data, left = read(head, body)
    assert (data, left) == (body, b"")

    lines = head.split(b"\r\n")
    assert lines[0].split(b" ")[:2] == [request.method, request.target]
    sent = [(n.lower(), v.strip(b" \t")) for n, _, v in (x.partition(b":") for x in lines[1:-2])]
    assert list(request.headers) == sent
    names = [name for name, _ in sent]
    assert all(names.count(name) == 1 for name in OURS)
    assert b"transfer-encoding" not in names
    assert names.count(b"content-length") <= 1


@pytest.mark.parametrize("case", cases("chunks.json"))
def test_what_another_parser_refuses_is_refused(case: dict[str, Any]) -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    try:
        _, data, left = read(head, case["wire"].encode("latin-1"))
    except h11.RemoteProtocolError:
        assert case["data"] is None
        return
    if case["data"] is not None:
        assert (data, left) == (case["data"].encode("latin-1"), b"")

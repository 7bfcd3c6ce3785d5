"""The judge's own signature, against the check values of docs/protocol.md, "Signature"."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gpa.emulator.message import Request
from gpa.emulator.signature import Signature, canonical_fields, canonical_parameters, tail

VECTORS = Path(__file__).resolve().parents[1] / "vectors/signatures"

KEY = bytes.fromhex("4A404E635266556A586E3272357538782F413F4428472B4B6250645367566B59")
SIGNATURE = "40dcaba1dc4d6f7a38cff1418d9304a76416624dd1146ccba80546b01890b155"

REQUEST = Request(
    "imds",
    b"GET",
    b"/metadata/instance?api-version=2021-02-01",
    (
        (b"metadata", b"true"),
        (b"x-ms-azure-host-claims", b'{ "isRoot": "true"}'),
        (b"host", b"169.254.169.254"),
        (b"x-ms-azure-host-authorization", b"Azure-HMAC-SHA256 left out"),
        (b"x-ms-azure-host-date", b"Thu, 01 Jan 2026 00:00:00 GMT"),
    ),
)


def test_the_check_value_of_a_whole_message() -> None:
    assert len(b"GET\n\n" + tail(REQUEST)) == 175
    assert Signature(KEY, REQUEST).sign() == SIGNATURE


def test_the_check_value_of_the_mac() -> None:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.hmac import HMAC

    mac = HMAC(KEY, SHA256())
    mac.update(b"Hello world")
    assert mac.finalize().hex() == (
        "a15b46f621193876a6d3121b836dc2af4180e2786642e55235ef916fc5b082a3"
    )


def test_the_check_value_of_the_parameters() -> None:
    query = (
        b"comp=config&keyOnly&comp=again&type=hostingEnvironmentConfig&incarnation=1"
        b"&resource=https%3a%2f%2fstorage.azure.com%2f"
    )
    assert canonical_parameters(query) == (
        b"comp=again&comp=config&incarnation=1&keyonly"
        b"&resource=https%3a%2f%2fstorage.azure.com%2f&type=hostingEnvironmentConfig"
    )


@pytest.mark.parametrize(
    ("query", "canonical"),
    [
        (b"", b""),
        (b"&&", b""),
        (b"=value", b""),
        (b"a=", b"a"),
        (b"a=1=2", b"a=1=2"),
        (b"A=1&a=1", b"a=1"),
        (b"a=2&a=1", b"a=1&a=2"),
        (b"b&a", b"a&b"),
        (b"ab=1&a=b2", b"ab=1&a=b2"),  # ab1 before ab2
        (b"X=%2F&x=%2f", b"x=%2F&x=%2f"),
    ],
)
def test_parameters(query: bytes, canonical: bytes) -> None:
    assert canonical_parameters(query) == canonical


def test_of_a_repeated_field_the_last_counts_and_names_sort_by_byte() -> None:
    fields = [(b"b", b"1"), (b"a-z", b" x\t"), (b"a", b""), (b"B", b"2"), (b"a_z", b"y")]
    assert canonical_fields(fields) == [
        (b"a", b""), (b"a-z", b"x"), (b"a_z", b"y"), (b"b", b"2"),
    ]  # fmt: skip


def test_a_body_counts_whatever_its_pieces() -> None:
    whole, pieces, other = (Signature(KEY, REQUEST) for _ in range(3))
    whole.update(b"some\nbody\x00")
    for byte in b"some\nbody\x00":
        pieces.update(bytes([byte]))
    other.update(b"some\nbody")
    signature = whole.sign()
    assert pieces.verify(bytes.fromhex(signature))
    assert not other.verify(bytes.fromhex(signature))


def vectors(name: str) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads((VECTORS / name).read_text())["cases"]
    return cases


@pytest.mark.parametrize("case", vectors("requests.json"), ids=lambda case: str(case["name"]))
def test_the_corpus_of_signed_requests(case: dict[str, Any]) -> None:
    """The same file that the agent's own signatures are held against."""
    fields = tuple((n.lower().encode("latin-1"), v.encode("latin-1")) for n, v in case["fields"])
    target = case["target"].encode("latin-1")
    request = Request("imds", case["method"].encode(), target, fields)
    signature = Signature(KEY, request)
    signature.update(case["body"].encode("latin-1"))
    assert signature.sign() == case["signature"]


@pytest.mark.parametrize("case", vectors("parameters.json"), ids=lambda case: str(case["name"]))
def test_the_corpus_of_parameters(case: dict[str, Any]) -> None:
    query = case["query"].encode("latin-1")
    assert canonical_parameters(query) == case["parameters"].encode("latin-1")

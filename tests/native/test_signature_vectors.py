"""The corpus of signatures is right: each one made again from docs/protocol.md, "Signature".

This code shares nothing with the native half, which reads the same corpus under cargo test.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import pytest

CORPUS = Path(__file__).resolve().parent.parent / "vectors" / "signatures"
KEY = bytes.fromhex("4A404E635266556A586E3272357538782F413F4428472B4B6250645367566B59")


def parameters(query: bytes) -> bytes:
    pairs: list[tuple[bytes, bytes]] = []
    for piece in query.split(b"&"):
        name, _, value = piece.partition(b"=")
        pair = (name.lower(), value)
        if name and pair not in pairs:
            pairs.append(pair)
    pairs.sort(key=lambda pair: pair[0] + pair[1])
    return b"&".join(name + b"=" + value if value else name for name, value in pairs)


def message(method: bytes, target: bytes, fields: list[tuple[bytes, bytes]], body: bytes) -> bytes:
    last = {name.lower(): value.strip(b" \t") for name, value in fields}
    last.pop(b"x-ms-azure-host-authorization", None)
    lines = b"".join(name + b":" + last[name] + b"\n" for name in sorted(last))
    path, _, query = target.partition(b"?")
    return method + b"\n" + body + b"\n" + lines + path + b"\n" + parameters(query)


def signature(signed: bytes) -> str:
    return hmac.new(KEY, signed, hashlib.sha256).hexdigest()


def cases(name: str) -> list[Any]:
    found: list[Any] = json.loads((CORPUS / name).read_text())["cases"]
    return [pytest.param(case, id=case["name"]) for case in found]


@pytest.mark.parametrize("case", cases("requests.json"))
def test_messages_and_signatures_are_made_as_the_protocol_says(case: dict[str, Any]) -> None:
    fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in case["fields"]]
    method, target, body = (case[part].encode("latin-1") for part in ("method", "target", "body"))
    signed = message(method, target, fields, body)
    assert signed.decode("latin-1") == case["message"]
    assert signature(signed) == case["signature"]


@pytest.mark.parametrize("case", cases("parameters.json"))
def test_parameters_are_made_as_the_protocol_says(case: dict[str, Any]) -> None:
    assert parameters(case["query"].encode()).decode() == case["parameters"]


def test_the_check_values_of_the_protocol() -> None:
    assert signature(b"Hello world") == (
        "a15b46f621193876a6d3121b836dc2af4180e2786642e55235ef916fc5b082a3"
    )
    first = json.loads((CORPUS / "requests.json").read_text())["cases"][0]
    assert len(first["message"]) == 175
    assert first["signature"] == "40dcaba1dc4d6f7a38cff1418d9304a76416624dd1146ccba80546b01890b155"

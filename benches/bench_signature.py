"""How long does the signature of a typical request take?"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from gpa._native import SigningKey

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_benchmark.fixture import BenchmarkFixture

GUID = "9cf81e97-0316-4ad3-94a7-8ccbdee8ddbf"
# docs/protocol.md, "Signature": the key and the check value.
KEY = "4A404E635266556A586E3272357538782F413F4428472B4B6250645367566B59"
SIGNATURE = "40dcaba1dc4d6f7a38cff1418d9304a76416624dd1146ccba80546b01890b155"
TARGET = "/metadata/instance?api-version=2021-02-01"
FIELDS = [
    ("Host", "169.254.169.254"),
    ("Metadata", "true"),
    ("x-ms-azure-host-claims", '{ "isRoot": "true"}'),
    ("x-ms-azure-host-date", "Thu, 01 Jan 2026 00:00:00 GMT"),
]


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    path = tmp_path / f"{GUID}.key"
    path.touch(0o600)
    path.write_text(
        json.dumps(
            {
                "authorizationScheme": "Azure-HMAC-SHA256",
                "guid": GUID,
                "incarnationId": 1,
                "issued": "2026-01-01T00:00:00Z",
                "key": KEY,
            }
        )
    )
    return SigningKey.load(path)


@pytest.mark.benchmark(group="signature")
def test_imds_get(benchmark: BenchmarkFixture, key: SigningKey) -> None:
    expected = f"Azure-HMAC-SHA256 {GUID} {SIGNATURE}"
    assert key.authorization("GET", TARGET, FIELDS, b"") == expected
    assert benchmark(key.authorization, "GET", TARGET, FIELDS, b"") == expected


@pytest.mark.benchmark(group="signature")
@pytest.mark.parametrize("size", [1 << 10, 1 << 20], ids=["1KiB", "1MiB"])
def test_put_with_body(benchmark: BenchmarkFixture, key: SigningKey, size: int) -> None:
    import hashlib
    import hmac

    body = bytes(size)
    lines = [b"PUT", body, b"host:168.63.129.16", b"/status", b""]
    expected = hmac.new(bytes.fromhex(KEY), b"\n".join(lines), hashlib.sha256).hexdigest()
    fields = [("Host", "168.63.129.16")]
    answer = benchmark(key.authorization, "PUT", "/status", fields, body)
    assert answer == f"Azure-HMAC-SHA256 {GUID} {expected}"

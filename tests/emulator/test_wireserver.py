"""WireServer and HostGAPlugin answer what VM agents and cloud-init work with."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7, pkcs12
from tests.emulator.guest import request

from gpa.emulator import hostga, wireserver
from gpa.emulator.scenario import Machine

if TYPE_CHECKING:
    from gpa.emulator.message import Answer

MACHINE = Machine(name="a<b")
VM = "02aab8a4-74ef-476e-8182-f6d2ba4166a6"


def ask(target: str, method: str = "GET", fields: list[tuple[str, str]] | None = None) -> Answer:
    return wireserver.answer(request("wireserver", method, target, fields or []), MACHINE)


def xml(answer: Answer) -> ElementTree.Element:
    assert answer.status == 200
    return ElementTree.fromstring(answer.body)  # noqa: S314 - our own document


def text(root: ElementTree.Element, path: str) -> str:
    found = root.findtext(path)
    assert found is not None, path
    return found


def test_versions() -> None:
    root = xml(ask("/?comp=versions"))
    assert text(root, "Preferred/Version") == "2015-04-05"
    assert "2012-11-30" in [element.text for element in root.findall("Supported/Version")]


@pytest.mark.parametrize("target", ["/machine/?comp=goalstate", "/machine?comp=goalstate"])
def test_a_goal_state_leads_to_its_documents(target: str) -> None:
    root = xml(ask(target, fields=[("x-ms-version", "2012-11-30")]))
    assert text(root, "Incarnation") == "1"
    assert text(root, "Container/ContainerId") == VM
    instance = "Container/RoleInstanceList/RoleInstance"
    assert text(root, f"{instance}/InstanceId") == f"{VM}._a<b"
    configuration = root.find(f"{instance}/Configuration")
    assert configuration is not None
    for link in configuration:
        if link.tag in ("ConfigName", "Certificates"):
            continue
        assert link.text is not None
        prefix = "http://168.63.129.16:80"
        assert link.text.startswith(f"{prefix}/machine/")
        xml(ask(link.text.removeprefix(prefix)))


@pytest.mark.parametrize(
    ("target", "method", "status"),
    [
        ("/machine/?comp=telemetrydata", "POST", 200),
        ("/machine?comp=health", "POST", 200),
        ("/HealthService", "POST", 200),
        ("/machine/?comp=remoteaccess", "GET", 200),
        ("/machine/?comp=goalstate", "HEAD", 200),
        ("/machine/?comp=goalstate", "POST", 405),
        ("/machine/?comp=health", "GET", 405),
        ("/machine/?comp=other", "GET", 404),
        ("/machine/", "GET", 404),
        ("/machinery?comp=goalstate", "GET", 404),
        ("/", "GET", 404),
    ],
)
def test_statuses(target: str, method: str, status: int) -> None:
    assert ask(target, method).status == status


def test_a_version_that_is_not_supported_is_400() -> None:
    fields = [("x-ms-version", "1999-01-01")]
    assert ask("/machine/?comp=goalstate", fields=fields).status == 400


def certificate(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "transport")])
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=1))
        .sign(key, SHA256())
    )


def in_base64(cert: x509.Certificate) -> str:
    return base64.b64encode(cert.public_bytes(Encoding.DER)).decode()


def test_certificates_are_encrypted_to_the_agents() -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    cert = certificate(key)
    target = "/machine/x/y?comp=certificates&incarnation=1"
    fields = [("x-ms-guest-agent-public-x509-cert", in_base64(cert))]
    root = xml(ask(target, fields=fields))
    assert text(root, "Format") == "Pkcs7BlobWithPfxContents"
    sealed = base64.b64decode(text(root, "Data"))
    opened = pkcs7.pkcs7_decrypt_der(sealed, cert, key, [])
    secret, inside, _ = pkcs12.load_key_and_certificates(opened, None)
    assert secret is not None
    assert inside is not None


def test_certificates_for_whom_one_cannot_encrypt_to() -> None:
    target = "/machine/?comp=certificates"
    elliptic = in_base64(certificate(ec.generate_private_key(ec.SECP256R1())))
    assert ask(target).status == 400
    for value in ("x", "AAAA", "A" * 10_000, elliptic):
        assert ask(target, fields=[("x-ms-guest-agent-public-x509-cert", value)]).status == 400


def plugin(target: str, method: str = "GET", fields: list[tuple[str, str]] | None = None) -> Answer:
    return hostga.answer(request("hostga", method, target, fields or []), MACHINE)


def test_the_plugins_versions_and_health() -> None:
    assert json.loads(plugin("/versions").body) == ["2015-09-01"]
    assert plugin("/health").status == 200


def test_vm_settings_are_sent_once() -> None:
    first = plugin("/vmSettings", fields=[("x-ms-version", "2015-09-01")])
    settings = json.loads(first.body)
    assert settings["statusUploadBlob"]["statusBlobType"] == "BlockBlob"
    tag = dict(first.fields)["ETag"]
    again = plugin("/vmSettings", fields=[("If-None-Match", tag)])
    assert (again.status, again.body, dict(again.fields)["ETag"]) == (304, b"", tag)
    other = hostga.answer(
        request("hostga", "GET", "/vmSettings", [("If-None-Match", tag)]), Machine(goal_state=2)
    )
    assert other.status == 200
    assert dict(other.fields)["ETag"] != tag


def test_uploads_artifacts_and_the_rest() -> None:
    assert plugin("/status", "PUT").status == 200
    assert plugin("/vmAgentLog", "PUT").status == 200
    assert plugin("/status").status == 405
    assert plugin("/extensionArtifact").status == 400
    fields = [("x-ms-artifact-location", "https://example.test/a.zip")]
    assert b"a.zip" in plugin("/extensionArtifact", fields=fields).body
    assert plugin("/other").status == 404
    assert plugin("/versions", fields=[("x-ms-version", "1999-01-01")]).status == 400

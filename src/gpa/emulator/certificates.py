"""The certificates of a goal state: a PFX, encrypted to the certificate that the agent sent."""

from __future__ import annotations

import base64
import binascii
import functools
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, pkcs7, pkcs12

_MAX_CERTIFICATE: Final = 8192
"""In base64; a certificate of 4096 bits has some 1,700."""


class CertificateError(Exception):
    """What the agent sent is not a certificate that one can encrypt to."""


def package(recipient: str) -> str:
    """The package in base64, for the holder of `recipient`, a certificate in base64.

    Raises:
        CertificateError: not a certificate, or without an RSA key.
    """
    if len(recipient) > _MAX_CERTIFICATE:
        raise CertificateError("the agent's certificate is too large")
    try:
        certificate = x509.load_der_x509_certificate(base64.b64decode(recipient, validate=True))
        key = certificate.public_key()
    except (ValueError, binascii.Error) as error:
        raise CertificateError("the agent's certificate cannot be read") from error
    if not isinstance(key, rsa.RSAPublicKey):
        raise CertificateError("the agent's certificate must have an RSA key")
    builder = pkcs7.PKCS7EnvelopeBuilder().set_data(_contents()).add_recipient(certificate)
    sealed = builder.encrypt(Encoding.DER, [pkcs7.PKCS7Options.Binary])
    return base64.b64encode(sealed).decode()


@functools.cache
def _contents() -> bytes:
    """One self-signed certificate with its key; made at the first use."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "emulated tenant")])
    begin = datetime.now(UTC) - timedelta(days=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=366))
        .sign(key, SHA256())
    )
    return pkcs12.serialize_key_and_certificates(None, key, certificate, None, NoEncryption())

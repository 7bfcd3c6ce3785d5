"""`/metadata/attested/document`: facts about the VM, signed (PKCS#7) by a certificate of our own.

The shape is the real one, the chain is not: it ends at the certificate that comes with it.
"""

from __future__ import annotations

import base64
import functools
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

if TYPE_CHECKING:
    from gpa.emulator.scenario import Machine

_HOURS = 6


def document(machine: Machine, nonce: str, now: float) -> dict[str, str]:
    """`{"encoding": "pkcs7", "signature": …}`; the nonce is the caller's, or the time."""
    moment = datetime.fromtimestamp(now, UTC)
    content = {
        "licenseType": "",
        "nonce": nonce or moment.strftime("%Y%m%d-%H%M%S"),
        "plan": {"name": "", "product": "", "publisher": ""},
        "sku": "13-gen2",
        "subscriptionId": machine.subscription,
        "timeStamp": {
            "createdOn": _stamp(moment),
            "expiresOn": _stamp(moment + timedelta(hours=_HOURS)),
        },
        "vmId": machine.vm_id,
    }
    key, certificate = _signer()
    builder = pkcs7.PKCS7SignatureBuilder().set_data(json.dumps(content).encode())
    signed = builder.add_signer(certificate, key, SHA256()).sign(
        Encoding.DER, [pkcs7.PKCS7Options.Binary]
    )
    return {"encoding": "pkcs7", "signature": base64.b64encode(signed).decode()}


def _stamp(moment: datetime) -> str:
    return moment.strftime("%m/%d/%y %H:%M:%S -0000")


@functools.cache
def _signer() -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """Made at the first use, one for the life of the process."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "metadata.azure.com")])
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
    return key, certificate

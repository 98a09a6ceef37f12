"""Certificates for tests: an authority of this run, and what it signs."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import attrs
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@cache
def authority(name: str) -> trustme.CA:
    """An authority, one for each name; making keys takes time."""
    return trustme.CA(organization_name=name)


@attrs.frozen
class Files:
    """What a listener with TLS is configured with.

    Args:
        cert: certificate, PEM.
        key: its private key.
        ca: who signs client certificates.
    """

    cert: Path
    key: Path
    ca: Path

    def settings(self, section: str = "server", *, is_mutual: bool = False) -> dict[str, Any]:
        """Keys as `tests.whole.smoke.worker.running` takes them."""
        keys = {"cert_file": str(self.cert), "key_file": str(self.key)}
        if is_mutual:
            keys["client_ca_file"] = str(self.ca)
        return {f"{section}__{key}": value for key, value in keys.items()}


def issued(folder: Path, *, by: str = "lab") -> Files:
    """A certificate for this machine, in files; written over those of an earlier call."""
    files = Files(folder / "cert.pem", folder / "key.pem", folder / "ca.pem")
    made = authority(by).issue_cert("127.0.0.1", "localhost")
    made.private_key_pem.write_to_path(files.key)
    files.cert.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
    authority("lab").cert_pem.write_to_path(files.ca)
    return files


def client_context(*, trusts: str = "lab") -> ssl.SSLContext:
    """A client that believes one authority."""
    context = ssl.create_default_context()
    authority(trusts).configure_trust(context)
    return context


def bound_context(folder: Path, *uris: str, by: str = "lab") -> ssl.SSLContext:
    """A client that shows a certificate with these URIs, and a common name of its own."""
    signer = authority(by)
    key = ec.generate_private_key(ec.SECP256R1())
    ca = x509.load_pem_x509_certificate(signer.cert_pem.bytes())
    ca_key = serialization.load_pem_private_key(signer.private_key_pem.bytes(), None)
    assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bob")]))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
    )
    if uris:
        names = [x509.UniformResourceIdentifier(uri) for uri in uris]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    certificate = builder.sign(ca_key, hashes.SHA256())
    path = folder / "client.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = client_context()
    context.load_cert_chain(path)
    return context

"""The certificate that `cfw serve --lan` makes for this machine, and keeps.

It vouches for itself: no authority that browsers know signs names of a local network. So a
browser asks its person once, and shows the fingerprint that is shown here too.

Certificate and key are one file, replaced as a whole, so that they always belong together.
"""

from __future__ import annotations

import ipaddress
import os
import stat
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import attrs
import platformdirs
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

#: No browser takes issue with it: the strictest rule, of Apple's systems, is 398 days.
VALID: Final = timedelta(days=397)
#: A phone's clock may be behind.
BEFORE: Final = timedelta(days=1)
#: So long before its end it is made anew.
RENEW: Final = timedelta(days=30)
_NAME: Final = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "cfw camera feed worker")])


@attrs.frozen
class Kept:
    """The certificate as it is on the disk.

    Args:
        fingerprint: its SHA-256, as browsers show it.
        ends: when it ends.
        is_new: it was made just now.
    """

    fingerprint: str
    ends: datetime
    is_new: bool


class CertificateError(OSError):
    """It cannot be kept; `strerror` says where and why."""


def certificate_file() -> Path:
    """Where it is kept, with its key: in the data folder of this user."""
    return platformdirs.user_data_path("cfw", appauthor=False) / "lan.pem"


def keep_certificate(
    path: Path, names: Sequence[str], addresses: Sequence[str], now: datetime | None = None
) -> Kept:
    """Have a certificate for these names and addresses, and say which.

    The one that is there stays for as long as it is good for all of them: each new one has to
    be accepted again at each phone.

    Args:
        path: of the file of both.
        names: of this machine.
        addresses: of this machine.
        now: None for this moment.

    Raises:
        CertificateError: it cannot be written.
    """
    now = now or datetime.now(UTC)
    wanted = _general_names(names, addresses)
    found = _read(path)
    if found is not None and _is_good(found, wanted, now):
        return Kept(_fingerprint(found), found.not_valid_after_utc, is_new=False)
    made, key = _make(wanted, now)
    try:
        _write(path, _pem(made, key))
    except OSError as exc:
        raise CertificateError(
            exc.errno,
            f"{path}: the certificate cannot be kept: {exc.strerror or exc}; give one of your "
            "own with --cert-file and --key-file",
        ) from exc
    return Kept(_fingerprint(made), made.not_valid_after_utc, is_new=True)


def _general_names(names: Sequence[str], addresses: Sequence[str]) -> list[x509.GeneralName]:
    found: list[x509.GeneralName] = [
        x509.DNSName(name) for name in ("localhost", *names) if name.isascii()
    ]
    found += [
        x509.IPAddress(ipaddress.ip_address(each)) for each in ("127.0.0.1", "::1", *addresses)
    ]
    return list(dict.fromkeys(found))


def _read(path: Path) -> x509.Certificate | None:
    """The certificate; None for none, or one whose key may not be a secret any more."""
    try:
        about, data = path.stat(), path.read_bytes()
        if os.name == "posix" and about.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            return None
        found = x509.load_pem_x509_certificate(data)
        key = serialization.load_pem_private_key(data, None)
        return found if found.public_key() == key.public_key() else None
    except (OSError, ValueError, TypeError):
        return None


def _is_good(
    certificate: x509.Certificate, wanted: Sequence[x509.GeneralName], now: datetime
) -> bool:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return False
    is_valid = certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc - RENEW
    return is_valid and set(wanted) <= set(names.value)


def _make(
    names: Sequence[x509.GeneralName], now: datetime
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(_NAME)
        .issuer_name(_NAME)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BEFORE)
        .not_valid_after(now + VALID)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        # Good for this listener alone: whoever trusts it trusts no other server by it.
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False
        )
    )
    return builder.sign(key, hashes.SHA256()), key


def _usage() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> bytes:
    encoding = serialization.Encoding.PEM
    return certificate.public_bytes(encoding) + key.private_bytes(
        encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def _write(path: Path, data: bytes) -> None:
    """Replace a file that nobody else may read, as a whole."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Of this process alone: two that start at once do not write into one file.
    beside = path.with_suffix(f".{os.getpid()}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise

"""TLS for a listener: certificate, key, and whose client certificates are asked for."""

from __future__ import annotations

import hashlib
import re
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote

import attrs
import trio

from cfw.identity.files import UnusableFile, read_regular

_T = TypeVar("_T", bound=trio.abc.Stream)

#: A subject alternative name of this kind binds a certificate to a user.
USER_URI = "urn:cfw:user:"
_CERTIFICATE = re.compile(
    b"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\\s]+-----END CERTIFICATE-----"
)


@attrs.define(slots=False, eq=False)
class TlsFileError(ValueError):
    """Certificate, key or client authority cannot be used.

    Args:
        key: which of `cert_file`, `key_file` and `client_ca_file`.
        problem: what is wrong with it.
    """

    key: str
    problem: str

    def __str__(self) -> str:
        return f"{self.key}: {self.problem}"


class TlsFiles:
    """The TLS side of a listener, of files as they were when they could last be used.

    Args:
        cert_file: certificate and its chain, PEM.
        key_file: private key of it, PEM, without a passphrase.
        client_ca_file: who signs the certificates that clients must show, PEM; None asks for
            none.

    Raises:
        TlsFileError: a file cannot be used.
    """

    def __init__(
        self, cert_file: Path, key_file: Path, client_ca_file: Path | None = None
    ) -> None:
        self._files = (cert_file, key_file, client_ca_file)
        self._context = _make_context(*self._files)
        self._fingerprint = _fingerprint_of(cert_file)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate, as browsers show it: pairs of hex digits and colons."""
        return self._fingerprint

    def read_again(self) -> Callable[[], None]:
        """Read the files; nothing changes until what is returned is called.

        That puts them in force for new connections. It may run in a thread, also in one that
        nobody waits for any more.

        Raises:
            TlsFileError: a file cannot be used.
        """
        context, fingerprint = _make_context(*self._files), _fingerprint_of(self._files[0])

        def use() -> None:
            self._context, self._fingerprint = context, fingerprint

        return use

    def wrap(self, stream: _T) -> trio.SSLStream[_T]:
        """A TLS stream over an accepted one. Nothing is sent or received yet."""
        # Peers that close without a TLS goodbye are usual, and both WebSocket and HTTP tell
        # the end of a message themselves.
        return trio.SSLStream(stream, self._context, server_side=True, https_compatible=True)


def users_of(stream: trio.abc.Stream) -> frozenset[str] | None:
    """The users that the certificate of a client is bound to; None when it is bound to none.

    The common name counts for nothing: it is mostly the name of a device.
    """
    if not isinstance(stream, trio.SSLStream):
        return None
    # Empty when none was asked for.
    names = (stream.getpeercert() or {}).get("subjectAltName", ())
    bound = frozenset(
        unquote(value[len(USER_URI) :])
        for kind, value in names
        if kind == "URI" and value.startswith(USER_URI)
    )
    return bound or None


def _make_context(cert: Path, key: Path, client_ca: Path | None) -> ssl.SSLContext:
    _check_readable(cert_file=cert, key_file=key, client_ca_file=client_ca)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A renegotiation costs the server far more than the client that asks for it.
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        # Without the last argument OpenSSL would ask for a passphrase at the terminal.
        context.load_cert_chain(cert, key, password=_no_passphrase)
    except ssl.SSLError as exc:
        if exc.reason == "KEY_VALUES_MISMATCH":
            raise TlsFileError("key_file", f"{key} is not the key of {cert}") from None
        where = "cert_file" if not _has_certificate(cert) else "key_file"
        path = cert if where == "cert_file" else key
        raise TlsFileError(where, f"{path} is not usable PEM ({_words(exc)})") from None
    if client_ca is not None:
        try:
            context.load_verify_locations(client_ca)
        except ssl.SSLError as exc:
            problem = f"{client_ca} holds no usable certificate ({_words(exc)})"
            raise TlsFileError("client_ca_file", problem) from None
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _fingerprint_of(cert: Path) -> str:
    # The first one is that of the listener, whatever its chain has.
    pem = _CERTIFICATE.search(read_regular(cert)[0])
    if pem is None:
        raise TlsFileError("cert_file", f"{cert} holds no certificate")
    der = ssl.PEM_cert_to_DER_cert(pem[0].decode("ascii"))
    return hashlib.sha256(der).digest().hex(":").upper()


def _check_readable(**paths: Path | None) -> None:
    for key, path in paths.items():
        try:
            if path is not None:
                read_regular(path)
        except UnusableFile as exc:
            raise TlsFileError(key, f"{path} {exc}") from None


def _has_certificate(path: Path) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(path)
    except ssl.SSLError:
        return False
    return True


def _no_passphrase() -> str:
    raise TlsFileError("key_file", "the key has a passphrase; give one without")


def _words(exc: ssl.SSLError) -> str:
    return (exc.reason or str(exc)).lower().replace("_", " ")

"""A certificate for one run, and a socket that encrypts a load as cheaply as can be."""

from __future__ import annotations

import ipaddress
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import attrs
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

#: What one read asks the socket or TLS for.
_READ_BYTES = 65_536
_NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "cfw bench")])
_VALID = timedelta(days=1)


@attrs.frozen
class Certificate:
    """What servers of a run show, and what its load trusts.

    Args:
        file: the certificate and its key, PEM.
        trust: of a client that trusts this certificate alone.
    """

    file: Path
    trust: ssl.SSLContext


@contextmanager
def making_certificate() -> Iterator[Certificate]:
    """A certificate for loopback, whose file is there so long."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder(_NAME, _NAME, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - _VALID)
        .not_valid_after(now + _VALID)
        .add_extension(address, critical=False)
        .sign(key, SHA256())
    )
    cert_pem = made.public_bytes(Encoding.PEM)
    key_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with TemporaryDirectory() as folder:
        file = Path(folder, "bench.pem")
        file.write_bytes(cert_pem + key_pem)
        yield Certificate(file, ssl.create_default_context(cadata=cert_pem.decode("ascii")))


def server_context(file: Path) -> ssl.SSLContext:
    """What a peer serves TLS with; the worker makes its own of the same file."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


class TlsSocket:
    """A connected socket under TLS, as the load uses one.

    What `sendmsg` takes goes out in one system call, as without TLS: OpenSSL, left alone with a
    socket, would make one for each record of 16 KiB.

    Args:
        sock: connected; the handshake is done here.
        trust: see `Certificate`.

    Raises:
        ssl.SSLError: there is no TLS connection.
    """

    def __init__(self, sock: socket.socket, trust: ssl.SSLContext) -> None:
        self._sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = trust.wrap_bio(self._incoming, self._outgoing, server_hostname="127.0.0.1")
        self._unsent = memoryview(b"")
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.flush()
                self._take_in()
        self.flush()

    @property
    def is_behind(self) -> bool:
        """Whether something that `sendmsg` has taken is not with the kernel yet."""
        return bool(self._unsent)

    def flush(self) -> None:
        """Hand on what the kernel has not taken yet.

        Raises:
            BlockingIOError: it takes no more now.
        """
        if self._outgoing.pending:
            self._unsent = memoryview(bytes(self._unsent) + self._outgoing.read())
        while self._unsent:
            self._unsent = self._unsent[self._sock.send(self._unsent) :]

    def sendmsg(self, parts: Sequence[bytes | memoryview]) -> int:
        """Take all of the parts, as if they were one; gives their bytes together.

        Raises:
            BlockingIOError: nothing of them was taken, as more than that waits to be sent.
        """
        self.flush()
        data = b"".join(parts)
        sent = 0
        while sent < len(data):
            sent += self._tls.write(memoryview(data)[sent:] if sent else data)
        with suppress(BlockingIOError):  # they are taken all the same: see `is_behind`
            self.flush()
        return sent

    def sendall(self, data: bytes) -> None:
        """Send and wait until the kernel has all of it."""
        self.sendmsg([data])

    def recv(self, most: int) -> bytes:
        """All that is there, which may be more than `most`; empty at the end.

        Raises:
            BlockingIOError: nothing is.
        """
        read = b""
        while True:
            try:
                more = self._tls.read(most)
            except ssl.SSLWantReadError:
                if read:
                    return read
                self._take_in()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return read  # without a goodbye, too: the WebSocket says whether it was over
            else:
                read += more
                if not more:
                    return read

    def _take_in(self) -> None:
        data = self._sock.recv(_READ_BYTES)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def setblocking(self, flag: bool) -> None:
        self._sock.setblocking(flag)

    def settimeout(self, seconds: float) -> None:
        self._sock.settimeout(seconds)

    def setsockopt(self, level: int, option: int, value: int) -> None:
        self._sock.setsockopt(level, option, value)

    def fileno(self) -> int:
        return self._sock.fileno()

    def close(self) -> None:
        self._sock.close()

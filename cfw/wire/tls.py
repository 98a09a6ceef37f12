"""The TLS handshake of an accepted connection, and what a peer is told that fails it."""

from __future__ import annotations

import ssl
from contextlib import suppress
from typing import Any, Final

import trio

from cfw.wire.errors import PeerGone, TlsFailed
from cfw.wire.handshake import REFUSE_S, HandshakeReject, refuse, see_off

#: OpenSSL's reason -> what it means at a server.
_MEANINGS: Final = {
    "HTTP_REQUEST": "plain HTTP came where TLS is spoken: the URL needs wss:// or https://",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the peer showed no client certificate",
    "TLSV1_ALERT_UNKNOWN_CA": "the peer does not trust this listener's certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the peer does not accept this listener's certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the peer does not accept this listener's certificate",
    "UNSUPPORTED_PROTOCOL": "the peer speaks only versions of TLS before 1.2",
    "WRONG_VERSION_NUMBER": "what came is not TLS",
}


async def shake_tls(stream: trio.SSLStream[Any]) -> None:
    """Do the handshake; a peer that fails it is told why and left.

    Raises:
        TlsFailed: there is no TLS connection.
        PeerGone: the peer left.

    Cancellation: the stream is of no use afterwards.
    """
    try:
        await stream.do_handshake()
    except trio.BrokenResourceError as exc:
        fault = exc.__cause__
    else:
        return
    if not isinstance(fault, ssl.SSLError) or isinstance(
        fault, ssl.SSLEOFError | ssl.SSLSyscallError | ssl.SSLZeroReturnError
    ):
        raise PeerGone("the peer left during the TLS handshake")
    await _tell(stream, fault)
    raise TlsFailed(_describe(fault))


async def _tell(stream: trio.SSLStream[Any], fault: ssl.SSLError) -> None:
    """Say why in the peer's own language: HTTP to plain HTTP, to TLS the alert."""
    below = stream.transport_stream
    if fault.reason == "HTTP_REQUEST":
        await refuse(below, HandshakeReject(400, _describe(fault)))
        return
    # Trio gives the handshake up before it has sent OpenSSL's last words.
    alert = stream._outgoing.read()
    with trio.move_on_after(REFUSE_S), suppress(trio.BrokenResourceError):
        if alert:
            await below.send_all(alert)
        await see_off(below)


def _describe(fault: ssl.SSLError) -> str:
    if isinstance(fault, ssl.SSLCertVerificationError):
        return f"the client certificate is not good: {fault.verify_message}"
    reason = fault.reason or "unknown"
    return _MEANINGS.get(
        reason, f"the TLS handshake failed: {reason.lower().replace('_', ' ')}"
    )

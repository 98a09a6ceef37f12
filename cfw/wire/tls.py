"""TLS of an accepted connection: its handshake, and receiving over it.

Trio's stream does the handshake and sends. It would receive as well: one record of at most
16 KiB a call, with a lock, a scope and an exception for each read of its socket, where a frame
of a camera is several records.
"""

from __future__ import annotations

import math
import ssl
from contextlib import suppress
from typing import Any, Final

import trio

from cfw.wire._pure import Bytes
from cfw.wire.errors import PeerGone, TlsFailed
from cfw.wire.handshake import REFUSE_S, HandshakeReject, refuse, see_off
from cfw.wire.receiver import Receiver

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


class TlsReceiver(Receiver):
    """The receiving half of a transport under TLS: all that has come, of as many records.

    What OpenSSL answers by itself, as to a peer that asks for new keys, goes out before the
    next read: who asks without end is read no faster than it reads.

    Args:
        stream: behind its handshake; nobody else receives from it.
    """

    def __init__(self, stream: trio.SSLStream[Any]) -> None:
        super().__init__(stream.transport_stream)
        self._stream = stream
        self._tls: Any = stream._ssl_object
        self._outgoing: ssl.MemoryBIO = stream._outgoing
        self._incoming: ssl.MemoryBIO = stream._incoming
        # Something may be decrypted without receiving: what came behind the request, or what
        # a read has left as there was no room for more.
        self._may_hold = True
        # What ended the connection behind what was decrypted before it; OpenSSL tells it once.
        self._fault = ""

    async def receive(self, deadline: float = math.inf) -> Bytes | None:
        """As `Receiver.receive`, of the bytes within TLS.

        Raises:
            trio.BrokenResourceError, OSError: the transport is broken, or what came is not
                what the peer's TLS has sent.
        """
        if self._may_hold:
            await trio.lowlevel.checkpoint()
            held = self._decrypt()
            if held is not None:
                return held
        while True:
            if self._outgoing.pending:
                await self._send_answers(deadline)
            # OpenSSL keeps the room that it has once needed, for as long as the connection is
            # there: a thousand rigs that flood would take a gigabyte.
            self.slow_down()
            received = await super().receive(deadline)
            if received is None:
                return None
            if received:
                self._incoming.write(received)
            else:
                self._incoming.write_eof()
            data = self._decrypt()
            if data is not None:
                return data
            # The beginning of a record is nothing yet, and all that there was.
            if self.is_woken or self.is_called or trio.current_time() >= deadline:
                return None

    async def _send_answers(self, deadline: float) -> None:
        """Send what OpenSSL says by itself, until an instant of Trio's clock, or until woken.

        A peer that does not read it by then cannot be told anything any more.
        """
        with self.wait(deadline):
            # Trio sends whatever there is around each call, and lets one sender at a time.
            await self._stream._retry(bool)

    def _decrypt(self) -> memoryview | None:
        """All that can be; empty at the end, None when a record is not whole yet."""
        # What is received lies in OpenSSL by now: its space is free for what comes of it.
        space = self._space
        size, is_over = 0, False
        if self._fault:
            raise trio.BrokenResourceError(self._fault)
        try:
            while size < len(space):
                count = self._tls.read(len(space) - size, space[size:])
                size += count
                is_over = not count
                # Asking once more would cost an exception.
                if is_over or not self._incoming.pending:
                    break
        except ssl.SSLWantReadError:
            pass
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            is_over = True  # without a goodbye, too, as usual: see `TlsFiles.wrap`
        except ssl.SSLError as exc:
            self._fault = str(exc)  # not the error, which holds this frame
            if not size:
                raise trio.BrokenResourceError(self._fault) from exc
            is_over = True
        self._may_hold = is_over or size == len(space)
        return space[:size] if size or is_over else None


def open_receiver(transport: trio.abc.Stream) -> Receiver:
    """The receiving half of a transport, which nobody else receives from."""
    if isinstance(transport, trio.SSLStream):
        return TlsReceiver(transport)
    return Receiver(transport)


def _describe(fault: ssl.SSLError) -> str:
    if isinstance(fault, ssl.SSLCertVerificationError):
        return f"the client certificate is not good: {fault.verify_message}"
    reason = fault.reason or "unknown"
    return _MEANINGS.get(
        reason, f"the TLS handshake failed: {reason.lower().replace('_', ' ')}"
    )

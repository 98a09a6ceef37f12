"""The opening handshake: a fresh transport becomes an open `WebSocket`, or is told why not."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeAlias

import trio
from trio_websocket import wrap_server_stream

from cfw.tasks.nurseries import open_plain_nursery
from cfw.wire.connection import WebSocket
from cfw.wire.decoder import Decoder
from cfw.wire.errors import AskedElsewhere, HandshakeRejected, PeerGone, WireCrashed
from cfw.wire.handshake import (
    HandshakeReject,
    Request,
    RequestBytes,
    check_upgrade,
    close_now,
    read_head,
    read_request,
    refuse,
    upgrade_head,
)
from cfw.wire.patience import hold_after
from cfw.wire.stream import WireStream
from cfw.wire.tls import shake_tls

#: Says why a request is refused; None to let it in.
Judge: TypeAlias = Callable[[Request], Awaitable[HandshakeReject | None]]
#: Headers of the answer that lets a peer in, made when it is.
Greet: TypeAlias = Callable[[], list[tuple[bytes, bytes]]]
#: Serves who asks for another path; has the transport, and what was read, until it returns.
Elsewhere: TypeAlias = Callable[[trio.abc.Stream, RequestBytes], Awaitable[object]]
#: What a request head comes to: the head to give to trio-websocket, or why there is none.
_Answer: TypeAlias = Callable[[bytes], Awaitable[bytes | HandshakeReject]]


class _Host:
    """Holds trio-websocket's background task and the keepalive of one connection.

    What they raise becomes an error of this connection and leaves no nursery.
    """

    def __init__(
        self,
        transport: trio.abc.Stream,
        decoder: Decoder,
        *,
        keepalive_s: float,
        keepalive_timeout_s: float,
        message_s: float,
        greet: Greet,
    ) -> None:
        self.stream = WireStream(transport)
        self.socket: WebSocket | None = None
        self.crash: ExceptionGroup[Exception] | None = None
        self.settled = trio.Event()
        # A cancelled body still says its last words, and needs these tasks for it; `accept`
        # cancels this scope as soon as the body is left.
        self.scope = trio.CancelScope(shield=True)
        self._transport = transport
        self.decoder = decoder
        self._keepalive_s = keepalive_s
        self._keepalive_timeout_s = keepalive_timeout_s
        self._message_s = message_s
        self._greet = greet

    async def run(self) -> None:
        """Answer the request, then serve until the stream is closed."""
        try:
            with self.scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._cancel_when_closed)
                    # None: what the stream gives per call is small already.
                    request = await wrap_server_stream(
                        nursery, self.stream, receive_buffer_size=None
                    )
                    # What is offered in the head that it was given is to be selected.
                    library = await request.accept(
                        subprotocol=next(iter(request.proposed_subprotocols), None),
                        extra_headers=self._greet(),
                    )
                    self.socket = WebSocket(
                        self._transport,
                        self.stream,
                        library,
                        self.decoder,
                        nursery,
                        keepalive_timeout_s=self._keepalive_timeout_s,
                        message_s=self._message_s,
                    )
                    nursery.start_soon(self.socket.keep_alive, self._keepalive_s)
                    self.settled.set()
        except* Exception as group:
            # Whatever a peer's bytes or a bug made it raise: UnicodeError, AssertionError.
            self.crash = group
        finally:
            self.stream.close_nowait()
            self.settled.set()
        if self.crash is not None and self.socket is not None:
            fault = WireCrashed("the connection's background task failed")
            fault.__cause__ = self.crash
            self.socket.fail(fault)

    async def _cancel_when_closed(self) -> None:
        # After refusing a request, trio-websocket closes the stream and waits for ever.
        await self.stream.closed.wait()
        self.scope.cancel()


@asynccontextmanager
async def accept(
    transport: trio.abc.Stream,
    *,
    path: str | None,
    max_text_bytes: int,
    max_binary_bytes: int,
    handshake_s: float,
    keepalive_s: float,
    keepalive_timeout_s: float,
    message_s: float,
    judge: Judge | None = None,
    subprotocol: str | None = None,
    greet: Greet = list,
    request: RequestBytes | None = None,
    elsewhere: Elsewhere | None = None,
) -> AsyncIterator[WebSocket]:
    """Answer one opening handshake and yield the open connection.

    The transport is this function's from here: it is closed on every way out, without a
    close frame where the body has not called `WebSocket.close`. What the body raises
    leaves as it is, in no group.

    Args:
        transport: a fresh connection; if it is a `trio.SSLStream`, its handshake is done here.
        path: the only path answered, without a query; None when whoever read the request has
            seen to that.
        max_text_bytes: largest text message.
        max_binary_bytes: largest binary message.
        handshake_s: seconds for TLS, and for the whole request to arrive and be answered.
        keepalive_s: seconds between two pings.
        keepalive_timeout_s: seconds for a pong to come.
        message_s: seconds from the first byte of a message, or of a control frame, to its
            last, counted while the connection is read.
        judge: asked about a request for this path, in the time of the handshake; None lets
            every one in.
        subprotocol: selected where the peer offers it; no other ever is.
        greet: makes further headers of the answer.
        request: what was read of the transport already; None to read it.
        elsewhere: serves who asks for another path, for as long as it takes; None refuses
            them.

    Raises:
        HandshakeRejected: there is no connection; the peer was told why.
        AskedElsewhere: there is none, because another path was asked for and served.
        PeerGone: the peer left during the handshake.
        WireCrashed: a bug below this connection.

    Cancellation: the transport is closed at once.
    """
    decoder = Decoder(max_text_bytes=max_text_bytes, max_binary_bytes=max_binary_bytes)
    host = _Host(
        transport,
        decoder,
        keepalive_s=keepalive_s,
        keepalive_timeout_s=keepalive_timeout_s,
        message_s=message_s,
        greet=greet,
    )
    try:
        async with open_plain_nursery() as nursery:
            try:
                answer = partial(_answer, path=path, judge=judge, subprotocol=subprotocol)
                yield await _open(
                    nursery, transport, host, handshake_s, answer, request, elsewhere
                )
            finally:
                host.scope.cancel()
    finally:
        if host.socket is not None:
            host.socket.release()
        await close_now(transport)


async def _open(
    nursery: trio.Nursery,
    transport: trio.abc.Stream,
    host: _Host,
    handshake_s: float,
    answer: _Answer,
    request: RequestBytes | None,
    elsewhere: Elsewhere | None,
) -> WebSocket:
    with hold_after(handshake_s) as deadline:
        if isinstance(transport, trio.SSLStream):
            await shake_tls(transport)
        read = request or await read_head(transport)
        result = await _shake_hands(nursery, transport, host, answer, read)
        if isinstance(result, WebSocket):
            return result
        refusal = result
    if deadline.cancelled_caught:
        refusal = HandshakeReject(408, f"the handshake took longer than {handshake_s:g} s")
    elif elsewhere is not None and isinstance(read, RequestBytes) and refusal.status == 404:
        await elsewhere(transport, read)
        raise AskedElsewhere("it asked for another path")
    if host.stream.http_status is None:
        await refuse(transport, refusal)
    raise HandshakeRejected(refusal.reason, refusal.status)


async def _shake_hands(
    nursery: trio.Nursery,
    transport: trio.abc.Stream,
    host: _Host,
    answer: _Answer,
    request: RequestBytes | HandshakeReject,
) -> WebSocket | HandshakeReject:
    """Answer the request with a connection, or say why there is none."""
    if isinstance(request, HandshakeReject):
        return request
    head = await answer(request.head)
    if isinstance(head, HandshakeReject):
        return head
    host.stream.give_head(head)
    nursery.start_soon(host.run)
    await host.settled.wait()
    if host.stream.is_broken:
        raise PeerGone("the peer left before its handshake was answered")
    if host.socket is None:
        # A bug: the head was made here.
        raise WireCrashed("the handshake failed") from host.crash
    host.decoder.feed(request.rest)
    host.stream.put_control(host.decoder.control)
    host.socket.keep_time()
    return host.socket


async def _answer(
    head: bytes,
    *,
    path: str | None,
    judge: Judge | None,
    subprotocol: str | None,
) -> bytes | HandshakeReject:
    """The head to give to trio-websocket, or why there is no connection."""
    request = read_request(head, path)
    if isinstance(request, HandshakeReject):
        return request
    refusal = check_upgrade(request)
    if refusal is None and judge is not None:
        refusal = await judge(request)
    if refusal is not None:
        return refusal
    is_offered = subprotocol in request.items("sec-websocket-protocol")
    return upgrade_head(request, subprotocol if is_offered else None)

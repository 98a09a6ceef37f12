"""picows: callbacks from a compiled parser."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

from picows import (
    WSCloseCode,
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    ws_create_server,
)

from cfw.bench.peers.asyncio_loop import run as run_loop
from cfw.bench.peers.checks import LIMITS, QUEUE_FRAMES, Capture, Consumer, Refused
from cfw.bench.peers.structs import Close, FrameMeta, parse, parse_open


class _Rig(WSListener):
    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self._taken: Capture | None = None
        self._fragments = b""
        self._fragments_type: WSMsgType | None = None
        # A callback cannot wait: it pauses reading instead, so the queue may grow by what
        # one read has brought.
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._is_paused = False
        self._is_over = False

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        self._task = asyncio.create_task(self._consume())

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        kind = frame.msg_type
        if self._is_over or kind is WSMsgType.CLOSE:
            if kind is WSMsgType.CLOSE:
                transport.disconnect()
            return
        if not frame.fin or kind is WSMsgType.CONTINUATION:
            self._fragment(frame)
            return
        try:
            if kind is WSMsgType.BINARY:
                self._frame(frame.get_payload_as_bytes())
            elif kind is WSMsgType.TEXT:
                self._message(frame.get_payload_as_bytes())
        except Refused as exc:
            self._refuse(exc)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._task.cancel()

    def _frame(self, data: bytes) -> None:
        if self._taken is None:
            raise Refused("protocol_violation: a capture begins with capture.open")
        self._taken.frame(data)
        self._queue.put_nowait(data)
        if self._queue.qsize() >= QUEUE_FRAMES and not self._is_paused:
            self._is_paused = True
            self._transport.underlying_transport.pause_reading()

    def _message(self, text: bytes) -> None:
        if self._taken is None:
            self._taken = Capture(parse_open(text))
            return
        message = parse(text)
        if isinstance(message, FrameMeta):
            self._taken.meta(message)
        elif isinstance(message, Close):
            self._taken.close(message)
            self._is_over = True
            self._queue.put_nowait(None)
        else:
            raise Refused("protocol_violation: a second capture.open")

    def _fragment(self, frame: WSFrame) -> None:
        self._fragments += frame.get_payload_as_bytes()
        if frame.msg_type is not WSMsgType.CONTINUATION:
            self._fragments_type = frame.msg_type
        try:
            if len(self._fragments) > LIMITS.max_frame_bytes:
                raise Refused("limit_frame_bytes_exceeded")
            if frame.fin:
                whole, self._fragments = self._fragments, b""
                take = (
                    self._frame if self._fragments_type is WSMsgType.BINARY else self._message
                )
                take(whole)
        except Refused as exc:
            self._refuse(exc)

    def _refuse(self, exc: Refused) -> None:
        self._is_over = True
        self._task.cancel()
        self._transport.send_close(WSCloseCode.POLICY_VIOLATION, str(exc).encode())
        self._transport.disconnect()

    async def _consume(self) -> None:
        while (data := await self._queue.get()) is not None:
            self._consumer.take(data)
            if self._is_paused and self._queue.empty():
                self._is_paused = False
                self._transport.underlying_transport.resume_reading()
        assert self._taken is not None
        self._transport.send_close(WSCloseCode.OK, self._taken.receipt().encode())
        self._transport.disconnect()


async def _main(
    consumer: Consumer, announce: Callable[[int], None], tls: ssl.SSLContext | None
) -> None:
    def listener(_: WSUpgradeRequest) -> WSListener:
        return _Rig(consumer)

    server = await ws_create_server(
        listener,
        "127.0.0.1",
        0,
        max_frame_size=LIMITS.max_frame_bytes,
        backlog=2048,
        ssl=tls,
    )
    announce(server.sockets[0].getsockname()[1])
    await server.serve_forever()


def run(
    consumer: Consumer, announce: Callable[[int], None], tls: ssl.SSLContext | None
) -> None:
    """Serve for ever."""
    run_loop(_main(consumer, announce, tls))

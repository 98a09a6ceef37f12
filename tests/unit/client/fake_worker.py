"""A scripted worker at the other end of a stream; it records what the rig sends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import attrs
import trio
import trio.testing
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_server_stream

from schemas import (
    SCHEMA_VERSION,
    CameraFeedWorkerInput,
    CaptureAbort,
    CaptureClose,
    CaptureOpen,
    ErrorCode,
    FeedAbort,
    FeedClose,
    FeedFrame,
    FeedOpened,
    parse_input,
    to_json,
)

JPEG = b"\xff\xd8 a picture \xff\xd9"
#: A text that would clear a terminal, turn the rest of the line around and forge a line.
HOSTILE = "a\x1b[2J\x9b2J\x7f\u202eb\u2066\nError: forged"
Script: TypeAlias = "Callable[[FakeWorker], Awaitable[None]]"
StreamPair: TypeAlias = "Callable[[], tuple[Any, Any]]"


@attrs.define(eq=False)
class FakeWorker:
    """Speaks the worker's side of the protocol, as its script says.

    Args:
        connection: the WebSocket to the rig.
        stream: what it runs over; closing it cuts the connection.
        path: what the rig asked for.
        messages: every control message received.
        frames: every binary message received.
        closed_at: when the connection was seen to end, on Trio's clock; None until then.
    """

    connection: WebSocketConnection
    stream: trio.abc.Stream
    path: str
    headers: list[tuple[bytes, bytes]]
    messages: list[CameraFeedWorkerInput] = attrs.field(factory=list)
    frames: list[bytes] = attrs.field(factory=list)
    close_code: int | None = None
    closed_at: float | None = None

    async def read(self) -> CameraFeedWorkerInput | bytes:
        """Receive one message and record it."""
        text = await self.connection.get_message()
        if isinstance(text, bytes):
            self.frames.append(text)
            return text
        message = parse_input(text)
        self.messages.append(message)
        return message

    async def read_until(self, kind: type[CameraFeedWorkerInput] | type[bytes]) -> None:
        """Receive messages up to the first of a kind."""
        while not isinstance(await self.read(), kind):
            pass

    async def read_to_end(self) -> None:
        """Receive until the rig has gone."""
        try:
            while True:
                await self.read()
        except ConnectionClosed as exc:
            self.close_code = exc.reason.code if exc.reason is not None else None
            self.closed_at = trio.current_time()

    async def confirm(self) -> None:
        """Take a whole capture and send the receipt."""
        await self.read_until(CaptureClose)
        await self.close(1000, receipt(self.frames))

    async def tell_abort(self, code: ErrorCode, **diagnostics: Any) -> None:
        """Send the abort message, and no close frame."""
        opening = next(m for m in self.messages if isinstance(m, CaptureOpen))
        await self.connection.send_message(
            to_json(
                CaptureAbort(
                    schema_version=SCHEMA_VERSION,
                    record_id=opening.record_id,
                    user_id=opening.user_id,
                    capture_id=opening.capture_id,
                    timestamp=opening.timestamp,
                    source="camera_feed_worker",
                    error_code=code,
                    **diagnostics,
                )
            )
        )

    async def close(self, code: int, reason: str | None = None) -> None:
        """Send a close frame and wait for the answer."""
        await self.connection.aclose(code, reason)


def receipt(frames: list[bytes]) -> str:
    """The reason of a close frame 1000."""
    return f'{{"frames":{len(frames)},"bytes":{sum(map(len, frames))}}}'


async def shake_hands(nursery: trio.Nursery, stream: trio.abc.Stream) -> FakeWorker:
    """Take the rig's handshake."""
    request = await wrap_server_stream(nursery, stream)
    connection = await request.accept()
    return FakeWorker(connection, stream, request.path, request.headers)


async def run_script(stream: trio.abc.Stream, script: Script, seen: list[FakeWorker]) -> None:
    """Be the worker of one connection."""
    async with stream, trio.open_nursery() as nursery:
        worker = await shake_hands(nursery, stream)
        seen.append(worker)
        await script(worker)
        nursery.cancel_scope.cancel()


@attrs.define(eq=False)
class Rig:
    """What a test gives to `open_capture`, and the worker it then talks to."""

    stream: Any
    seen: list[FakeWorker] = attrs.field(factory=list)

    @property
    def worker(self) -> FakeWorker:
        """The worker, once the handshake is done."""
        return self.seen[0]

    @property
    def options(self) -> dict[str, Any]:
        """Arguments for `open_capture`."""
        return options_of(self.stream)


@asynccontextmanager
async def fake_worker(
    script: Script, pair: StreamPair = trio.testing.memory_stream_pair
) -> AsyncIterator[Rig]:
    """Run a script at the far end of a pair of streams; it has to end by itself."""
    near, far = pair()
    rig = Rig(near)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_script, far, script, rig.seen)
        yield rig


@asynccontextmanager
async def listening_worker(
    serve: Callable[[trio.SocketStream], Awaitable[None]],
) -> AsyncIterator[str]:
    """Listen on loopback and hand every connection to `serve`; gives the URL."""
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        port = listeners[0].socket.getsockname()[1]
        yield f"ws://127.0.0.1:{port}"
        nursery.cancel_scope.cancel()


def options_of(stream: Any) -> dict[str, Any]:
    """Arguments for `open_capture` over a stream."""
    return {
        "url": "ws://worker",
        "user_id": "ada",
        "session_id": "s1",
        "width": 640,
        "height": 480,
        "fps": 15,
        "stream": stream,
    }


def feed_messages(
    capture_id: str = "c1",
) -> tuple[FeedOpened, FeedFrame, FeedClose, FeedAbort]:
    """One of each that the feed knows, all of one capture; the frame is `JPEG`."""
    now = "2026-05-04T10:20:30.123Z"
    header: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "record_id": "0e0f4f3c-6c4b-4b51-9d0c-6f2f5f2b8c11",
        "user_id": "ada",
        "capture_id": capture_id,
        "timestamp": now,
        "timestamp_ingest": now,
    }
    counts: dict[str, Any] = {
        "frames_accepted": 1,
        "bytes_accepted": len(JPEG),
        "frames_forwarded": 1,
        "bytes_forwarded": len(JPEG),
    }
    return (
        FeedOpened(
            **header,
            session_id="s1",
            timestamp_start=now,
            fps_target=15,
            width=640,
            height=480,
            encoding="jpeg",
        ),
        FeedFrame(**header, seq=1, timestamp_frame=now, byte_length=len(JPEG)),
        FeedClose(**header, **counts, timestamp_end=now),
        FeedAbort(**header, **counts, error_code=ErrorCode.CLIENT_DISCONNECTED, detail="gone"),
    )

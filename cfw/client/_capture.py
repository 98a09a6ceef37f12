"""One capture, from `capture.open` to the receipt.

    caller's body --[one frame]--> sender task --> WebSocket
    outcome <-- watcher task <-- WebSocket

The sender is a task of its own so that a caller cancelled in `send_frame` leaves at once,
while the frame goes out whole: half a message would make the connection useless.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import datetime
from typing import Any, Unpack

import trio
from trio_websocket import ConnectionClosed

from cfw.client._clock import ClockOffset, RigClock
from cfw.client._encode import Frame, FrameEncoder
from cfw.client._end import outcome_of, read_abort
from cfw.client._errors import ConnectionLost
from cfw.client._link import GRACE_S, Address, Link, open_link
from cfw.client._options import CaptureOptions, CaptureSettings
from cfw.client._receipts import Receipt
from schemas import (
    SCHEMA_VERSION,
    CaptureAbort,
    CaptureClose,
    CaptureError,
    CaptureFrameMeta,
    CaptureOpen,
    Timestamp,
    WorkerLimits,
    restate,
    to_json,
)

CAPTURE_PATH = "/camera_feed_worker/capture"
#: A worker sends one small JSON text; `detail` is the only field that may be long.
MAX_MESSAGE_BYTES = 65_536


class _Header:
    """Who sends and what the time is: the fields that every message begins with."""

    def __init__(self, user_id: str, capture_id: str, clock: RigClock) -> None:
        self._fixed = {
            "schema_version": SCHEMA_VERSION,
            "user_id": user_id,
            "capture_id": capture_id,
        }
        self.now = clock.now

    def fields(self) -> dict[str, Any]:
        return {**self._fixed, "record_id": str(uuid.uuid4()), "timestamp": self.now()}


class Capture:
    """A capture that is open; `open_capture` makes it.

    Attributes:
        capture_id: its name at the worker and in the feed.
        frames_sent: frames given to `send_frame` and not refused by it.
        bytes_sent: of those frames together.
        receipt: what the worker confirmed; None until the block of `open_capture` has ended
            without an exception.
        limits: of this worker; None when it tells none.
        offset: of this rig's clock, as the handshake tells it; None when it does not.
    """

    def __init__(
        self,
        link: Link,
        header: _Header,
        opening: CaptureOpen,
        encoder: FrameEncoder,
        rig_tells_time: bool,
    ) -> None:
        self.capture_id = opening.capture_id
        self.frames_sent = 0
        self.bytes_sent = 0
        self.receipt: Receipt | None = None
        self.limits: WorkerLimits | None = link.greeting.limits
        self.offset: ClockOffset | None = link.offset
        self._link = link
        self._header = header
        self._encoder = encoder
        self._last_event_time = opening.timestamp_start
        self._rig_tells_time = rig_tells_time
        self._turn = trio.StrictFIFOLock()
        self._is_closed = False
        self._outbox, self._to_send = trio.open_memory_channel[tuple[str | bytes, ...]](1)
        self._sent = trio.Event()
        self._sent.set()
        self._sending = trio.CancelScope()
        self._watching = trio.CancelScope()
        self._outcome: Receipt | CaptureError | None = None
        self._ended = trio.Event()

    async def send_frame(self, frame: Frame, timestamp: datetime | str | None = None) -> None:
        """Send one frame, and wait until the connection has taken it.

        Several tasks may call it; the frames go in the order of the calls. An array is made
        a JPEG in a worker thread.

        Args:
            frame: one JPEG image as bytes; or a picture as a uint8 array, height x width x 3
                or height x width (grey), of the size declared.
            timestamp: when the frame was taken. Text is forwarded as it is, a `datetime` in
                ISO 8601 (a naive one is read as UTC); None means now.

        Raises:
            SchemaError: the timestamp is none, or there are no bytes; nothing was sent.
            ValueError: the array is no such picture; nothing was sent.
            ImportError: an array needs an encoder and none is installed; nothing was sent.
            CaptureAborted: the worker ended the capture, now or since the last call.
            ConnectionLost: the connection is gone.
            trio.ClosedResourceError: the block of `open_capture` has been left.

        Cancellation: safe. A frame that waits behind another one is then not sent; one that
        is on its way goes out whole before anything else does, and one that is being encoded
        is first encoded, then not sent.
        """
        taken = self._header.now() if timestamp is None else timestamp
        data = self._encoder.read(frame)
        async with self._turn:
            if isinstance(data, memoryview):
                self._check_open()
                data = await trio.to_thread.run_sync(self._encoder.encode, data)
            await self._put(data, taken, rig_tells_time=timestamp is not None)

    async def put(
        self, data: bytes, taken: Timestamp | datetime | str, *, rig_tells_time: bool
    ) -> None:
        """Send one JPEG; see `send_frame`.

        Args:
            data: the JPEG.
            taken: when it was taken.
            rig_tells_time: whether that is the caller's word, and not the time of the call.
        """
        async with self._turn:
            await self._put(data, taken, rig_tells_time=rig_tells_time)

    async def _put(
        self, data: bytes, taken: Timestamp | datetime | str, *, rig_tells_time: bool
    ) -> None:
        await self._sent.wait()
        self._check_open()
        meta = CaptureFrameMeta(
            **self._header.fields(),
            seq=self.frames_sent + 1,
            timestamp_frame=taken,
            byte_length=len(data),
        )
        self._last_event_time = meta.timestamp_frame
        self._rig_tells_time = rig_tells_time
        self.frames_sent += 1
        self.bytes_sent += len(data)
        await self._send(to_json(meta), data)
        self._check_open()

    async def wait_ended(self) -> None:
        """Wait until the worker, or the connection, has ended the capture."""
        await self._ended.wait()

    def _check_open(self) -> None:
        if self._is_closed:
            raise trio.ClosedResourceError("the capture has been closed")
        if self._outcome is not None:
            raise self._failure() from self._link.fault

    def _failure(self) -> CaptureError:
        if isinstance(self._outcome, CaptureError):
            return self._outcome
        self._outcome = ConnectionLost("the worker closed the capture before the rig did", 1000)
        return self._outcome

    async def _send(self, *messages: str | bytes) -> None:
        """Hand messages to the sender task, which is idle, and wait until they are out."""
        self._sent = trio.Event()
        self._outbox.send_nowait(messages)
        await self._sent.wait()

    async def _open(self, opening: CaptureOpen) -> None:
        self._link.nursery.start_soon(self._run_watcher)
        self._link.nursery.start_soon(self._run_sender)
        await self._send(to_json(opening))

    async def _finish(self, close_timeout: float) -> None:
        """Send `capture.close` and wait for the receipt."""
        with trio.move_on_after(close_timeout):
            async with self._turn:
                await self._sent.wait()
                self._check_open()
                self._is_closed = True
                await self._send(to_json(self._closing()))
            await self._ended.wait()
        self._end(ConnectionLost(f"the worker sent no receipt within {close_timeout:g} s"))
        if not isinstance(self._outcome, Receipt):
            raise self._failure() from self._link.fault
        self.receipt = self._outcome

    def _closing(self) -> CaptureClose:
        # A rig that tells its own time, such as that of a recording, ends at its last
        # event; our clock may be far from that, and the worker compares the two.
        now = self._header.now()
        is_theirs = self._rig_tells_time or now.ns < self._last_event_time.ns
        return CaptureClose(
            **self._header.fields(), timestamp_end=self._last_event_time if is_theirs else now
        )

    def _end(self, outcome: Receipt | CaptureError) -> None:
        """Settle how the capture ended; the first one to know is believed."""
        if self._outcome is None:
            self._outcome = outcome
            self._ended.set()
            self._sending.cancel()

    async def _run_sender(self) -> None:
        try:
            with self._sending, suppress(ConnectionClosed):
                async for messages in self._to_send:
                    for message in messages:
                        await self._link.connection.send_message(message)
                    if self._link.transport.is_send_broken:
                        break
                    self._sent.set()
            # Why nothing can be sent any more is for the watcher to read.
            self._expect_end()
            await self._ended.wait()
        finally:
            self._end(ConnectionLost("the connection broke"))
            self._sent.set()

    async def _run_watcher(self) -> None:
        connection = self._link.connection
        abort: CaptureAbort | None = None
        try:
            with self._watching, suppress(ConnectionClosed):
                while True:
                    message = await connection.get_message()
                    if abort is None and (abort := read_abort(message)) is not None:
                        self._sending.cancel()
                        self._expect_end()  # for the close frame behind the abort message
        finally:
            self._end(outcome_of(abort, connection.closed))

    def _expect_end(self) -> None:
        self._watching.deadline = min(self._watching.deadline, trio.current_time() + GRACE_S)


def open_capture(
    url: str,
    *,
    stream: trio.abc.Stream | None = None,
    **options: Unpack[CaptureOptions],
) -> AbstractAsyncContextManager[Capture]:
    """Connect to a worker, send one capture, and wait for its receipt.

        async with open_capture("ws://127.0.0.1:8765", user_id="ada", session_id="s1",
                                width=640, height=480, fps=15) as capture:
            for jpeg in camera:
                await capture.send_frame(jpeg)
        print(capture.receipt)

    The block ends without an exception only with a receipt. An exception of the body leaves
    as it is, and the connection is closed without `capture.close`, so that the worker tells
    its consumers `client_disconnected`. The capture ends at the event time of its last frame
    when that was given, otherwise now.

    Args:
        url: `ws://` or `wss://`; without a path, the worker's own is used.
        stream: a connection to use instead of dialling, for example a Unix socket; it is
            closed with the capture. None dials what the URL says.
        options: see `CaptureOptions`.

    Raises:
        TypeError: an option is missing, or there is none of that name; at the call.
        ValueError: the URL, a timeout or an encoding is none; nothing was sent.
        ImportError: the encoder asked for is not installed; nothing was sent.
        SchemaError: an argument breaks the protocol; nothing was sent.
        AccessDenied: the worker wants another token.
        ConnectionRefused: there was no WebSocket to be had.
        CaptureAborted: the worker ended the capture; raised by `send_frame` or at the end.
        ConnectionLost: the connection ended without a receipt; likewise.

    Cancellation: leaves at once; the socket is closed, without `capture.close`.
    """
    return run_capture(url, CaptureSettings(**options), stream)


@asynccontextmanager
async def run_capture(
    url: str,
    settings: CaptureSettings,
    stream: trio.abc.Stream | None = None,
    clock: RigClock | None = None,
) -> AsyncIterator[Capture]:
    """See `open_capture`.

    Args:
        clock: by which the capture writes its times; None makes one.
    """
    address = Address.parse(url, CAPTURE_PATH)
    clock = RigClock() if clock is None else clock
    given = settings.capture_id
    header = _Header(settings.user_id, str(uuid.uuid4()) if given is None else given, clock)
    start = settings.timestamp_start
    opening = restate(
        settings,
        CaptureOpen,
        **header.fields(),
        timestamp_start=header.now() if start is None else start,
        fps_target=settings.fps,
        encoding="jpeg",
    )
    encoder = settings.encoder()
    async with open_link(
        address, settings, clock=clock, stream=stream, max_message_bytes=MAX_MESSAGE_BYTES
    ) as link:
        capture = Capture(link, header, opening, encoder, start is not None)
        try:
            await capture._open(opening)
            yield capture
            await capture._finish(settings.close_timeout)
        finally:
            capture._is_closed = True

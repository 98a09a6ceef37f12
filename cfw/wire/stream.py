"""The stream that trio-websocket talks to: control frames in, everything out.

trio-websocket answers pings, matches pongs and writes frames, but is never shown a data
frame. Its background task reads from here: first the request head, then control frames,
and last, once our own close frame is out, how the peer ended.
"""

from typing import Final

import trio
from trio.lowlevel import ParkingLot, checkpoint, checkpoint_if_cancelled

_CLOSE: Final = 0x88


class WireStream(trio.abc.Stream):
    """Stands between trio-websocket and a transport that it does not own.

    One control frame is given per call, and none once closing has begun: wsproto raises
    where it holds a ping and its connection is no longer open.

    The peer's close frame, and the end of its bytes, wait for our own close frame. So the
    code and the reason that go out are ours, not an echo, also to a peer that closed first
    or has shut down its sending half.

    Args:
        transport: where `send_all` sends; not closed by `aclose`.

    Attributes:
        closed: set when trio-websocket has closed this stream.
        close_sent: our close frame is out, and our sending half shut down where it can be.
        is_broken: a send failed or was cut short; nothing more can be sent.
        http_status: status of the HTTP answer sent; None before it.
    """

    def __init__(self, transport: trio.abc.Stream) -> None:
        self.closed = trio.Event()
        self.close_sent = False
        self.is_broken = False
        self.http_status: int | None = None
        self._transport = transport
        self._is_closing = False
        self._next = b""
        self._control = bytearray()
        self._close_frame = b""
        self._is_eof = False
        self._changed = ParkingLot()

    # For the reader of the transport.

    def give_head(self, head: bytes) -> None:
        """Give the request head, before trio-websocket is started."""
        self._next = head

    def put_control(self, frames: bytearray) -> None:
        """Take whole valid control frames, and empty `frames`."""
        if self._takes_control:
            self._control += frames
            self._changed.unpark_all()
        frames.clear()

    @property
    def has_control(self) -> bool:
        """Whether a control frame that was put has not been taken."""
        return bool(self._control) and self._takes_control

    async def wait_control_read(self) -> None:
        """Wait until every control frame put has been taken; no checkpoint if none is left.

        So the pong to a ping goes out before an answer to a message behind that ping, and a
        peer that sends pings without reading pongs is not read any further.
        """
        while self.has_control:
            await self._changed.park()

    def begin_close(self) -> None:
        """Give no further ping or pong: our close frame is about to be sent."""
        self._is_closing = True
        self._changed.unpark_all()

    def end_input(self, close_frame: bytes = b"") -> None:
        """Say how the peer ended; given on after our own close frame.

        Args:
            close_frame: the peer's close frame, masked; empty when its bytes just ended.
        """
        self._close_frame = self._close_frame or close_frame
        self._is_eof = self._is_eof or not close_frame
        self._changed.unpark_all()

    @property
    def _takes_control(self) -> bool:
        return not (self._is_closing or self.is_broken or self.closed.is_set())

    # For trio-websocket.

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return the next bytes that are trio-websocket's business; empty at the end."""
        await checkpoint()
        while not self._next:
            if self.closed.is_set():
                raise trio.ClosedResourceError("this stream was closed")
            if self.is_broken:
                return b""
            if self.close_sent and self._close_frame:
                self._next, self._close_frame = self._close_frame, b""
            elif self.close_sent and self._is_eof:
                return b""
            elif self._control and not self._is_closing:
                size = 6 + (self._control[1] & 0x7F)
                self._next = bytes(self._control[:size])
                del self._control[:size]
                self._changed.unpark_all()
            else:
                await self._changed.park()
        data = self._next[:max_bytes]
        self._next = self._next[len(data) :]
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send to the transport; a close frame ends our sending half."""
        if self.closed.is_set():
            raise trio.ClosedResourceError("this stream was closed")
        if self.is_broken:
            raise trio.BrokenResourceError("an earlier send was cut short")
        # Cancelled here, no byte has gone out and the stream stays whole.
        await checkpoint_if_cancelled()
        if self.http_status is None:
            self.http_status = int(bytes(data[9:12]))
        try:
            await self._transport.send_all(data)
            if data[0] == _CLOSE and isinstance(self._transport, trio.abc.HalfCloseableStream):
                await self._transport.send_eof()
        except BaseException:
            # Some bytes of a frame may be out: whatever followed would be read as the rest.
            self.is_broken = True
            self._changed.unpark_all()
            raise
        if data[0] == _CLOSE:
            self.close_sent = True
            self._changed.unpark_all()

    async def wait_send_all_might_not_block(self) -> None:
        """Pass the question on to the transport."""
        await self._transport.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """End trio-websocket's part and wake all who wait; the transport stays open.

        It is closed by its owner, who lets the peer read the last bytes before.
        """
        self.close_nowait()
        await checkpoint()

    def close_nowait(self) -> None:
        """Do as `aclose` does, from a place that cannot wait."""
        self.closed.set()
        self._changed.unpark_all()

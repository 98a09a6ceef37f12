"""One server-side WebSocket connection: batches of whole messages in, text out."""

import math
from typing import Final, TypeVar

import attrs
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection

from cfw.wire.decoder import Decoder
from cfw.wire.errors import (
    KeepaliveTimeout,
    MessageTimeout,
    PeerClosed,
    PeerGone,
    WireError,
)
from cfw.wire.handshake import (
    close_now,
    end_half,
)
from cfw.wire.patience import Patience
from cfw.wire.stream import WireStream
from cfw.wire.tls import open_receiver

#: RFC 6455, 5.5: a control frame carries 125 bytes, two of which are the close code.
MAX_REASON_BYTES: Final = 123

#: What a peer that goes on sending may send behind our close frame and still read it: many
#: times what the kernels of both sides hold (Linux: up to 6 MB and 4 MB), and a half second
#: of a gigabit link. One that sends on for ever costs no more than this.
LINGER_BYTES: Final = 64 * 1024 * 1024

_E = TypeVar("_E", bound=WireError)


class WebSocket:
    """An open connection, made by `accept`.

    One task at a time may call `receive_batch`; any task may send.

    Attributes:
        held_s: for how long it waited for a turn to be read, among others that flood, since
            this was set back to 0; in seconds.
        round_trip_s: the shortest time from a ping to its pong, in seconds of Trio's clock;
            None before the first pong.
    """

    def __init__(
        self,
        transport: trio.abc.Stream,
        stream: WireStream,
        library: WebSocketConnection,
        decoder: Decoder,
        nursery: trio.Nursery,
        *,
        keepalive_timeout_s: float,
        message_s: float,
    ) -> None:
        self.held_s = 0.0
        self.round_trip_s: float | None = None
        self._transport = transport
        self._stream = stream
        self._library = library
        self._decoder = decoder
        self._receiver = open_receiver(transport)
        self._nursery = nursery
        # As `trio.current_time`, which looks for the clock each time: once for each frame.
        self._now = trio.lowlevel.current_clock().current_time
        self._is_eof = False
        self._is_closing = False
        self._fault: WireError | None = None
        self._patience = Patience()
        self._message_s = message_s
        # What is left of it for the message that is arriving; infinite between messages.
        self._left_s = math.inf
        # When it is used up, if it is read until then.
        self._message_until = math.inf
        self._keepalive_timeout_s = keepalive_timeout_s
        # When the pong to a ping of the keepalive is due; infinite while none is awaited.
        self._pong_until = math.inf

    @property
    def arrived_bytes(self) -> int:
        """How much of the message that is arriving has come; 0 between messages."""
        return self._decoder.arrived_bytes

    async def receive_batch(self, *, until: float = math.inf) -> list[str | bytes]:
        """Return the messages of one read, in order, text as str.

        What ends the connection is raised after the messages before it, and again by
        every further call.

        Args:
            until: how long to wait for a message, in seconds of Trio's clock.

        Returns:
            At least one message; none when `until` has come, and all that had come by then
            was returned before (see `cfw.wire.patience`), or when `interrupt` was called.

        Raises:
            PeerClosed: the peer's close frame came; it is answered by `close`.
            PeerGone: the transport ended or was reset.
            ProtocolFault, InvalidPayload, MessageTooBig: the peer broke the rules.
            KeepaliveTimeout: the peer left a ping unanswered.
            MessageTimeout: a message was begun and not ended in time.
            WireCrashed: a bug below this connection.
            trio.ClosedResourceError: `close` was called before.

        Cancellation: safe; no message and no byte is lost. One checkpoint per read, some
        more for a read with pings or pongs; none when messages are already there.
        """
        decoder = self._decoder
        if not decoder.messages:
            self._raise_end()
            await self._read_message(until)
            if not decoder.messages:
                self._raise_end()
        messages, decoder.messages = decoder.messages, []
        return messages

    @property
    def frames_received(self) -> int:
        """How many frames have come so far: of messages, pings and pongs."""
        return self._decoder.frames

    def interrupt(self) -> None:
        """Let a `receive_batch` that waits return without a message."""
        self._receiver.wake()

    async def _read_message(self, until: float) -> None:
        """Read until there is a message, the end, or no time left."""
        decoder, stream, receiver = self._decoder, self._stream, self._receiver
        patience = self._patience
        receiver.is_woken = False
        now = self._now()
        self._message_until = now + self._left_s
        try:
            while True:
                receiver.is_called, held_s = False, receiver.held_s
                deadline = wait_until = min(until, self._message_until, self._pong_until)
                is_overdue = now >= deadline
                if is_overdue:
                    if patience.is_spent(deadline, now):
                        await trio.lowlevel.checkpoint()
                        self._blame(deadline)
                        break
                    wait_until = patience.wait_until(deadline, now)
                received: int | None = None
                has_control = stream.has_control
                if not has_control:  # else left by a peer that takes no pong
                    received = await self._decode(wait_until)
                    if decoder.control:
                        stream.put_control(decoder.control)
                        has_control = stream.has_control
                if has_control:
                    with receiver.wait(wait_until):
                        await stream.wait_control_read()
                held_s = receiver.held_s - held_s
                if held_s:  # it was not its peer who waited for a turn
                    self.held_s += held_s
                    self._message_until += held_s
                    self._pong_until += held_s
                if decoder.messages or decoder.is_over or self._is_eof or receiver.is_woken:
                    if is_overdue:  # counted, though it is taken
                        patience.is_over(deadline, now, received, was_held=held_s > 0)
                    break
                now = self._now()
                self._time_message(now)
                deadline = min(until, self._message_until, self._pong_until)
                if now >= deadline and patience.is_over(
                    deadline, now, received, was_held=held_s > 0
                ):
                    self._blame(deadline)
                    break
        finally:
            self.keep_time()

    def _time_message(self, now: float) -> None:
        """After a read that ended no message: one may have begun, or a control frame ended.

        Nothing but the end of a message begins its time anew: no ping, no fragment, no byte.
        """
        if self._decoder.in_message is not (self._message_until < math.inf):
            in_message = self._decoder.in_message
            self._message_until = now + self._message_s if in_message else math.inf

    def keep_time(self) -> None:
        """Remember what the message that is arriving has left, until it is read on.

        Only time spent waiting for bytes counts, so nobody pays for a slow sink.
        """
        if not self._decoder.in_message:
            self._left_s = math.inf
        elif self._decoder.messages or self._left_s == self._message_until == math.inf:
            # The last read has begun it, behind others.
            self._left_s = self._message_s
        else:
            self._left_s = self._message_until - trio.current_time()

    def _blame(self, deadline: float) -> None:
        """Hold a time against the peer that is over, unless it is the caller's."""
        if deadline == self._message_until:
            self._fault = self._fault or MessageTimeout(
                f"a message took longer than {self._message_s:g} s to arrive (message_s)"
            )
        elif deadline == self._pong_until:
            self._fault = self._fault or KeepaliveTimeout(
                f"no pong came within {self._keepalive_timeout_s:g} s"
            )

    async def send_text(self, text: str) -> None:
        """Send one text message; see `send_bytes`."""
        await self._send(text)

    async def send_bytes(self, data: bytes) -> None:
        """Send one binary message.

        Raises:
            PeerGone: the peer is away, or an earlier send was cancelled half way.
            trio.ClosedResourceError: `close` was called before.

        Cancellation: the message may be out in part; then nothing more can be sent, and
        `close` sends no close frame.
        """
        await self._send(data)

    async def _send(self, message: str | bytes) -> None:
        if self._is_closing:
            raise trio.ClosedResourceError("this connection was closed")
        try:
            await self._library.send_message(message)
        except ConnectionClosed:
            raise PeerGone("the peer was gone when a message was sent") from None

    def ping_soon(self) -> None:
        """Send one ping beside those of the keepalive, to measure `round_trip_s`.

        Nothing follows when it stays unanswered.
        """
        if not self._stream.closed.is_set():
            self._nursery.start_soon(self._ping)

    async def close(self, code: int, reason: str, *, linger_s: float) -> None:
        """Send our close frame, see the peer off, and close the transport.

        Reads and discards until the peer has ended too, so that it gets to read our last
        words instead of a reset. A peer that closed first gets this code and reason as
        its reply. Never takes longer than `linger_s`, and never reads more than
        `LINGER_BYTES`; a second call does nothing.

        Args:
            code: close code.
            reason: cut to 123 bytes of UTF-8 between two characters.
            linger_s: seconds for all of it; 0 closes at once.

        Cancellation: the transport is closed at once.
        """
        if self._is_closing:
            return
        self._is_closing = True
        self._stream.begin_close()
        reason = reason.encode("utf-8", "replace")[:MAX_REASON_BYTES].decode("utf-8", "ignore")
        try:
            with trio.move_on_after(linger_s):
                async with trio.open_nursery() as nursery:
                    # Side by side: a peer that is busy sending reads only when it is read.
                    nursery.start_soon(self._end_output, code, reason)
                    nursery.start_soon(self._discard)
        finally:
            self.release()
            await close_now(self._transport)

    async def _end_output(self, code: int, reason: str) -> None:
        await self._library.aclose(code, reason)
        if not self._stream.close_sent:
            await end_half(self._transport)

    async def _discard(self) -> None:
        decoder = self._decoder
        has_halves = isinstance(self._transport, trio.abc.HalfCloseableStream)
        left = LINGER_BYTES
        while not self._is_eof and left > 0:
            if decoder.close is not None:
                self._stream.end_input(decoder.close.raw)
                if not has_halves:
                    # The peer waits for us to close, and cannot be told in another way.
                    return
            decoder.messages.clear()
            decoder.control.clear()
            self._receiver.is_woken = self._receiver.is_called = False
            left -= await self._decode() or 0
        if decoder.close is not None:
            self._stream.end_input(decoder.close.raw)
        self._stream.end_input()

    async def _decode(self, deadline: float = math.inf) -> int | None:
        """Read once, and decode what came; how many bytes that was, None if there was none."""
        if self._decoder.is_behind:
            self._receiver.slow_down()
            await trio.lowlevel.checkpoint()
            self._decoder.feed(b"")
            return 0
        try:
            data = await self._receiver.receive(deadline)
        except (trio.BrokenResourceError, OSError):
            data = b""
        if data is None:
            return None
        self._decoder.feed(data)
        self._is_eof = not data
        return len(data)

    def _raise_end(self) -> None:
        if self._is_closing:
            raise trio.ClosedResourceError("this connection was closed")
        if self._decoder.error is not None:
            raise _fresh(self._decoder.error)
        if self._decoder.close is not None:
            raise PeerClosed(self._decoder.close.code, self._decoder.close.reason)
        if self._is_eof:
            raise PeerGone("the peer went away without a close frame")
        if self._fault is not None:
            raise _fresh(self._fault)

    def release(self) -> None:
        """Let go of the transport, which is about to be closed."""
        self._receiver.release()

    def fail(self, fault: WireError) -> None:
        self._fault = self._fault or fault
        self.interrupt()

    async def _ping(self) -> bool:
        """Wait for the pong of a new ping; False when the connection is over before."""
        sent_at = trio.current_time()
        try:
            await self._library.ping()
        except ConnectionClosed:
            return False
        took_s = trio.current_time() - sent_at
        if self.round_trip_s is None or took_s < self.round_trip_s:
            self.round_trip_s = took_s
        return True

    async def keep_alive(self, interval_s: float) -> None:
        is_open = True
        while is_open:
            await trio.sleep(interval_s)
            self._pong_until = trio.current_time() + self._keepalive_timeout_s
            self._receiver.look_up()
            is_open = await self._ping()
            self._pong_until = math.inf


def _fresh(error: _E) -> _E:
    # One that was raised holds the frames that it went through, and they hold this connection.
    again = attrs.evolve(error)
    again.__cause__ = error.__cause__
    return again

"""Sinks, an authority and a peer that do what a test says and record what was done to them.

RecordingSink              takes everything, as fast as it is told to
├── StallingSink           waits at one place, for ever or until it is released
├── FailingSink            raises at one place, once or for ever
└── FlippingSink           works until it is told to raise, or to stall
ScriptedAuthority          answers as written; flips, stalls, is down, raises
DeafPeer                   a peer that reads no further than it is told to

All times recorded are Trio's, so they are exact under a virtual clock. The `check_x` methods
raise AssertionError with what they found.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Literal, TypeAlias

import attrs
import trio

from cfw.sessions import AuthorityUnreachable, SessionStatus, UnusableAnswer
from cfw.state import Frame
from schemas import ErrorCode, FeedAbort, FeedClose, FeedOpened, Terminal

__all__ = [
    "Answer",
    "DeafPeer",
    "FailingSink",
    "FlippingSink",
    "Place",
    "Recorded",
    "RecordingSink",
    "ScriptedAuthority",
    "StallingSink",
]

#: Where in a capture a sink stalls or fails: a frame by its seq, or one of its ends.
Place: TypeAlias = int | Literal["open", "finish", "leave"]
#: What an authority does when asked: answer, raise, be unreachable, have no answer to this
#: question, never return.
Answer: TypeAlias = SessionStatus | Exception | Literal["down", "odd", "stall"]


@attrs.define
class Recorded:
    """What a sink saw of one capture.

    Attributes:
        opened: the capture as it was announced.
        opened_at: when, in seconds of Trio's clock, as all times here.
        frames: the frames taken: those whose `send` came to its end.
        frames_at: when each was taken.
        terminals: what `finish` was called with; there should be one.
        terminals_at: when each came.
        left_at: when the context of the capture was left; None while it is not.
        late_frames: frames offered after the terminal, or after the context was left.
    """

    opened: FeedOpened
    opened_at: float = attrs.field(factory=trio.current_time)
    frames: list[Frame] = attrs.Factory(list)
    frames_at: list[float] = attrs.Factory(list)
    terminals: list[Terminal] = attrs.Factory(list)
    terminals_at: list[float] = attrs.Factory(list)
    left_at: float | None = None
    late_frames: int = attrs.field(default=0, kw_only=True)

    def offer(self) -> None:
        """Record that a frame is being sent, whether it will be taken or not."""
        self.late_frames += bool(self.terminals) or self.is_left

    def take(self, frame: Frame) -> None:
        """Record a frame as taken."""
        self.frames.append(frame)
        self.frames_at.append(trio.current_time())

    def end(self, terminal: Terminal) -> None:
        """Record a terminal."""
        self.terminals.append(terminal)
        self.terminals_at.append(trio.current_time())

    @property
    def is_left(self) -> bool:
        """Whether the context of the capture was left."""
        return self.left_at is not None

    @property
    def terminal(self) -> Terminal:
        """The one terminal there was."""
        self.check_one_terminal()
        return self.terminals[0]

    @property
    def error_code(self) -> ErrorCode | None:
        """The error code of the one terminal; None for a clean end."""
        terminal = self.terminal
        return terminal.error_code if isinstance(terminal, FeedAbort) else None

    def check_one_terminal(self) -> None:
        """The capture has ended, with one terminal."""
        if len(self.terminals) != 1:
            events = [terminal.event for terminal in self.terminals]
            self._fail(f"should have one terminal, and has {len(events)}: {events}")

    def check_left(self) -> None:
        """The context of the capture was left."""
        if not self.is_left:
            self._fail("was never left")

    def check_order(self) -> None:
        """The frames were seq 1, 2, 3, ... and none came after the terminal."""
        seqs = [frame.meta.seq for frame in self.frames]
        if seqs != list(range(1, len(seqs) + 1)):
            self._fail(f"should have frames 1, 2, 3, ... and has {seqs}")
        if self.late_frames:
            self._fail(f"was sent {self.late_frames} frames after its terminal")

    def check_prefix(self, sent: Sequence[bytes], *, is_whole: bool = False) -> None:
        """The frames are the first ones of those that were sent, byte for byte, in order.

        Args:
            sent: the pictures the rig sent.
            is_whole: all of them must have come.
        """
        self.check_order()
        for seq, (frame, data) in enumerate(zip(self.frames, sent, strict=False), 1):
            if frame.data != data:
                self._fail(f"frame {seq} is not the one that was sent")
        if len(self.frames) > len(sent) or (is_whole and len(self.frames) < len(sent)):
            self._fail(f"has {len(self.frames)} frames, of {len(sent)} that were sent")

    def check_accounting(self) -> None:
        """Accepted = forwarded + discarded, and the terminal counts as forwarded what came."""
        terminal = self.terminal
        taken = (len(self.frames), sum(len(frame.data) for frame in self.frames))
        forwarded = (terminal.frames_forwarded, terminal.bytes_forwarded)
        accepted = (terminal.frames_accepted, terminal.bytes_accepted)
        if forwarded != taken:
            self._fail(f"took {taken} frames and bytes, and is told {forwarded}")
        if accepted[0] < forwarded[0] or accepted[1] < forwarded[1]:
            self._fail(f"is told {forwarded} forwarded, of only {accepted} accepted")
        if isinstance(terminal, FeedClose) and accepted != forwarded:
            self._fail(f"ended cleanly with {forwarded} forwarded, of {accepted} accepted")

    def check(self) -> None:
        """All of what holds for every capture that is over."""
        self.check_one_terminal()
        self.check_order()
        self.check_accounting()
        self.check_left()

    def _fail(self, problem: str) -> None:
        raise AssertionError(f"capture {self.opened.capture_id} {problem}")


@attrs.define(kw_only=True)
class RecordingSink:
    """A sink that keeps what it is given.

    Args:
        delay_s: seconds that each `send` takes.
        finish_s: seconds that `finish` takes, after it has recorded the terminal.

    Attributes:
        captures: what was seen of each capture, in the order of their beginning.
    """

    delay_s: float = 0
    finish_s: float = 0
    captures: list[Recorded] = attrs.field(factory=list, init=False)

    async def reach(self, place: Place) -> None:
        """Called at each place of a capture, before a frame counts as taken; does nothing.

        For a sink of your own to do something there.
        """

    @asynccontextmanager
    async def capture(self, opened: FeedOpened) -> AsyncIterator[_Taker]:
        """Record one capture."""
        await self.reach("open")
        recorded = Recorded(opened)
        self.captures.append(recorded)
        try:
            yield _Taker(self, recorded)
            await self.reach("leave")
        finally:
            recorded.left_at = trio.current_time()

    @property
    def only(self) -> Recorded:
        """The one capture there was."""
        if len(self.captures) != 1:
            raise AssertionError(f"there should be one capture, not {len(self.captures)}")
        return self.captures[0]

    def check(self) -> None:
        """All of what holds for captures that are over, for each of them."""
        for recorded in self.captures:
            recorded.check()


@attrs.define
class _Taker:
    _sink: RecordingSink
    _recorded: Recorded

    async def send(self, frame: Frame) -> None:
        self._recorded.offer()
        if self._sink.delay_s:
            await trio.sleep(self._sink.delay_s)
        await self._sink.reach(frame.meta.seq)
        self._recorded.take(frame)

    async def finish(self, terminal: Terminal) -> None:
        self._recorded.end(terminal)
        if self._sink.finish_s:
            await trio.sleep(self._sink.finish_s)
        await self._sink.reach("finish")


@attrs.define(kw_only=True)
class StallingSink(RecordingSink):
    """A sink that comes to one place and does not go on.

    Args:
        at: where it waits.
        release: lets it go on when it is set; until then it waits for ever.

    Attributes:
        stalled_at: when it came to that place, each time.
    """

    at: Place = 1
    release: trio.Event = attrs.Factory(trio.Event)
    stalled_at: list[float] = attrs.field(factory=list, init=False)

    async def reach(self, place: Place) -> None:
        """Wait, if it is here."""
        if place == self.at:
            self.stalled_at.append(trio.current_time())
            await self.release.wait()


@attrs.define(kw_only=True)
class FailingSink(RecordingSink):
    """A sink that raises at one place.

    Args:
        at: where it raises.
        times: how often; after that it works, for example 1 for one capture that fails.
        error: makes the exception.

    Attributes:
        failed_at: when it raised, each time.
    """

    at: Place = 1
    times: float = math.inf
    error: Callable[[str], Exception] = OSError
    failed_at: list[float] = attrs.field(factory=list, init=False)

    async def reach(self, place: Place) -> None:
        """Raise, if it is here and not too often already."""
        if place == self.at and len(self.failed_at) < self.times:
            self.failed_at.append(trio.current_time())
            raise self.error(f"the disk is full (planted at {place!r})")


@attrs.define(kw_only=True)
class FlippingSink(RecordingSink):
    """A sink that works until it is told otherwise; a sweep can tell it at any time.

    Args:
        error: makes the exception.

    Attributes:
        failed_at: when it raised, each time.
        is_stalled: whether it will wait at whatever place it comes to.
    """

    error: Callable[[str], Exception] = OSError
    failed_at: list[float] = attrs.field(factory=list, init=False)
    is_stalled: bool = attrs.field(default=False, init=False)
    _failures: float = attrs.field(default=0, init=False)

    def fail(self, times: float = math.inf) -> None:
        """Raise at the next place it comes to, so many times; 0 works again."""
        self._failures = times

    def stall(self) -> None:
        """Wait for ever at the next place it comes to."""
        self.is_stalled = True

    async def reach(self, place: Place) -> None:
        """Do what it was told."""
        if self.is_stalled:
            await trio.sleep_forever()
        if self._failures > 0:
            self._failures -= 1
            self.failed_at.append(trio.current_time())
            raise self.error(f"the disk is full (planted at {place!r})")


@attrs.define
class ScriptedAuthority:
    """A session authority whose answers a test writes.

    Args:
        answers: one for each check, the last one for ever.
        delay_s: seconds that each check takes.
        flip_to: the answer to everything from `flip_s` on; None never flips by itself.
        flip_s: seconds after the first check.

    Attributes:
        asked: user_id and session_id of each check.
        asked_at: when each was asked.
    """

    answers: Sequence[Answer] = (SessionStatus.ACTIVE,)
    delay_s: float = attrs.field(default=0, kw_only=True)
    flip_to: Answer | None = attrs.field(default=None, kw_only=True)
    flip_s: float = attrs.field(default=0, kw_only=True)
    asked: list[tuple[str, str]] = attrs.field(factory=list, init=False)
    asked_at: list[float] = attrs.field(factory=list, init=False)

    def flip(self, answer: Answer) -> None:
        """Answer this from now on, for example when a session is revoked."""
        self.answers, self.flip_to = (answer,), None

    async def check(self, user_id: str, session_id: str) -> SessionStatus:
        """Answer, when the delay is over, what is written for then."""
        self.asked.append((user_id, session_id))
        self.asked_at.append(trio.current_time())
        number = len(self.asked)
        if self.delay_s:
            await trio.sleep(self.delay_s)
        answer = self.answers[min(number, len(self.answers)) - 1]
        if self.flip_to is not None and trio.current_time() >= self.asked_at[0] + self.flip_s:
            answer = self.flip_to
        if answer == "stall":
            await trio.sleep_forever()
        if answer == "down":
            raise AuthorityUnreachable("planted: it is down")
        if answer == "odd":
            raise UnusableAnswer("planted: HTTP 422")
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, SessionStatus)
        return answer


class DeafPeer(trio.abc.Stream):
    """A transport whose far end reads so many bytes and then no more, without leaving.

    Give it to the code under test in the place of a connection.

    Args:
        stream: the connection; what is received comes from it. Closed with this one.
        reads_bytes: how many bytes still get out.

    Attributes:
        sends: size of each `send_all`, those that never returned included.
        blocked_at: when sending first got stuck; None while it has not.
        is_closed: this end was closed.
    """

    def __init__(self, stream: trio.abc.Stream, reads_bytes: int = 0) -> None:
        self.sends: list[int] = []
        self.blocked_at: float | None = None
        self.is_closed = False
        self._stream = stream
        self._left = reads_bytes
        self._closed = trio.Event()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send what the peer still reads, then wait until this end is closed.

        Raises:
            trio.ClosedResourceError: this end was closed.
        """
        self.sends.append(len(data))
        part, self._left = data[: self._left], max(0, self._left - len(data))
        await self._stream.send_all(part)
        if len(part) < len(data):
            await self.wait_send_all_might_not_block()

    async def wait_send_all_might_not_block(self) -> None:
        """Wait, if the peer reads no more, until this end is closed."""
        if self._left:
            await self._stream.wait_send_all_might_not_block()
            return
        if self.blocked_at is None:
            self.blocked_at = trio.current_time()
        await self._closed.wait()
        raise trio.ClosedResourceError("this end was closed while the peer did not read")

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receive what the peer says."""
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        """Close the connection."""
        self.is_closed = True
        self._closed.set()
        await self._stream.aclose()

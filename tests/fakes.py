"""Sinks and authorities that do what a test says and record what was done to them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import trio

from cfw.sessions import SessionStatus
from cfw.state import Frame
from schemas import FeedOpened, Terminal


@attrs.define
class Recorded:
    """What the sink saw of one capture."""

    opened: FeedOpened
    frames: list[Frame] = attrs.Factory(list)
    terminals: list[Terminal] = attrs.Factory(list)
    is_left: bool = False


@attrs.define
class RecordingSink:
    """A sink that keeps what it is given.

    Args:
        delay_s: what each `send` takes; `inf` never returns.
        finish_s: what `finish` takes.
        fails_at: the seq whose `send` raises; 0 fails at entering, -1 at `finish`.
    """

    delay_s: float = 0
    finish_s: float = 0
    fails_at: int | None = None
    captures: list[Recorded] = attrs.Factory(list)

    @asynccontextmanager
    async def capture(self, opened: FeedOpened) -> AsyncIterator[_Capture]:
        if self.fails_at == 0:
            raise OSError("the disk is gone")
        recorded = Recorded(opened)
        self.captures.append(recorded)
        try:
            yield _Capture(self, recorded)
        finally:
            recorded.is_left = True

    @property
    def only(self) -> Recorded:
        """The one capture there was."""
        (recorded,) = self.captures
        return recorded


@attrs.define
class _Capture:
    _sink: RecordingSink
    _recorded: Recorded

    async def send(self, frame: Frame) -> None:
        if self._sink.delay_s:
            await trio.sleep(self._sink.delay_s)
        if self._sink.fails_at == frame.meta.seq:
            raise OSError("the disk is full")
        self._recorded.frames.append(frame)

    async def finish(self, terminal: Terminal) -> None:
        self._recorded.terminals.append(terminal)
        if self._sink.finish_s:
            await trio.sleep(self._sink.finish_s)
        if self._sink.fails_at == -1:
            raise OSError("the disk is full at the end")


@attrs.define
class Authority:
    """An authority whose answers a test sets.

    Args:
        answers: one per check, the last one for ever; an exception is raised.
        delay_s: what each check takes.
    """

    answers: list[SessionStatus | Exception] = attrs.Factory(lambda: [SessionStatus.ACTIVE])
    delay_s: float = 0
    asked_at: list[float] = attrs.Factory(list)

    async def check(self, user_id: str, session_id: str) -> SessionStatus:
        self.asked_at.append(trio.current_time())
        if self.delay_s:
            await trio.sleep(self.delay_s)
        answer = self.answers[min(len(self.asked_at), len(self.answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer

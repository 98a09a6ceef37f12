"""`null:` - counts frames and discards them: what the worker costs without a consumer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from cfw.sinks import refuse_options
from cfw.state import Frame
from schemas import FeedOpened, Terminal


class NullSink:
    """Takes everything and keeps nothing but counts.

    Attributes:
        captures: captures begun.
        frames: frames taken.
        bytes: bytes of those frames.
        terminals: captures ended.
    """

    def __init__(self) -> None:
        self.captures = 0
        self.frames = 0
        self.bytes = 0
        self.terminals = 0

    @asynccontextmanager
    async def capture(self, opened: FeedOpened) -> AsyncIterator[NullSink]:
        """Count a capture; the sink itself takes its frames.

        Cancellation: no checkpoint, here and below: this sink is what others are measured
        against.
        """
        self.captures += 1
        yield self

    async def send(self, frame: Frame) -> None:
        """Count a frame."""
        self.frames += 1
        self.bytes += len(frame.data)

    async def send_many(self, frames: Sequence[Frame]) -> None:
        """Count frames."""
        self.send_nowait(frames)

    def send_nowait(self, frames: Sequence[Frame]) -> bool:
        """Count frames; it never has to wait."""
        self.frames += len(frames)
        for frame in frames:
            self.bytes += len(frame.data)
        return True

    async def finish(self, terminal: Terminal) -> None:
        """Count a terminal."""
        self.terminals += 1


def open_null(url: str) -> AbstractAsyncContextManager[NullSink]:
    """The sink of `null:`.

    Raises:
        ValueError: something follows the scheme.
    """
    refuse_options("null", url)
    return _open()


@asynccontextmanager
async def _open() -> AsyncIterator[NullSink]:
    yield NullSink()

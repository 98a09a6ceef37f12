"""A film of an hour, recorded: what went in came out, once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import trio
from trio.testing import MockClock

from cfw.client import Receipt
from cfw.record import Recorder
from cfw.recording import open as open_recording
from cfw.recording import recordings
from cfw.state import Frame
from cfw.testing.rigs import running_worker
from schemas import FeedOpened, Terminal
from tests.pictures import draw
from tests.unit.client.test_film import filming

FRAMES = 3600
PICTURES = [draw(32, 24, seed) for seed in range(1, 51)]


class FeedSink:
    """A sink that is read as a feed is."""

    def __init__(self) -> None:
        self.send, self.receive = trio.open_memory_channel[Any](float("inf"))

    @asynccontextmanager
    async def capture(self, opened: FeedOpened) -> AsyncIterator[FeedSink.Capture]:
        self.send.send_nowait((opened, None))
        yield FeedSink.Capture(self)

    class Capture:
        def __init__(self, sink: FeedSink) -> None:
            self._sink = sink

        async def send(self, frame: Frame) -> None:
            self._sink.send.send_nowait((frame.feed_message(), frame.data))

        async def finish(self, terminal: Terminal) -> None:
            self._sink.send.send_nowait((terminal, None))

    @asynccontextmanager
    async def feed(self) -> AsyncIterator[Any]:
        yield self.receive


async def test_an_hour_is_recorded_as_it_was_sent(
    autojump_clock: MockClock, tmp_path: Path
) -> None:
    """An hour of video time, a frame a second: frames in, frames recorded, none doubled."""
    sink = FeedSink()
    recorder = Recorder(tmp_path, formats=("mkv",))
    reading = trio.CancelScope()
    async with running_worker(sink=sink) as worker, trio.open_nursery() as nursery:
        nursery.start_soon(partial(recorder.run, sink.feed, reading=reading))
        async with filming(worker, split=True, capture_id="film", fps=1) as sent:
            for number in range(FRAMES):
                await sent.send_frame(PICTURES[number % len(PICTURES)])
                await trio.sleep(1)
        parts = {part.capture_id: part for part in sent.parts}
        # The clock is a virtual one and the disk is not.
        while recorder.whole < len(parts):  # noqa: ASYNC110
            await trio.sleep(0.1)
        reading.cancel()
    size = sum(len(PICTURES[number % len(PICTURES)]) for number in range(FRAMES))
    assert sent.receipt == Receipt(FRAMES, size)
    assert (recorder.whole, recorder.cut, recorder.failed) == (len(parts), 0, 0)
    found = {each.opened.capture_id: each for each in map(open_recording, recordings(tmp_path))}
    assert found.keys() == parts.keys()
    number = 0
    for name, part in parts.items():  # in the order of the film
        assert part.first_frame == number + 1
        for frame in found[name]:
            assert frame.jpeg == PICTURES[number % len(PICTURES)]
            number += 1
    assert number == FRAMES

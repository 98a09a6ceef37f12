"""Cameras, network cameras and videos, read by a process of its own (`_reader`)."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections import deque
from contextlib import suppress

import trio

from cfw.cli.mjpeg import SourceError
from cfw.cli.sources._clock import DeviceClock
from cfw.cli.sources._records import (
    Decoder,
    Failed,
    Losses,
    Opened,
    Picture,
    Record,
    Request,
)
from cfw.cli.sources._source import Reading, Shot

#: To start the process, connect, and see the first picture: libav looks at some seconds of it.
OPEN_S = 30.0
#: A video is paced by whoever reads it, and a disk may have to spin up.
FILE_STALL_S = 60.0
#: For the system to end a process that was killed.
_KILL_S = 2.0
_READ_BYTES = 64 * 1024


class MediaSource:
    """Frames of a camera or a video.

    Args:
        request: what to read.
        reading: what all sources have in common.
        may_end: whether its end is one, or a fault, as a camera has none.
        open_s: seconds until the first picture has to be there.
    """

    def __init__(
        self,
        request: Request,
        reading: Reading,
        *,
        may_end: bool = True,
        open_s: float = OPEN_S,
    ) -> None:
        self.name = request.name
        self.is_live = request.is_live
        self.fps: float | None = None
        self.about: str | None = None
        self._request = request
        self._left_out = reading.left_out
        self._stall_s = reading.stall_s if request.is_live else FILE_STALL_S
        self._open_s = open_s
        self._may_end = may_end
        self._process: trio.Process | None = None
        self._decoder = Decoder()
        self._ready: deque[Picture] = deque()
        self._failure: SourceError | None = None
        self._ended = False
        self._first_ns: int | None = None
        self._frames = 0
        self._clock = DeviceClock(time.time_ns() - time.monotonic_ns())
        self._opening_until = math.inf

    async def next_frame(self) -> Shot | None:
        await trio.lowlevel.checkpoint()
        if self._process is None and not self._ended:
            await self._start()
        while not self._is_next_due():
            await self._receive()
        if not self._ready:
            if self._failure is not None:
                raise self._failure
            return None
        return self._shot(self._ready.popleft())

    def _is_next_due(self) -> bool:
        if self._ended or self._failure is not None:
            self._clock.settle()
            return True
        # A camera's first frames tell together how its clock stands to ours.
        return bool(self._ready) and (not self.is_live or self._clock.is_settled)

    def _shot(self, picture: Picture) -> Shot:
        if self.is_live:
            taken = self._clock.taken(picture.at_ns, picture.arrived_ns)
            self._left_out.clock_jumps += self._clock.pop_jumps()
            return Shot(picture.data, taken_ns=taken)
        if picture.at_ns is None:
            return Shot(picture.data)
        if self._first_ns is None:
            self._first_ns = picture.at_ns
        return Shot(picture.data, elapsed_ns=picture.at_ns - self._first_ns)

    async def _start(self) -> None:
        self._opening_until = trio.current_time() + self._open_s
        self._process = await trio.lowlevel.open_process(
            # -P: what lies about in the working directory is no module.
            [sys.executable, "-P", "-m", "cfw.cli.sources._reader"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdin is not None
        # A pipe takes a line at once; half of one would make the process useless.
        with trio.move_on_after(_KILL_S, shield=True), suppress(trio.BrokenResourceError):
            await self._process.stdin.send_all(self._request.line())

    async def _receive(self) -> None:
        """Take what the process has written, or find that it has nothing in time."""
        assert self._process is not None
        assert self._process.stdout is not None
        is_opening = self.about is None
        deadline = self._opening_until if is_opening else trio.current_time() + self._stall_s
        with trio.move_on_at(deadline) as waiting:
            data = await self._process.stdout.receive_some(_READ_BYTES)
        if waiting.cancelled_caught:
            waited = self._open_s if is_opening else self._stall_s
            what = "no picture" if is_opening else "the camera stalls: no frame"
            self._failure = SourceError(self.name, None, f"{what} within {waited:g} s")
            return
        if not data:
            with trio.move_on_after(_KILL_S):
                await self._process.wait()
            code = self._process.returncode
            reason = f"the process that reads it has ended, with exit code {code}"
            self._failure = SourceError(self.name, None, reason)
            return
        for record in self._decoder.feed(data):
            self._take(record)

    def _take(self, record: Record) -> None:
        if isinstance(record, Picture):
            self._clock.hear(record.at_ns, record.arrived_ns)
            self._ready.append(record)
            self._frames += 1
        elif isinstance(record, Opened):
            self.fps = record.fps
            self.about = _describe(self.name, record)
        elif isinstance(record, Losses):
            self._left_out.skipped_frames += record.skipped
            where = f"{self.name}, before frame {self._frames + 1}"
            self._left_out.add_dropped(record.dropped, where)
            for _ in range(record.damaged):
                self._left_out.add_damaged(record.damage)
        elif isinstance(record, Failed):
            self._failure = SourceError(self.name, None, record.reason)
        elif self._may_end:
            self._ended = True
        else:
            self._failure = SourceError(self.name, None, "the camera is gone")

    async def aclose(self) -> None:
        """Kill the process, and wait until the system has."""
        process, self._process, self._ended = self._process, None, True
        self._ready.clear()
        if process is None:
            return
        process.kill()
        with trio.move_on_after(_KILL_S, shield=True):
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    await trio.aclose_forcefully(pipe)
            await process.wait()


def _describe(name: str, opened: Opened) -> str:
    width, height = opened.source_size
    rate = "" if opened.fps is None else f" at {opened.fps:.4g} frames/s"
    text = f"{name}: {opened.codec} {width}x{height}{rate}"
    if opened.size != opened.source_size:
        text += f", scaled to {opened.size[0]}x{opened.size[1]}"
    if opened.codec == "mjpeg" and opened.size == opened.source_size:
        text += ", sent as it is"
    return text

"""Where the frames of `cfw send` come from: files, directories, a pipe, a test picture.

The sources read in threads, and `Frames` plays them one after the other.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import re
import select
import stat
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import attrs
import trio
from PIL import Image, ImageDraw, ImageFont

from cfw.cli.left_out import LeftOut
from cfw.cli.mjpeg import MjpegSplitter, SourceError
from cfw.jpeg import probe

__all__ = [
    "DEFAULT_MAX_FRAME_BYTES",
    "FrameSource",
    "Frames",
    "PatternPainter",
    "is_endless",
    "open_source",
]

#: Bounds memory here; what a worker takes is the worker's to say.
DEFAULT_MAX_FRAME_BYTES = 16 * 1024 * 1024

_CHUNK_BYTES = 64 * 1024
_MAX_PATTERN_SIDE = 4096
_JPEG_SUFFIXES = (".jpg", ".jpeg")


class FrameSource(Protocol):
    """Gives frames one after the other."""

    @property
    def name(self) -> str:
        """As given on the command line."""
        ...

    async def next_frame(self) -> bytes | None:
        """Return the next frame, or None behind the last.

        Raises:
            SourceError: it cannot be read, or holds no JPEG image.

        Cancellation: safe; a cancelled call loses no frame.
        """
        ...

    def close(self) -> None:
        """Let go of files, at once; a read that is under way ends by itself."""
        ...


class _ChunkReader:
    """Reads a file in threads; waiting can be cancelled and resumed, and loses nothing.

    Args:
        open_raw: opens the file; called in a thread, since opening a named pipe blocks.
    """

    def __init__(self, open_raw: Callable[[], io.FileIO]) -> None:
        self._open_raw = open_raw
        self._lock = threading.Lock()  # for the four below, which threads share
        self._raw: io.FileIO | None = None
        self._reading = False
        self._closed = False
        self._result: bytes | OSError | None = None
        self._arrived = trio.Event()

    async def receive(self) -> bytes:
        """Return the next bytes, at least one; empty at the end."""
        with self._lock:
            idle = self._result is None and not self._reading
            self._reading |= idle
        if idle:
            self._arrived = trio.Event()
            token = trio.lowlevel.current_trio_token()
            # Not trio.to_thread: it would either hold a cancelled caller until a camera
            # sends its next byte, or throw that byte away.
            trio.lowlevel.start_thread_soon(
                self._read, lambda outcome: self._deliver(token, outcome)
            )
        await self._arrived.wait()
        result, self._result = self._result, None
        assert result is not None
        if isinstance(result, OSError):
            raise result
        return result

    def close(self) -> None:
        """Close the file now, or as soon as the read under way has ended."""
        with self._lock:
            self._closed = True
            if not self._reading and self._raw is not None:
                self._raw.close()

    def _read(self) -> bytes | OSError:
        try:
            if self._raw is None:
                self._raw = self._open_raw()
            # Unbuffered: a thread left behind in a buffered read holds the buffer's lock,
            # and the interpreter crashes on it at exit.
            while (data := self._raw.read(_CHUNK_BYTES)) is None:
                select.select([self._raw], [], [])  # the parent made it non-blocking
        except OSError as exc:
            return exc
        return data

    def _deliver(self, token: trio.lowlevel.TrioToken, outcome: Any) -> None:
        with self._lock:
            self._result = outcome.unwrap()
            self._reading = False
            if self._closed and self._raw is not None:
                self._raw.close()
        with contextlib.suppress(trio.RunFinishedError):
            token.run_sync_soon(self._arrived.set)


@attrs.frozen
class _Reading:
    """What all sources of a capture that read files have in common."""

    max_frame_bytes: int
    left_out: LeftOut


class _StreamSource:
    """Images in one file or pipe."""

    def __init__(self, name: str, open_raw: Callable[[], io.FileIO], reading: _Reading) -> None:
        self.name = name
        self._reader = _ChunkReader(open_raw)
        self._splitter = MjpegSplitter(
            max_frame_bytes=reading.max_frame_bytes, name=name, left_out=reading.left_out
        )
        self._ready: deque[bytes] = deque()
        self._ended = False

    async def next_frame(self) -> bytes | None:
        await trio.lowlevel.checkpoint()
        while not self._ready and not self._ended:
            try:
                chunk = await self._reader.receive()
            except OSError as exc:
                reason = f"cannot be read: {exc.strerror or exc}"
                raise SourceError(self.name, None, reason) from exc
            if chunk:
                self._ready.extend(self._splitter.feed(chunk))
            else:
                self._ended = True
                self._reader.close()
                self._ready.extend(self._splitter.finish())
        return self._ready.popleft() if self._ready else None

    def close(self) -> None:
        self._reader.close()


class _DirectorySource:
    """Images of several files, of which one is open at a time.

    Files that hold none are left out: what lies about in a folder was not asked for by name.
    """

    def __init__(self, name: str, paths: Sequence[Path], reading: _Reading) -> None:
        self.name = name
        self._waiting = deque(paths)
        self._reading = reading
        self._current: _StreamSource | None = None
        self._current_left_out = LeftOut()
        self._has_image = False
        self._first_fault: SourceError | None = None

    async def next_frame(self) -> bytes | None:
        await trio.lowlevel.checkpoint()
        while True:
            if self._current is None:
                if not self._waiting:
                    self._check_any()
                    return None
                path = self._waiting.popleft()
                self._current_left_out = LeftOut()
                own = attrs.evolve(self._reading, left_out=self._current_left_out)
                self._current = _open_path(str(path), path, own)
            try:
                frame = await self._current.next_frame()
            except SourceError as exc:
                if exc.offset is None:
                    raise  # it could not be read, so nobody knows what it holds
                self._reading.left_out.add_file(str(exc))
                self._first_fault = self._first_fault or exc
            else:
                if frame is not None:
                    self._has_image = True
                    return frame
                self._reading.left_out.absorb(self._current_left_out)
            self._current.close()
            self._current = None

    def _check_any(self) -> None:
        if self._first_fault is not None and not self._has_image:
            reason = f"no file in it is a JPEG image; the first: {self._first_fault}"
            raise SourceError(self.name, None, reason) from self._first_fault

    def close(self) -> None:
        self._waiting.clear()
        if self._current is not None:
            self._current.close()


class PatternPainter:
    """Draws the test picture: colour bars, a box that moves, the frame's number and time.

    Args:
        width: pixels.
        height: pixels.
        fps: frames per second, for the time shown and the pace of the box.
    """

    _BARS = ("#c0c0c0", "#c0c000", "#00c0c0", "#00c000", "#c000c0", "#c00000", "#0000c0")

    def __init__(self, width: int, height: int, fps: float) -> None:
        self._width, self._height, self._fps = width, height, fps
        self._background = Image.new("RGB", (width, height))
        draw = ImageDraw.Draw(self._background)
        for index, colour in enumerate(self._BARS):
            left = index * width // len(self._BARS)
            right = (index + 1) * width // len(self._BARS)
            if right > left:
                draw.rectangle((left, 0, right - 1, height - 1), fill=colour)
        self._font = ImageFont.load_default()

    def draw(self, number: int) -> bytes:
        """Return frame `number`, counted from 1, as a JPEG; the same number, the same bytes."""
        picture = self._background.copy()
        side = max(1, min(self._width, self._height) // 6)
        # To and fro, two seconds each way.
        travel = max(1, self._width - side)
        step = max(1, round(travel / (2 * self._fps)))
        left = travel - abs(number * step % (2 * travel) - travel)
        top = (self._height - side) // 2
        ImageDraw.Draw(picture).rectangle((left, top, left + side, top + side), fill="white")
        label = self._draw_label(f"{number:06d}  {(number - 1) / self._fps:.2f} s")
        picture.paste(label, (self._width // 20, self._height // 20))
        jpeg = io.BytesIO()
        picture.save(jpeg, "JPEG", quality=80)
        return jpeg.getvalue()

    def _draw_label(self, text: str) -> Image.Image:
        # Drawn at the font's own size and enlarged, because Pillow's built-in font comes in
        # one size only before version 10.1.
        left, top, right, bottom = ImageDraw.Draw(self._background).textbbox(
            (0, 0), text, font=self._font
        )
        size = (math.ceil(right - left) + 4, math.ceil(bottom - top) + 4)
        label = Image.new("RGB", size, "black")
        ImageDraw.Draw(label).text((2 - left, 2 - top), text, fill="white", font=self._font)
        scale = min(self._height / 10 / size[1], self._width * 0.9 / size[0])
        return label.resize((max(1, int(size[0] * scale)), max(1, int(size[1] * scale))))


class _PatternSource:
    """The test picture, endless or a number of frames."""

    def __init__(self, name: str, painter: PatternPainter, frames: int | None) -> None:
        self.name = name
        self._painter = painter
        self._frames = frames
        self._drawn = 0

    async def next_frame(self) -> bytes | None:
        if self._drawn == self._frames:
            await trio.lowlevel.checkpoint()
            return None
        # Some milliseconds of work: a cancelled call waits for it, so none is lost.
        frame = await trio.to_thread.run_sync(self._painter.draw, self._drawn + 1)
        self._drawn += 1
        return frame

    def close(self) -> None:
        pass


_PATTERN = re.compile(r"pattern:(?:([0-9]{1,5})x([0-9]{1,5}))?(?:\?frames=([0-9]{1,18}))?")
_SOURCES = (
    "accepted: a JPEG or MJPEG file, a directory of *.jpg, '-' for MJPEG on standard input, "
    "or pattern:[WIDTHxHEIGHT][?frames=N]"
)


def open_source(
    spec: str,
    *,
    width: int = 640,
    height: int = 480,
    fps: float = 15,
    max_frame_bytes: int = DEFAULT_MAX_FRAME_BYTES,
    stdin_fd: int = 0,
    left_out: LeftOut | None = None,
) -> FrameSource:
    """Return the source that `spec` names; files are opened at the first frame.

    Args:
        spec: a file of one or more JPEG images, a directory (its ``*.jpg`` and ``*.jpeg`` in
            natural order), ``-`` (MJPEG on standard input) or
            ``pattern:[WIDTHxHEIGHT][?frames=N]`` (a test picture, endless without N).
        width: of the test picture if the spec gives none, in pixels.
        height: of the test picture if the spec gives none, in pixels.
        fps: frames per second of the test picture.
        max_frame_bytes: the largest image read from a file or pipe.
        stdin_fd: the file descriptor that ``-`` stands for.
        left_out: counts what is read and given to nobody; None if nobody wants to know.

    Raises:
        SourceError: there is no such source; the reason says which are accepted.
    """
    reading = _Reading(max_frame_bytes, LeftOut() if left_out is None else left_out)
    if spec == "-":
        if os.isatty(stdin_fd):
            raise SourceError(
                spec, None, "standard input is a terminal; pipe in: ffmpeg -i INPUT -f mjpeg -"
            )
        return _StreamSource(spec, lambda: io.FileIO(stdin_fd, "rb", closefd=False), reading)
    if spec.startswith("pattern:"):
        return _open_pattern(spec, width, height, fps)
    path = Path(spec)
    try:
        is_directory = stat.S_ISDIR(path.stat().st_mode)
        paths = _list_images(path) if is_directory else []
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else str(exc)
        raise SourceError(spec, None, f"{reason}; {_SOURCES}") from exc
    if not is_directory:
        return _open_path(spec, path, reading)
    if not paths:
        raise SourceError(spec, None, f"the directory holds no *.jpg or *.jpeg; {_SOURCES}")
    return _DirectorySource(spec, paths, reading)


def _open_path(name: str, path: Path, reading: _Reading) -> _StreamSource:
    return _StreamSource(name, lambda: io.FileIO(path, "rb"), reading)


def _open_pattern(spec: str, width: int, height: int, fps: float) -> _PatternSource:
    match = _PATTERN.fullmatch(spec)
    if match is None:
        raise SourceError(spec, None, f"the pattern is malformed; {_SOURCES}")
    if match[1]:
        width, height = int(match[1]), int(match[2])
    if not (1 <= width <= _MAX_PATTERN_SIDE and 1 <= height <= _MAX_PATTERN_SIDE):
        raise SourceError(spec, None, f"width and height go from 1 to {_MAX_PATTERN_SIDE}")
    frames = int(match[3]) if match[3] else None
    if frames == 0:
        raise SourceError(
            spec, None, "frames=0 makes no capture; give 1 or more, or leave it out"
        )
    return _PatternSource(spec, PatternPainter(width, height, fps), frames)


def _list_images(directory: Path) -> list[Path]:
    found = [
        path
        for path in directory.iterdir()
        if path.suffix.lower() in _JPEG_SUFFIXES and path.is_file()
    ]
    return sorted(found, key=lambda path: (_natural_key(path.name), path.name))


def _natural_key(name: str) -> list[str | int]:
    """Sort frame2 before frame10: text and numbers alternate, so like meets like."""
    parts = re.split(r"([0-9]+)", name.casefold())
    return [int(part) if index % 2 else part for index, part in enumerate(parts)]


def is_endless(spec: str) -> bool:
    """Whether a source is a test picture without a number of frames."""
    match = _PATTERN.fullmatch(spec)
    return match is not None and match[3] is None


class Frames:
    """The frames of several sources, one after the other.

        async with Frames(["a.jpg", "-"]) as frames:
            print(frames.width, frames.height)
            async for jpeg in frames: ...

    Entering reads the first frame, which gives the size for `capture.open`; it comes first
    in the iteration all the same. A later frame may have another size. One task iterates.

    Args:
        specs: as for `open_source`; ``-`` at most once.
        width: as for `open_source`.
        height: as for `open_source`.
        fps: as for `open_source`.
        max_frame_bytes: as for `open_source`.
        stdin_fd: as for `open_source`.
        left_out: as for `open_source`.

    Raises:
        SourceError: at once for a source that is not there, on entering or in the iteration
            for one that cannot be read or holds no JPEG image.

    Cancellation: safe at any point. A cancelled step loses no frame, and leaving waits for
    nobody: not for a silent pipe either.
    """

    def __init__(
        self,
        specs: Sequence[str],
        *,
        width: int = 640,
        height: int = 480,
        fps: float = 15,
        max_frame_bytes: int = DEFAULT_MAX_FRAME_BYTES,
        stdin_fd: int = 0,
        left_out: LeftOut | None = None,
    ) -> None:
        if not specs:
            raise SourceError("no source", None, _SOURCES)
        if list(specs).count("-") > 1:
            raise SourceError("-", None, "standard input can be read once only")
        left_out = LeftOut() if left_out is None else left_out
        self._sources = deque(
            open_source(
                spec,
                width=width,
                height=height,
                fps=fps,
                max_frame_bytes=max_frame_bytes,
                stdin_fd=stdin_fd,
                left_out=left_out,
            )
            for spec in specs
        )
        self._first: bytes | None = None
        self._size = (0, 0)

    @property
    def width(self) -> int:
        """Pixels of the first frame; 0 before entering."""
        return self._size[0]

    @property
    def height(self) -> int:
        """Pixels of the first frame; 0 before entering."""
        return self._size[1]

    async def __aenter__(self) -> Frames:
        try:
            name = self._sources[0].name
            self._first = await self._next_frame()
            if self._first is None:
                raise SourceError(name, None, "there is no frame")
            self._size = probe(self._first)
        except BaseException:
            self._close()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._close()

    def __aiter__(self) -> Frames:
        return self

    async def __anext__(self) -> bytes:
        if self._first is not None:
            await trio.lowlevel.checkpoint()
            frame, self._first = self._first, None
            return frame
        following = await self._next_frame()
        if following is None:
            raise StopAsyncIteration
        return following

    async def _next_frame(self) -> bytes | None:
        while self._sources:
            frame = await self._sources[0].next_frame()
            if frame is not None:
                return frame
            self._sources.popleft().close()
        return None

    def _close(self) -> None:
        self._first = None
        while self._sources:
            self._sources.popleft().close()

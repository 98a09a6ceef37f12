"""A process of its own that reads a camera or a video: `python -m cfw.cli.sources._reader`.

libav and drivers block where no thread of Python can be stopped: while a stream is opened, in
an ioctl of a camera that hangs. A process can be killed at any time, and what a broken stream
does to a decoder stays in it. It is told on standard input what to read, writes records
(`cfw.cli.sources._records`) on standard output, and ends when standard input does.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import attrs

from cfw.cli.left_out import LeftOut
from cfw.cli.mjpeg import SourceError
from cfw.cli.sources._clock import GapCounter, SequenceCounter
from cfw.cli.sources._fit import Fit, Fitter, Thinner
from cfw.cli.sources._records import Failed, Losses, Opened, Picture, Request, encode

if TYPE_CHECKING:
    import av
    from PIL import Image

_NS = 1_000_000_000
#: Rates beyond are what containers say that know none.
_MOST_FPS = 1000
_MOST_HELD = 3
_TURNS = {90: "ROTATE_90", 180: "ROTATE_180", 270: "ROTATE_270"}


@attrs.frozen
class _Raw:
    """What was read: a JPEG, or a picture that has to become one.

    Args:
        data: None where the decoder failed.
        at_ns: by the clock of the source; None if it has none.
        arrived_ns: by our monotonic clock.
        missing: frames that were lost before it.
    """

    data: bytes | Image.Image | None
    size: tuple[int, int] | None
    at_ns: int | None
    arrived_ns: int
    missing: int = 0


class Reader:
    """Reads one source, and makes records of what it holds.

    Args:
        request: what to read, and how.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self._left_out = LeftOut()
        self._fitter = Fitter(
            request.name,
            request.fit,
            max_frame_bytes=request.max_frame_bytes,
            left_out=self._left_out,
        )
        self._losses = Losses()
        self._codec = ""
        self._fps: float | None = None

    def records(self) -> Iterator[Opened | Picture | Losses]:
        """Everything up to the end of the source.

        Raises:
            SourceError: it cannot be read, or not on.
        """
        try:
            yield from self._pictures()
        except SourceError:
            yield from self._lost()
            raise
        yield from self._lost()
        if self._fitter.size == (0, 0):
            raise SourceError(self._request.name, None, "it holds no picture")

    def _pictures(self) -> Iterator[Opened | Picture | Losses]:
        thinner: Thinner | None = None
        for raw in self._timed():
            if thinner is None:
                thinner = Thinner(self._fps, self._request.fit.max_fps)
            self._losses.dropped += raw.missing
            if not thinner.takes(raw.at_ns):
                self._losses.skipped += 1
                continue
            is_first = self._fitter.size == (0, 0)
            jpeg = self._fitted(raw)
            if jpeg is None:
                continue
            if is_first:
                size, given = self._fitter.size, self._fitter.source_size
                yield Opened(codec=self._codec, fps=self._fps, size=size, source_size=given)
            yield from self._lost()
            yield Picture(data=jpeg, at_ns=raw.at_ns, arrived_ns=raw.arrived_ns)

    def _timed(self) -> Iterator[_Raw]:
        """All of it; a first frame without a time gets one by the rate.

        libav knows none of the first picture of RTP, whose parts it has to put together.
        """
        held: list[_Raw] = []
        is_begun = False
        for raw in self._raws():
            is_begun |= raw.at_ns is not None or len(held) == _MOST_HELD or not self._fps
            if not is_begun:
                held.append(raw)
                continue
            for number, early in enumerate(held):
                steps = len(held) - number
                before_ns = round(steps * _NS / (self._fps or math.inf))
                at_ns = None if raw.at_ns is None else raw.at_ns - before_ns
                yield attrs.evolve(early, at_ns=at_ns)
            held.clear()
            yield raw
        yield from held

    def _lost(self) -> Iterator[Losses]:
        damaged, self._left_out.damaged_images = self._left_out.damaged_images, 0
        losses, self._losses = self._losses, Losses()
        losses.damaged = damaged
        losses.damage = self._left_out.damage if damaged else ""
        if losses != Losses():
            yield losses

    def _fitted(self, raw: _Raw) -> bytes | None:
        if raw.data is None:
            self._left_out.add_damaged(f"{self._request.name}: a frame cannot be decoded")
            return None
        if isinstance(raw.data, bytes):
            return self._fitter.jpeg(raw.data)
        return self._fitter.picture(raw.data, raw.size)

    def _raws(self) -> Iterator[_Raw]:
        if self._request.numbered is not None:
            from cfw.cli.sources import _v4l2

            try:
                camera = _v4l2.open_camera(self._request.numbered, self._request.fit)
                if camera is not None:
                    yield from self._numbered(camera)
                    return
            except OSError as exc:
                reason = f"it cannot be read: {exc.strerror or exc}"
                raise SourceError(self._request.name, None, reason) from exc
        yield from self._decoded()

    # --- a driver that numbers its frames ---------------------------------------------------

    def _numbered(self, camera: Any) -> Iterator[_Raw]:
        self._codec, self._fps = "mjpeg", camera.fps
        counter = SequenceCounter()
        for frame in camera.frames():
            arrived_ns = time.monotonic_ns()
            missing = counter.missing_before(frame.number)
            yield _Raw(frame.data, None, frame.at_ns, arrived_ns, missing)

    # --- everything else --------------------------------------------------------------------

    def _decoded(self) -> Iterator[_Raw]:
        import av

        try:
            with self._open() as container:
                if not container.streams.video:
                    raise SourceError(self._request.name, None, "there is no video in it")
                yield from self._read(container, container.streams.video[0])
        except av.FFmpegError as exc:
            raise SourceError(self._request.name, None, _told(exc)) from exc

    def _open(self) -> av.container.InputContainer:
        """Open it the first way that works; drivers refuse what they cannot do."""
        import av

        request = self._request
        *others, last = request.options
        for options in others:
            with suppress(av.FFmpegError):
                return av.open(request.file, format=request.format, options=options)
        return av.open(request.file, format=request.format, options=last)

    def _read(self, container: Any, stream: Any) -> Iterator[_Raw]:
        import av

        self._codec = stream.codec_context.name
        rate = stream.average_rate or stream.guessed_rate
        self._fps = float(rate) if rate and 0 < rate <= _MOST_FPS else None
        is_jpeg = self._codec == "mjpeg"
        if not is_jpeg and not self._request.is_live:
            stream.thread_type = "AUTO"  # which delays frames
        gaps = GapCounter() if self._request.is_live else None
        for packet in container.demux(stream):
            arrived_ns = time.monotonic_ns()
            if is_jpeg:
                pictures = [packet] if packet.size else []
            else:
                try:
                    pictures = packet.decode()
                except av.error.InvalidDataError:
                    yield _Raw(None, None, None, arrived_ns)
                    continue
            for picture in pictures:
                at_ns = _ns(picture.pts, picture.time_base)
                missing = 0 if gaps is None else gaps.missing_before(at_ns)
                if is_jpeg:
                    yield _Raw(bytes(packet), None, at_ns, arrived_ns, missing)
                else:
                    yield self._pictured(picture, at_ns, arrived_ns, missing)

    def _pictured(self, frame: Any, at_ns: int | None, arrived_ns: int, missing: int) -> _Raw:
        from PIL import Image

        turn = round(frame.rotation) % 360
        size = (frame.width, frame.height) if turn in (0, 180) else (frame.height, frame.width)
        width, height = self._fitter.target(size)
        if turn in (90, 270):
            width, height = height, width
        picture = frame.to_image(width=width, height=height)
        if turn in _TURNS:
            picture = picture.transpose(Image.Transpose[_TURNS[turn]])
        return _Raw(picture, size, at_ns, arrived_ns, missing)


def _ns(pts: int | None, time_base: Fraction | None) -> int | None:
    return None if pts is None or time_base is None else round(pts * time_base * _NS)


def _told(exc: Any) -> str:
    import av

    if isinstance(exc, av.error.HTTPUnauthorizedError):
        return "it wants a user and a password: give them as SCHEME://USER:PASSWORD@HOST/..."
    # Not its own text, which repeats the URL, and with it a password.
    return f"it cannot be read: {exc.strerror or type(exc).__name__}"


def _leave_with_parent() -> None:
    with suppress(OSError, ValueError):
        while os.read(0, 4096):
            pass
    os._exit(0)


def main() -> None:
    """Read the request, then write records until there are no more, or nobody reads them."""
    # Ctrl-C is for the parent, which then ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    line = b""
    while not line.endswith(b"\n"):
        more = os.read(0, 65_536)
        if not more:
            return
        line += more
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    fields = json.loads(line)
    request = Request(**fields | {"fit": Fit(**fields["fit"])})
    out = sys.stdout.buffer
    try:
        try:
            for record in Reader(request).records():
                out.write(encode(record))
                out.flush()
            out.write(encode(None))
        except SourceError as exc:
            out.write(encode(Failed(exc.reason)))
        out.flush()
    except BrokenPipeError:
        os._exit(0)  # flushing at exit would only fail again
    # Closing a camera or a connection may wait for it; the system does that as well.
    os._exit(0)


if __name__ == "__main__":
    main()

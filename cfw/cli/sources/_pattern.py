"""The test picture."""

from __future__ import annotations

import io
import math
import re

import trio
from PIL import Image, ImageDraw, ImageFont

from cfw.cli.mjpeg import SourceError
from cfw.cli.sources._source import ACCEPTED, Shot

_MAX_SIDE = 4096
_PATTERN = re.compile(r"pattern:(?:([0-9]{1,5})x([0-9]{1,5}))?(?:\?frames=([0-9]{1,18}))?")


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


class PatternSource:
    """The test picture, endless or a number of frames."""

    is_live = False
    fps = about = None

    def __init__(self, name: str, painter: PatternPainter, frames: int | None) -> None:
        self.name = name
        self._painter = painter
        self._frames = frames
        self._drawn = 0

    async def next_frame(self) -> Shot | None:
        if self._drawn == self._frames:
            await trio.lowlevel.checkpoint()
            return None
        # Some milliseconds of work: a cancelled call waits for it, so none is lost.
        frame = await trio.to_thread.run_sync(self._painter.draw, self._drawn + 1)
        self._drawn += 1
        return Shot(frame)

    async def aclose(self) -> None:
        pass


def open_pattern(spec: str, width: int, height: int, fps: float) -> PatternSource:
    """Read `pattern:[WIDTHxHEIGHT][?frames=N]`."""
    match = _PATTERN.fullmatch(spec)
    if match is None:
        raise SourceError(spec, None, f"the pattern is malformed; {ACCEPTED}")
    if match[1]:
        width, height = int(match[1]), int(match[2])
    if not (1 <= width <= _MAX_SIDE and 1 <= height <= _MAX_SIDE):
        raise SourceError(spec, None, f"width and height go from 1 to {_MAX_SIDE}")
    frames = int(match[3]) if match[3] else None
    if frames == 0:
        raise SourceError(
            spec, None, "frames=0 makes no capture; give 1 or more, or leave it out"
        )
    return PatternSource(spec, PatternPainter(width, height, fps), frames)


def is_endless(spec: str) -> bool:
    """Whether a source is a test picture without a number of frames."""
    match = _PATTERN.fullmatch(spec)
    return match is not None and match[3] is None

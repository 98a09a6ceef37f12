"""Pictures made to fit what a worker takes: their size, their bytes, how many in a second."""

from __future__ import annotations

import io
import math
from collections import deque
from functools import cache

import attrs
from PIL import Image

from cfw.cli.left_out import LeftOut
from cfw.cli.mjpeg import MjpegSplitter, SourceError
from cfw.client import FrameEncoder, WorkerLimits
from cfw.jpeg import probe

#: From what is hardly told from the picture to what is still of use.
_QUALITIES = (85, 70, 50, 30)
#: A camera that sends nothing for so long is not going to.
STALL_S = 10.0
_NS = 1_000_000_000
#: A rate is held to be another when it is further off. Networks bring frames in bursts, so
#: that one that is seen is uncertain, and takes a while.
_ABOUT_TOLD, _ABOUT_SEEN = 1.01, 1.15
_SEEN_NS = 2 * _NS
_MOST_SEEN = 240
_DHT, _SOS = 0xC4, 0xDA


@attrs.frozen(kw_only=True)
class Fit:
    """The most that a frame may have; None where nobody says.

    Attributes:
        max_width: pixels.
        max_height: pixels.
        max_pixels: width times height.
        max_frame_bytes: of the JPEG.
        max_fps: frames in a second.
    """

    max_width: int | None = None
    max_height: int | None = None
    max_pixels: int | None = None
    max_frame_bytes: int | None = None
    max_fps: int | None = None

    @classmethod
    def of(
        cls,
        limits: WorkerLimits | None,
        *,
        width: int | None = None,
        height: int | None = None,
        fps: int | None = None,
    ) -> Fit:
        """What both a worker and its user take; None where one of them does not say."""
        if limits is None:
            return cls(max_width=width, max_height=height, max_fps=fps)
        return cls(
            # More than the worker takes is asked of it all the same, and refused by it.
            max_width=limits.max_width if width is None else width,
            max_height=limits.max_height if height is None else height,
            max_pixels=limits.max_pixels,
            max_frame_bytes=limits.max_frame_bytes,
            max_fps=limits.max_fps if fps is None else fps,
        )

    def size(self, width: int, height: int) -> tuple[int, int]:
        """The largest picture of this shape that fits; the picture itself where it does."""
        factor = min(
            1.0,
            (self.max_width or width) / width,
            (self.max_height or height) / height,
            math.sqrt((self.max_pixels or width * height) / (width * height)),
        )
        if factor == 1:
            return width, height
        # Even, as chroma of video is; rounded down, so that the product fits too.
        return max(2, int(width * factor) // 2 * 2), max(2, int(height * factor) // 2 * 2)

    def within(self, width: int, height: int) -> Fit:
        """The same for pictures that may not be larger than this either."""
        return attrs.evolve(
            self,
            max_width=min(width, self.max_width or width),
            max_height=min(height, self.max_height or height),
        )


def stall_within(limits: WorkerLimits | None) -> float:
    """How long a camera may send nothing: it is told before the worker loses its patience."""
    return STALL_S if limits is None else min(STALL_S, 0.8 * limits.idle_s)


class Thinner:
    """Leaves out frames of a source that has more in a second than are sent.

    Args:
        source_fps: frames a second that come; None where that has to be seen.
        max_fps: frames a second that are taken; None for all.
    """

    def __init__(self, source_fps: float | None, max_fps: int | None) -> None:
        self._source_fps = source_fps
        self._max_fps = max_fps
        self._first_ns: int | None = None
        self._seen: deque[int] = deque(maxlen=_MOST_SEEN)
        self._last_slot = -1

    def takes(self, at_ns: int | None) -> bool:
        """Whether to send the frame of this time; a source without times is taken whole."""
        if self._max_fps is None or at_ns is None:
            return True
        if self._first_ns is None:
            self._first_ns = at_ns
        fps = self._source_fps or self._measured(at_ns)
        about = _ABOUT_TOLD if self._source_fps else _ABOUT_SEEN
        if fps is None or fps <= self._max_fps * about:
            return True
        # A quarter of a frame early is in time: cameras jitter.
        since_ns = at_ns - self._first_ns + _NS / fps / 4
        slot = math.floor(since_ns * self._max_fps / _NS)
        is_next = slot > self._last_slot
        self._last_slot = max(slot, self._last_slot)
        return is_next

    def _measured(self, at_ns: int) -> float | None:
        self._seen.append(at_ns)
        span_ns = at_ns - self._seen[0]
        return (len(self._seen) - 1) * _NS / span_ns if span_ns >= _SEEN_NS else None


class Fitter:
    """Makes JPEGs that fit; those that do are passed on as they are.

    Args:
        name: names the source in errors.
        fit: what fits.
        max_frame_bytes: the largest image read.
        left_out: counts images that are none.
    """

    def __init__(self, name: str, fit: Fit, *, max_frame_bytes: int, left_out: LeftOut) -> None:
        self._name = name
        self._fit = fit
        self._max_read = max_frame_bytes
        self._left_out = left_out
        self._encoders: dict[tuple[int, int, int], FrameEncoder] = {}
        self._first_source_size = self._first_size = (0, 0)
        self.size = (0, 0)  # of what was made last
        self.source_size = (0, 0)  # of what it was made of

    def target(self, size: tuple[int, int]) -> tuple[int, int]:
        """The size that a picture of this size is going to have."""
        if size == self._first_source_size:
            return self._first_size  # rounded, it would be rounded again
        return self._fit.size(*size)

    def jpeg(self, data: bytes) -> bytes | None:
        """A camera's JPEG, whole and fitting; None if it is none, which is counted.

        Raises:
            SourceError: it cannot be made to fit.
        """
        splitter = MjpegSplitter(
            max_frame_bytes=self._max_read, name=self._name, left_out=LeftOut()
        )
        try:
            images = [*splitter.feed(data), *splitter.finish()]
        except SourceError as exc:
            self._left_out.add_damaged(str(exc))
            return None
        return self.image(images[0])

    def image(self, jpeg: bytes) -> bytes | None:
        """The same for one that is known to be whole."""
        jpeg = with_tables(jpeg)
        width, height = probe(jpeg)
        is_small = len(jpeg) <= (self._fit.max_frame_bytes or len(jpeg))
        if is_small and self.target((width, height)) == (width, height):
            self._note((width, height), (width, height))
            return jpeg
        try:
            picture = Image.open(io.BytesIO(jpeg))
            picture.draft("RGB", self.target((width, height)))
            return self.picture(picture.convert("RGB"), (width, height))
        except (OSError, ValueError) as exc:  # Pillow's word for a broken image
            self._left_out.add_damaged(f"{self._name}: {exc}")
            return None

    def picture(
        self, picture: Image.Image, source_size: tuple[int, int] | None = None
    ) -> bytes:
        """A JPEG of a picture.

        Args:
            picture: in RGB.
            source_size: what it was before it was decoded; None for what it is.

        Raises:
            SourceError: it cannot be made to fit.
        """
        source_size = source_size or picture.size
        size = self.target(source_size)
        if picture.size != size:
            picture = picture.resize(size, Image.Resampling.BILINEAR)
        rows = memoryview(picture.tobytes()).cast("B", (size[1], size[0], 3))
        most = self._fit.max_frame_bytes or math.inf
        for quality in _QUALITIES:
            jpeg = self._encoder(size, quality).encode(rows)
            if len(jpeg) <= most:
                self._note(source_size, size)
                return jpeg
        raise SourceError(
            self._name,
            None,
            f"a picture of {size[0]}x{size[1]} needs {len(jpeg)} bytes even at quality "
            f"{_QUALITIES[-1]}, and the worker takes {most}; ask for less with --width",
        )

    def _note(self, source_size: tuple[int, int], size: tuple[int, int]) -> None:
        self.source_size, self.size = source_size, size
        if self._first_size == (0, 0):
            # What `capture.open` declares holds for every frame behind it.
            self._first_source_size, self._first_size = source_size, size
            self._fit = self._fit.within(*size)

    def _encoder(self, size: tuple[int, int], quality: int) -> FrameEncoder:
        key = (*size, quality)
        if key not in self._encoders:
            width, height = size
            self._encoders[key] = FrameEncoder(
                width, height, encode="auto", quality=quality, color="rgb"
            )
        return self._encoders[key]


def with_tables(jpeg: bytes) -> bytes:
    """Put the standard Huffman tables into an image that leaves them out, as webcams do.

    Motion JPEG may do without them (they are then those of ITU-T T.81, annex K.3), which not
    every reader of JPEG knows.
    """
    at = 2
    while at + 4 <= len(jpeg) and jpeg[at] == 0xFF:
        code = jpeg[at + 1]
        if code == _DHT:
            return jpeg
        if code == _SOS:
            return jpeg[:at] + _standard_tables() + jpeg[at:]
        at += 1 if code == 0xFF else 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
    return jpeg


@cache
def _standard_tables() -> bytes:
    """Their segments, as Pillow's encoder writes them, which takes the standard's."""
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "JPEG", optimize=False, progressive=False)
    jpeg, found, at = file.getvalue(), b"", 2
    while jpeg[at + 1] != _SOS:
        end = at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
        if jpeg[at + 1] == _DHT:
            found += jpeg[at:end]
        at = end
    return found

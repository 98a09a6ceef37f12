"""Is this a JPEG, and how large is its picture? Found by walking its segments, not decoding.

Markers are those of ITU-T T.81, table B.1.
"""

from __future__ import annotations

try:
    from cfw._native import jpeg_size
except ImportError:

    def jpeg_size(data: bytes) -> tuple[int, int] | None:
        return None  # nothing was compiled here; the walk below says it all


_SOI = b"\xff\xd8"
_EOI = b"\xff\xd9"
#: What cameras and network stacks append to an image to fill it up.
_PADDING = b"\x00\xff\r\n "
#: Start of frame: baseline, progressive, lossless, arithmetic; not DHT, JPG and DAC.
_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
#: Markers that stand alone: TEM and RST0 to RST7.
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})
_SOS = 0xDA


class NotAJpeg(ValueError):
    """The bytes are no complete JPEG image; the text says what is missing."""


def probe(data: bytes) -> tuple[int, int]:
    """Width and height in pixels of a JPEG image, from its start-of-frame segment.

    Padding behind the image is tolerated. The entropy-coded data is not looked at.

    Raises:
        NotAJpeg: no SOI, no EOI, or no start of frame between them.
    """
    return jpeg_size(data) or _walk(data)


def _walk(data: bytes) -> tuple[int, int]:
    """The same, and why not: the compiled twin has no words."""
    if not data.startswith(_SOI):
        raise NotAJpeg("it does not begin with SOI (FF D8)")
    if not data.endswith(_EOI) and not data.rstrip(_PADDING).endswith(_EOI):
        raise NotAJpeg("it does not end with EOI (FF D9)")
    at, end = 2, len(data) - 2
    while at < end:
        if data[at] != 0xFF:
            raise NotAJpeg(f"a marker is missing at byte {at}")
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte before the marker
            at += 1
            continue
        if marker in _STANDALONE:
            at += 2
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if length < 2 or at + 2 + length > end:
            raise NotAJpeg(f"the segment at byte {at} does not fit")
        if marker in _SOF:
            # Precision (1), height (2), width (2), components (1), and 3 for each of those.
            if length < 11 or length != 8 + 3 * data[at + 9]:
                raise NotAJpeg(f"the start of frame at byte {at} has the wrong length")
            height = int.from_bytes(data[at + 5 : at + 7], "big")
            width = int.from_bytes(data[at + 7 : at + 9], "big")
            if width == 0 or height == 0:
                raise NotAJpeg("its start of frame gives no width or no height")
            return width, height
        if marker == _SOS:
            break
        at += 2 + length
    raise NotAJpeg("it has no start of frame (SOFn)")

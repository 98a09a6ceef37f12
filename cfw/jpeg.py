"""Is this a JPEG, and how large is its picture? Found by walking its segments, not decoding.

Markers are those of ITU-T T.81, table B.1.

What may trail a picture, behind its EOI: at most `MAX_TRAILER_BYTES` of anything, which is
what cameras leave in their buffers and fill them up with; or the trailer of a phone's
picture, of any length, which says that it is one (see `_is_phones`).
"""

from __future__ import annotations

from collections.abc import Iterator

try:
    from cfw._native import jpeg_size
except ImportError:

    def jpeg_size(data: bytes) -> tuple[int, int] | None:
        return None  # nothing was compiled here; the walk below says it all


#: Of whatever follows a picture that is not a phone's. Small cameras send pictures from a
#: buffer whose last block, rarely more than 4 KiB, still holds what was there before.
MAX_TRAILER_BYTES = 4096

#: Segments, fill bytes and lone markers before the scan. Real pictures have some dozen, and
#: some hundred with a depth map in XMP; a frame of nothing else would take 50 ms to refuse.
MAX_STEPS = 4096

_SOI = b"\xff\xd8"
_EOI = b"\xff\xd9"
#: Start of frame: baseline, progressive, lossless, arithmetic; not DHT, JPG and DAC.
_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
#: Markers that stand alone: TEM and RST0 to RST7.
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})
_SOS, _APP1, _APP2 = 0xDA, 0xE1, 0xE2

#: What a phone writes before and behind a picture that more follows: the index of a
#: Multi-Picture file (CIPA DC-007); the namespaces of Google's motion photos, gain maps and
#: depth maps in XMP; the first box of an MP4; the end of Samsung's trailer.
_MPF = b"MPF\x00"
_GOOGLE = b"http://ns.google.com/photos/1.0/"
_FTYP = b"ftyp"
_SAMSUNG = b"SEFT"


class NotAJpeg(ValueError):
    """The bytes are no complete JPEG image; the text says what is missing."""


def probe(data: bytes) -> tuple[int, int]:
    """Width and height in pixels of a JPEG image, from its start-of-frame segment.

    What may trail a picture is tolerated. The entropy-coded data is not looked at.

    Raises:
        NotAJpeg: no SOI, no EOI where one is due, or no start of frame between them.
    """
    return jpeg_size(data) or _walk(data)


def _walk(data: bytes) -> tuple[int, int]:
    """The same, and why not: the compiled twin has no words."""
    if not data.startswith(_SOI):
        raise NotAJpeg("it does not begin with SOI (FF D8)")
    # The last EOI is the picture's own, or that of one which trails it: either has the start
    # of frame before it, and that of a thumbnail in the metadata has not.
    end = data.rfind(_EOI, max(0, len(data) - MAX_TRAILER_BYTES - len(_EOI)))
    if end < 0:
        end = _phones_eoi(data)
    for marker, at, length in _segments(data, end):
        if marker in _SOF:
            return _size(data, at, length)
        if marker == _SOS:
            break
    raise NotAJpeg("it has no start of frame (SOFn)")


def _segments(data: bytes, end: int) -> Iterator[tuple[int, int, int]]:
    """Marker, place and length of each segment before `end`."""
    at = 2
    for _ in range(MAX_STEPS):
        if at >= end:
            return
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
        yield marker, at, length
        at += 2 + length
    raise NotAJpeg(f"it has more than {MAX_STEPS} segments and fill bytes before its scan")


def _size(data: bytes, at: int, length: int) -> tuple[int, int]:
    # Precision (1), height (2), width (2), components (1), and 3 for each of those.
    if length < 11 or length != 8 + 3 * data[at + 9]:
        raise NotAJpeg(f"the start of frame at byte {at} has the wrong length")
    height = int.from_bytes(data[at + 5 : at + 7], "big")
    width = int.from_bytes(data[at + 7 : at + 9], "big")
    if width == 0 or height == 0:
        raise NotAJpeg("its start of frame gives no width or no height")
    return width, height


def _phones_eoi(data: bytes) -> int:
    """Where the EOI of a phone's picture is, which a long trailer follows."""
    if _EOI not in data:
        raise NotAJpeg("it has no EOI (FF D9)")
    says_so = False
    for marker, at, length in _segments(data, len(data) - 2):
        if marker == _APP1:
            says_so |= data.find(_GOOGLE, at + 4, at + 2 + length) >= 0
        elif marker == _APP2:
            says_so |= data.startswith(_MPF, at + 4)
        elif marker == _SOS:
            # In entropy-coded data FF 00 stands for a byte FF, so the first EOI is its end.
            eoi = data.find(_EOI, at + 2 + length)
            if eoi < 0:
                raise NotAJpeg("it has no EOI (FF D9) behind its scan")
            if says_so or _is_phones(data, eoi + len(_EOI)):
                return eoi
            trailing = len(data) - eoi - len(_EOI)
            raise NotAJpeg(
                f"{trailing} bytes follow its EOI (FF D9); at most {MAX_TRAILER_BYTES} may, "
                "or the trailer of a phone's picture"
            )
    raise NotAJpeg("it has no scan (SOS)")


def _is_phones(data: bytes, at: int) -> bool:
    """Whether what trails from `at` on is an MP4, or a trailer of Samsung's."""
    return data.startswith(_FTYP, at + 4) or data.endswith(_SAMSUNG)

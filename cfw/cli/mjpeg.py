"""An MJPEG stream, cut anywhere, into its JPEG images, each from its SOI to its EOI.

`MjpegSplitter` is pure: bytes in, images out. It walks the segments of each image, so the
thumbnail in an image's metadata, which is a JPEG too, does not end it. In a scan only the next
EOI counts, as in `cfw.jpeg`: whatever else looks like a marker there is damage, which decoders
live with. What is no image is left out and counted, and the next image is looked for in it.
"""

from __future__ import annotations

import enum
import re

import attrs

from cfw.cli.left_out import LeftOut
from cfw.cli.nested import MULTI_PICTURE, SOI, find_next_image, further_images
from cfw.jpeg import NotAJpeg, probe

__all__ = ["MjpegSplitter", "SourceError"]

_SAMPLE_BYTES = 16

#: Markers of ITU-T T.81, table B.1.
_SOI, _EOI, _SOS, _TEM, _APP2 = 0xD8, 0xD9, 0xDA, 0x01, 0xE2
_RST = range(0xD0, 0xD8)
_FIRST_SEGMENT = 0xC0
_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
#: A scan ends with EOI, or is cut short by the next image.
_END_OF_SCAN = re.compile(rb"\xff(?:\xd9|\xd8\xff)")

#: Between images: padding of zeros, blanks and fill bytes, and text, which is what servers of
#: multipart streams write there: heads, boundaries, folded headers in whatever encoding.
#: Nothing but the first byte of a line is held against text that is not ASCII.
_PADDING = re.compile(rb"(?:[\x00\t\n\r ]|\xff(?=[\x00\t\n\r\x20-\x7e\xff]))*")
_NO_TEXT = re.compile(rb"[\x01-\x08\x0b\x0c\x0e-\x1f\x7f]|[\x00\n\r\xff][\x80-\xfe]")

_ACCEPTED = (
    "accepted: JPEG images back to back, with padding or multipart headers between them; "
    "convert other video with: ffmpeg -i INPUT -f mjpeg -"
)
#: By what a stream begins with, and up to two zeros before it. A camera's stream that is joined
#: begins in the middle of an image, with any bytes: none of these is there by chance.
_KNOWN_FORMATS = (
    (rb"\0*\x89PNG", "PNG"),
    (rb"\0*GIF8", "GIF"),
    (rb"\0*RIFF....WEBP", "WebP"),
    (rb"\0*RIFF....AVI ", "AVI"),
    (rb"\0*RIFF", "RIFF"),
    (rb"\0*.{0,4}ftyp", "MP4"),
    (rb"\0*\x1aE\xdf\xa3", "Matroska or WebM"),
    (rb"\0*BM.{4}\0{4}", "BMP"),
    (rb"\0*FLV\x01", "FLV"),
    (rb"\0\0\x01[\x09\x27\x67]", "H.264"),
    (rb"\0\0\x01[\x40\x42\x46]\x01", "H.265"),
    (rb"\0\0\x01\xba", "an MPEG program stream"),
    (rb"\0*G[@A].[\x10-\x1f\x30-\x3f]", "an MPEG transport stream"),
    (rb"\0+\x05\x16\x07", "AppleDouble, which macOS writes beside a file"),
    (rb"\0*(?i:<!doctype html|<html)", "HTML"),
    (rb"\0*[{\[](?:[\t\n\r -~]|[\xc2-\xf4][\x80-\xbf]*)*\Z", "JSON"),
)


@attrs.define(slots=False, eq=False)
class SourceError(Exception):
    """A source that cannot be opened, or holds no JPEG image.

    Args:
        source: which one, as given on the command line.
        offset: byte in its stream where the fault is, or None if it is not in the bytes.
        reason: what is wrong and what would be right.
    """

    source: str
    offset: int | None
    reason: str

    def __str__(self) -> str:
        where = self.source if self.offset is None else f"{self.source}: byte {self.offset}"
        return f"{where}: {self.reason}"


class _State(enum.Enum):
    GAP = enum.auto()  # between images
    MARKER = enum.auto()  # where a marker is due, or not yet there in the buffer
    SCAN = enum.auto()  # in entropy-coded data


class MjpegSplitter:
    """Takes a stream of JPEG images apart, in linear time and whatever its chunks are.

    Args:
        max_frame_bytes: the largest image taken; also bounds what is buffered, and how much
            may come before the first image.
        name: names the stream in errors.
        left_out: counts what is no image; None if nobody wants to know.
    """

    def __init__(
        self, *, max_frame_bytes: int, name: str = "MJPEG", left_out: LeftOut | None = None
    ) -> None:
        self._max_frame_bytes = max_frame_bytes
        self._name = name
        self._left_out = LeftOut() if left_out is None else left_out
        self._buffer = bytearray()
        self._dropped = 0  # bytes of the stream before the buffer
        self._at = 0  # all before it has been looked at; may lie behind the buffer's end
        self._state = _State.GAP
        self._image = _Image(0)
        self._gap = _Gap(0)
        self._images_found = 0
        self._further: frozenset[int] = frozenset()  # places of images that belong to another
        self._sample, self._sample_at = b"", 0  # what the stream begins with instead of one
        self._zeros = 0  # directly before it, as far as was looked
        self._first_fault: SourceError | None = None
        self._ended = False

    @property
    def offset(self) -> int:
        """How many bytes were fed."""
        return self._dropped + len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """Return the images that `data` completes, each exactly as it was.

        Args:
            data: the next bytes of the stream.

        Raises:
            SourceError: the stream begins with something else than MJPEG. Never behind an
                image: what is wrong there is left out, and the next image is looked for.
        """
        self._buffer += data
        images: list[bytes] = []
        self._walk(images)
        self._drop_consumed()
        return images

    def finish(self) -> list[bytes]:
        """Say that the stream has ended; returns images found in what had seemed to be one.

        Raises:
            SourceError: there was no image in it.
        """
        self._ended = True
        images = self.feed(b"")
        while self._state is not _State.GAP:
            self._give_up_cut()
            self._walk(images)
        self._end_gap(len(self._buffer))
        if not self._images_found:
            raise self._no_image()
        return images

    def _walk(self, images: list[bytes]) -> None:
        going = True
        while going:
            if self._state is _State.GAP:
                going = self._walk_gap()
            elif self._state is _State.MARKER:
                going = self._walk_marker(images)
            else:
                going = self._walk_scan(images)

    # --- between images ---------------------------------------------------------------------

    def _walk_gap(self) -> bool:
        buffer = self._buffer
        found = buffer.find(SOI, self._at)
        end = found if found >= 0 else len(buffer) - self._unclear()
        if end > self._at:
            self._look_at_gap(end)
        if found < 0:
            return False
        self._image = _Image(found, is_due=self._gap.is_text or self._gap.is_damage)
        self._at = found + 2
        self._state = _State.MARKER
        return True

    def _unclear(self) -> int:
        """How many of the last bytes may be the beginning of SOI."""
        if self._ended:
            return 0
        return 2 if self._buffer.endswith(SOI[:2]) else int(self._buffer.endswith(SOI[:1]))

    def _look_at_gap(self, end: int) -> None:
        buffer, gap, at = self._buffer, self._gap, self._at
        if gap.is_text:
            is_first = at == gap.start
            first_is_wrong = is_first and 0x80 <= buffer[at] < 0xFF
            looked_at = at if is_first else at - 1
            gap.is_text = not (first_is_wrong or _NO_TEXT.search(buffer, looked_at, end))
        if not self._images_found:
            self._look_at_beginning(end)
        self._at = end

    def _look_at_beginning(self, end: int) -> None:
        """Refuse a stream that begins with something else, once it is clear what that is."""
        at = self._at
        if not self._sample:
            at = min(end, _end_of(_PADDING, self._buffer, at))
            self._sample_at = self._dropped + at
            padding = self._buffer[self._at : at]
            is_all_zeros = not padding.strip(b"\0")
            zeros = len(padding) - len(padding.rstrip(b"\0"))
            self._zeros = zeros + (self._zeros if is_all_zeros else 0)
        if len(self._sample) < _SAMPLE_BYTES:
            self._sample += self._buffer[at : min(end, at + _SAMPLE_BYTES - len(self._sample))]
        # Text may be a preamble. What is no text would be read to its end for nothing.
        if len(self._sample) < _SAMPLE_BYTES:
            return
        is_stray = not (self._gap.is_text or self._gap.is_damage)
        is_long = self._dropped + end > self._max_frame_bytes
        if is_long or (is_stray and self._format):
            raise self._no_image()

    @property
    def _format(self) -> str | None:
        """What it looks like that the stream begins with."""
        begins = b"\0" * min(self._zeros, 2) + self._sample
        names = (name for magic, name in _KNOWN_FORMATS if re.match(magic, begins, re.DOTALL))
        return next(names, None)

    def _no_image(self) -> SourceError:
        if self._first_fault is not None:
            return self._first_fault
        if not self._sample or (self._ended and self._sample.startswith(b"--")):
            return self._fault(len(self._buffer), f"there is no image; {_ACCEPTED}")
        kind = self._format
        found = f"{self._sample!r} (it looks like {kind})" if kind else repr(self._sample)
        reason = f"found {found}, no JPEG image; {_ACCEPTED}"
        return SourceError(self._name, self._sample_at, reason)

    def _end_gap(self, end: int) -> None:
        """Count what was between images, unless it was padding, text or told as damage."""
        if not (self._gap.is_text or self._gap.is_damage):
            self._left_out.bytes += end - self._gap.start

    # --- in images --------------------------------------------------------------------------

    def _walk_marker(self, images: list[bytes]) -> bool:
        buffer, at, image = self._buffer, self._at, self._image
        if self._is_too_large(at + 2):
            return self._give_up_large()
        if at + 2 > len(buffer):
            return False
        if buffer[at] != 0xFF:
            return self._give_up(
                at, f"found byte {buffer[at]:02X} where a marker begins with FF"
            )
        if at == image.segment_end and not self._end_segment():
            return True
        code = buffer[at + 1]
        if code == 0xFF:
            self._at = at + 1
        elif code == _EOI:
            return self._give_up(image.start, "the JPEG image holds no picture")
        elif code == _SOI:
            return self._give_up_for_next(at, None)
        elif code == _TEM or code in _RST:
            self._at = at + 2
        elif code < _FIRST_SEGMENT:
            return self._give_up(at, f"found FF {code:02X}, which is no marker of a JPEG image")
        else:
            return self._walk_segment(at, code)
        return True

    def _walk_segment(self, at: int, code: int) -> bool:
        buffer, image = self._buffer, self._image
        if self._is_too_large(at + 4):
            return self._give_up_large()
        if at + 4 > len(buffer):
            return False
        length = int.from_bytes(buffer[at + 2 : at + 4], "big")
        if length < 2:
            return self._give_up(
                at, f"the segment FF {code:02X} has the impossible length {length}"
            )
        image.has_sof |= code in _SOF
        if code == _SOS:
            # From its length on: the next image may begin in there too.
            self._at = at + 2
            self._state = _State.SCAN
        else:
            image.segment, image.segment_code = at, code
            image.segment_end = self._at = at + 2 + length
        return True

    def _end_segment(self) -> bool:
        """Look at a segment that is whole; False if the image ends in it."""
        buffer, image = self._buffer, self._image
        found = find_next_image(buffer, image.segment + 2, image.segment_end)
        if found is not None:
            self._give_up_for_next(found, found)
            return False
        payload = image.segment + 4
        if image.segment_code == _APP2 and buffer.startswith(MULTI_PICTURE, payload):
            index = payload + len(MULTI_PICTURE)
            image.further = frozenset(
                self._dropped + index + offset
                for offset in further_images(bytes(buffer[index : image.segment_end]))
            )
        return True

    def _walk_scan(self, images: list[bytes]) -> bool:
        buffer = self._buffer
        limit = self._image.start + self._max_frame_bytes
        match = _END_OF_SCAN.search(buffer, self._at, limit)
        if match is None:
            if len(buffer) >= limit:
                return self._give_up_large(limit - 2)  # the last two may begin the next
            self._at = max(self._at, len(buffer) - self._unclear())
            return False
        if match[0] == SOI:
            return self._give_up_for_next(match.start(), match.start())
        self._end_image(images, match.end())
        return True

    def _end_image(self, images: list[bytes], end: int) -> None:
        start = self._image.start
        data = bytes(self._buffer[start:end])
        try:
            probe(data)
        except NotAJpeg as exc:
            self._give_up(start, f"the image is no JPEG: {exc}", end)
            return
        self._end_gap(start)
        if self._dropped + start in self._further:
            self._left_out.further_images += 1
        else:
            images.append(data)
            self._images_found += 1
            self._further = self._image.further
        self._at = end
        self._gap = _Gap(end)
        self._state = _State.GAP

    def _is_too_large(self, end: int) -> bool:
        # Asked before the bytes up to `end` are looked at or waited for, so that the answer
        # is the same for any chunks.
        return end - self._image.start > self._max_frame_bytes

    # --- images that are none ---------------------------------------------------------------

    def _give_up_large(self, resume: int | None = None) -> bool:
        reason = f"the image is larger than {self._max_frame_bytes} bytes"
        return self._give_up(self._image.start, reason, resume)

    def _give_up_for_next(self, at: int, resume: int | None) -> bool:
        begun = self._dropped + self._image.start
        reason = f"an image begins inside the one from byte {begun}, which was cut short"
        return self._give_up(at, reason, resume)

    def _give_up_cut(self) -> None:
        begun = self._dropped + self._image.start
        end = len(self._buffer)
        # Where a segment is not whole, its length may be wrong, and images be in it.
        resume = None if self._at > end else max(self._image.start + 2, self._at)
        reason = f"the stream ends inside the image that began at byte {begun}"
        self._give_up(end, reason, resume, is_cut=True)

    def _give_up(
        self, at: int, reason: str, resume: int | None = None, *, is_cut: bool = False
    ) -> bool:
        """Leave the image out, and look for the next.

        Args:
            at: where it went wrong.
            reason: what is wrong.
            resume: where to look from; None if the last segment's length led there, so that
                all behind that length may belong to other images.
            is_cut: the stream ends here.
        """
        image, fault = self._image, self._fault(at, reason)
        self._at = max(image.start, image.segment) + 2 if resume is None else resume
        self._state = _State.GAP
        if self._dropped + image.start in self._further:
            self._left_out.further_images += 1
        elif image.is_due or image.has_sof:
            self._further = image.further
            self._first_fault = self._first_fault or fault
            if not is_cut:
                self._left_out.add_damaged(str(fault))
            elif not self._gap.is_cut:  # else it was told that the stream ends in an image
                self._left_out.add_cut(str(fault))
        else:  # of whatever trails an image, three bytes look like the beginning of one
            self._gap.is_text = False
            return True
        self._end_gap(image.start)
        self._gap = _Gap(image.start, is_text=False, is_damage=True, is_cut=is_cut)
        return True

    def _fault(self, at: int, reason: str) -> SourceError:
        return SourceError(self._name, self._dropped + at, reason)

    def _drop_consumed(self) -> None:
        # Once per chunk, not per image, or many small images would cost quadratic time. The
        # last byte of a gap tells whether the next one begins a line.
        in_gap = self._state is _State.GAP
        consumed = max(0, self._at - 1) if in_gap else self._image.start
        if consumed:
            del self._buffer[:consumed]
            self._dropped += consumed
            self._at -= consumed
            self._gap.start -= consumed
            self._image.move(consumed)


@attrs.define
class _Gap:
    """What is between two images; the place may lie before the buffer."""

    start: int
    is_text: bool = True  # or padding
    is_damage: bool = False  # the rest of an image that is told as damaged
    is_cut: bool = False  # because the stream ends in it


@attrs.define
class _Image:
    """The image that is being walked through; places are in the buffer."""

    start: int
    is_due: bool = True  # something else than bytes of no meaning came before it
    has_sof: bool = False
    segment: int = -1  # the last one
    segment_end: int = -1
    segment_code: int = 0
    further: frozenset[int] = frozenset()  # in the stream

    def move(self, consumed: int) -> None:
        """All places are in a buffer that begins later."""
        self.start -= consumed
        self.segment -= consumed
        self.segment_end -= consumed


def _end_of(pattern: re.Pattern[bytes], buffer: bytearray, at: int) -> int:
    match = pattern.match(buffer, at)
    return match.end() if match else at

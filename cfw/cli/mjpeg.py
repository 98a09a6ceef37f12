"""An MJPEG stream, cut anywhere, into its JPEG images, each exactly as it was.

`MjpegSplitter` is pure: bytes in, images out. It walks the segments of each image, so the
thumbnail in an image's metadata, which is a JPEG too, does not end it.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Iterator

import attrs

__all__ = ["MjpegSplitter", "SourceError", "split_mjpeg"]

_MAX_LINE_BYTES = 1024
_SAMPLE_BYTES = 16

# Markers of ITU-T T.81, table B.1.
_SOI, _EOI, _SOS, _TEM = 0xD8, 0xD9, 0xDA, 0x01
_RST = range(0xD0, 0xD8)
_FIRST_SEGMENT = 0xC0
_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# In entropy-coded data FF 00 is a byte of data, RSTn belongs to it, and FF FF is fill.
_MARKER_IN_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")

# Between images: padding of zeros, blanks and fill bytes, and the lines of multipart parts.
# A last FF may begin an image, so what follows it decides.
_PADDING = re.compile(rb"(?:[\x00\t\n\r ]|\xff(?=[\x00\t\n\r\x20-\x7e\xff]))*")
_TEXT = re.compile(rb"[\t\x20-\x7e]*")
_MULTIPART_LINE = re.compile(rb"--.*|HTTP/1\.[01] .*|[!#$%&'*+.^_`|~0-9A-Za-z-]+[ \t]*:.*")

_ACCEPTED = (
    "accepted: JPEG images back to back, with padding or multipart headers between them; "
    "convert other video with: ffmpeg -i INPUT -f mjpeg -"
)
_KNOWN_FORMATS = (
    (rb"\x89PNG", "PNG"),
    (rb"GIF8", "GIF"),
    (rb"RIFF....WEBP", "WebP"),
    (rb"RIFF....AVI ", "AVI"),
    (rb"RIFF", "RIFF"),
    (rb".{0,4}ftyp", "MP4"),
    (rb"\x1aE\xdf\xa3", "Matroska or WebM"),
    (rb"BM", "BMP"),
    (rb"FLV", "FLV"),
    (rb"(?i:<!doctype html|<html)", "HTML"),
    (rb"[{\[]", "JSON"),
)


@attrs.define(slots=False, eq=False)
class SourceError(Exception):
    """A source that cannot be opened, or whose bytes are no JPEG images.

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
        max_frame_bytes: the largest image allowed; also bounds what is buffered.
        name: names the stream in errors.
    """

    def __init__(self, *, max_frame_bytes: int, name: str = "MJPEG") -> None:
        self._max_frame_bytes = max_frame_bytes
        self._name = name
        self._buffer = bytearray()
        self._dropped = 0  # bytes of the stream before the buffer
        self._at = 0  # all before it has been looked at; may lie behind the buffer's end
        self._line_end = 0  # how far an unfinished line of text has been looked at
        self._start = 0  # of the image, outside the gap
        self._state = _State.GAP
        self._sof_seen = self._sos_seen = False
        self._images_found = 0
        self._ended = False
        self._error: SourceError | None = None

    @property
    def offset(self) -> int:
        """How many bytes were fed."""
        return self._dropped + len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """Return the images that `data` completes, each exactly as it was.

        Args:
            data: the next bytes of the stream; empty asks for a pending error.

        Raises:
            SourceError: the stream is no MJPEG. An error behind a complete image is raised
                by the call that follows, so that no image before it is lost.
        """
        if self._error is not None:
            raise self._error
        self._buffer += data
        images: list[bytes] = []
        try:
            self._walk(images)
        except SourceError as exc:
            self._error = exc
            if not images:
                raise
        self._drop_consumed()
        return images

    def finish(self) -> None:
        """Say that the stream has ended.

        Raises:
            SourceError: inside an image, without any image, or in bytes that are none.
        """
        self._ended = True
        self.feed(b"")
        if self._state is not _State.GAP:
            begun = self._dropped + self._start
            raise self._fault(
                len(self._buffer),
                f"the stream ends inside the image that began at byte {begun}",
            )
        if not self._images_found:
            raise self._fault(len(self._buffer), f"there is no image; {_ACCEPTED}")

    def _walk(self, images: list[bytes]) -> None:
        going = True
        while going:
            if self._state is _State.GAP:
                going = self._walk_gap()
            elif self._state is _State.MARKER:
                going = self._walk_marker(images)
            else:
                going = self._walk_scan()

    def _walk_gap(self) -> bool:
        buffer = self._buffer
        at = self._at = _end_of(_PADDING, buffer, self._at)
        if at == len(buffer):
            return False
        if buffer[at] == 0xFF:
            if at + 1 == len(buffer):
                return False
            if buffer[at + 1] != _SOI:
                return self._refuse(at)
            self._start, self._at = at, at + 2
            self._state = _State.MARKER
            self._sof_seen = self._sos_seen = False
            return True
        end = self._line_end = _end_of(_TEXT, buffer, max(at, self._line_end))
        if end - at > _MAX_LINE_BYTES:
            return self._refuse(at)
        if end == len(buffer):
            # A last line may be cut anywhere; only without any image it is worth a word.
            return self._refuse(at) if self._ended and not self._images_found else False
        if _MULTIPART_LINE.fullmatch(buffer, at, end) is None:
            return self._refuse(at)
        self._at = end
        return True

    def _refuse(self, at: int) -> bool:
        """Refuse the bytes at `at`, once there are enough of them to say what they are."""
        sample = bytes(self._buffer[at : at + _SAMPLE_BYTES])
        if len(sample) < _SAMPLE_BYTES and not self._ended:
            return False
        kind = next(
            (name for magic, name in _KNOWN_FORMATS if re.match(magic, sample, re.DOTALL)), None
        )
        found = f"{sample!r} (it looks like {kind})" if kind else repr(sample)
        raise self._fault(at, f"found {found}, no JPEG image; {_ACCEPTED}")

    def _walk_marker(self, images: list[bytes]) -> bool:
        buffer, at = self._buffer, self._at
        self._check_size(at + 2)
        if at + 2 > len(buffer):
            return False
        if buffer[at] != 0xFF:
            raise self._fault(at, f"found byte {buffer[at]:02X} where a marker begins with FF")
        code = buffer[at + 1]
        if code == 0xFF:
            self._at = at + 1
        elif code == _EOI:
            self._end_image(images, at + 2)
        elif code == _SOI:
            raise self._fault(
                at,
                f"an image begins inside the one from byte {self._dropped + self._start}, "
                "which was cut short",
            )
        elif code == _TEM or code in _RST:
            self._at = at + 2
        elif code < _FIRST_SEGMENT:
            raise self._fault(at, f"found FF {code:02X}, which is no marker of a JPEG image")
        else:
            return self._walk_segment(at, code)
        return True

    def _walk_segment(self, at: int, code: int) -> bool:
        self._check_size(at + 4)
        if at + 4 > len(self._buffer):
            return False
        length = int.from_bytes(self._buffer[at + 2 : at + 4], "big")
        if length < 2:
            raise self._fault(
                at, f"the segment FF {code:02X} has the impossible length {length}"
            )
        self._at = at + 2 + length
        self._sof_seen |= code in _SOF
        if code == _SOS:
            self._sos_seen = True
            self._state = _State.SCAN
        return True

    def _walk_scan(self) -> bool:
        buffer = self._buffer
        if self._at < len(buffer):
            match = _MARKER_IN_SCAN.search(buffer, self._at)
            if match is not None:
                self._at = match.start()
                self._state = _State.MARKER
                return True
            # A last FF is looked at again, with the byte that follows it.
            self._at = len(buffer) - buffer.endswith(b"\xff")
        self._check_size(self._at + 2)
        return False

    def _end_image(self, images: list[bytes], end: int) -> None:
        if not (self._sof_seen and self._sos_seen):
            raise self._fault(self._start, "the JPEG image holds no picture")
        images.append(bytes(self._buffer[self._start : end]))
        self._images_found += 1
        self._at = end
        self._state = _State.GAP

    def _check_size(self, end: int) -> None:
        # Asked before the bytes up to `end` are looked at or waited for, so that the answer
        # is the same for any chunks.
        if end - self._start > self._max_frame_bytes:
            raise self._fault(
                self._start, f"the image is larger than {self._max_frame_bytes} bytes"
            )

    def _fault(self, at: int, reason: str) -> SourceError:
        return SourceError(self._name, self._dropped + at, reason)

    def _drop_consumed(self) -> None:
        # Once per chunk, not per image, or many small images would cost quadratic time.
        consumed = self._at if self._state is _State.GAP else self._start
        if consumed:
            del self._buffer[:consumed]
            self._dropped += consumed
            self._at -= consumed
            self._start = max(0, self._start - consumed)
            self._line_end = max(0, self._line_end - consumed)


def _end_of(pattern: re.Pattern[bytes], buffer: bytearray, at: int) -> int:
    match = pattern.match(buffer, at)
    return match.end() if match else at


def split_mjpeg(
    chunks: Iterable[bytes], *, max_frame_bytes: int, name: str = "MJPEG"
) -> Iterator[bytes]:
    """Yield the images of an MJPEG stream, each exactly as it was, as soon as it is complete.

    Args:
        chunks: the stream, cut anywhere.
        max_frame_bytes: the largest image allowed.
        name: names the stream in errors.

    Raises:
        SourceError: at the place of the fault, behind all images before it.
    """
    splitter = MjpegSplitter(max_frame_bytes=max_frame_bytes, name=name)
    for chunk in chunks:
        yield from splitter.feed(chunk)
        splitter.feed(b"")
    splitter.finish()

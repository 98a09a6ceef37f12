"""Pictures as cameras and phones write them, made of what Pillow encodes.

Each stands for a kind seen in the field; the functions say which.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Iterator
from functools import cache

from PIL import Image

from cfw.cli.left_out import LeftOut
from cfw.cli.mjpeg import MjpegSplitter

__all__ = [
    "APPLE_DOUBLE",
    "LEFTOVER",
    "MP4",
    "draw",
    "multi_picture",
    "segment",
    "split_mjpeg",
    "with_segment",
    "with_spurious_marker",
]

#: `._x.jpg`, which macOS writes beside `x.jpg` on disks of others.
APPLE_DOUBLE = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        " + bytes(102)
#: What the buffer of a small camera held before: the end of a scan, and no EOI.
LEFTOVER = bytes(n * n * 7 % 251 for n in range(700))
#: What phones append to a motion photo.
MP4 = (
    b"\x00\x00\x00\x1cftypisom\x00\x00\x02\x00isomiso2mp41"
    + (8 + 6000).to_bytes(4, "big")
    + b"mdat"
    + bytes(n * n * 3 % 253 for n in range(6000))
)


@cache
def draw(width: int = 24, height: int = 16, seed: int = 1, **options: int) -> bytes:
    """A JPEG of noise, so that its entropy-coded data is long."""
    noise = bytes((seed * 7919 + n * n * 31 + n) % 251 for n in range(width * height * 3))
    out = io.BytesIO()
    Image.frombytes("RGB", (width, height), noise).save(out, "JPEG", **options)
    return out.getvalue()


def segment(code: int, payload: bytes) -> bytes:
    """A segment with its marker and length."""
    return bytes([0xFF, code]) + (len(payload) + 2).to_bytes(2, "big") + payload


def with_segment(jpeg: bytes, code: int, payload: bytes) -> bytes:
    """Put a segment right behind SOI, where cameras put theirs."""
    return jpeg[:2] + segment(code, payload) + jpeg[2:]


def with_spurious_marker(jpeg: bytes, marker: bytes = b"\xff\x3a") -> bytes:
    """Damage one place of the scan, so that it looks like a marker."""
    at = len(jpeg) - 20
    return jpeg[:at] + marker + jpeg[at + len(marker) :]


def multi_picture(first: bytes, *others: bytes, order: str = "<") -> bytes:
    """A file of several pictures (CIPA DC-007): stereo, or a gain map.

    Args:
        first: the one that viewers show.
        others: written behind it.
        order: of the bytes of its index: `<` or `>`.
    """
    count = 1 + len(others)
    at_entries = 8 + 2 + 3 * 12 + 4
    start = 2 + 4 + 4  # of the index, in the file: behind SOI, the segment's head and `MPF`
    length = start + at_entries + 16 * count + len(first) - 2
    entries, offset = struct.pack(f"{order}IIIHH", 0x030000, length, 0, 0, 0), length
    for other in others:
        entries += struct.pack(f"{order}IIIHH", 0, len(other), offset - start, 0, 0)
        offset += len(other)
    index = {"<": b"II*\x00", ">": b"MM\x00*"}[order] + struct.pack(f"{order}IH", 8, 3)
    index += struct.pack(f"{order}HHI4s", 0xB000, 7, 4, b"0100")
    index += struct.pack(f"{order}HHII", 0xB001, 4, 1, count)
    index += struct.pack(f"{order}HHII", 0xB002, 7, 16 * count, at_entries)
    file = with_segment(first, 0xE2, b"MPF\x00" + index + bytes(4) + entries)
    assert len(file) == length
    return file + b"".join(others)


def split_mjpeg(
    chunks: Iterable[bytes],
    *,
    max_frame_bytes: int,
    name: str = "MJPEG",
    left_out: LeftOut | None = None,
) -> Iterator[bytes]:
    """The images of an MJPEG stream that is cut anywhere, each as soon as it is complete."""
    splitter = MjpegSplitter(max_frame_bytes=max_frame_bytes, name=name, left_out=left_out)
    for chunk in chunks:
        yield from splitter.feed(chunk)
    yield from splitter.finish()

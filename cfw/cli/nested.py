"""Images in and behind images: which belongs to another, and which is the next of a stream."""

from __future__ import annotations

import struct

__all__ = ["MULTI_PICTURE", "SOI", "find_next_image", "further_images"]

#: An image begins with SOI, and another marker follows at once.
SOI = b"\xff\xd8\xff"
#: What the payload of the segment APP2 that holds an index of further images begins with.
MULTI_PICTURE = b"MPF\x00"

_NO_SEGMENT = frozenset({0xD8, 0xD9, 0xDA})  # SOI, EOI; and a scan follows SOS
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})
_FIRST_SEGMENT = 0xC0
_ENTRIES_TAG, _ENTRY_BYTES, _OFFSET_IN_ENTRY = 0xB002, 16, 8
_BYTE_ORDERS = {b"II*\x00": "<", b"MM\x00*": ">"}


def find_next_image(buffer: bytearray, begin: int, end: int) -> int | None:
    """Find, in what passes for a segment of an image, the next image of the stream.

    Where an image is cut in one of its first segments, the length of that segment reaches
    into the next image. If it ends where a segment of that ends, all looks well but two
    images have become one. A thumbnail is not mistaken for it: its scan comes before its end.

    Args:
        buffer: where the segment is, with the FF of the marker behind it.
        begin: of the segment's length.
        end: of the segment.
    """
    seen: set[int] = set()  # so that no place is walked from twice
    at = buffer.find(SOI, begin, end + 1)
    while at >= 0:
        if _leads_to(end, buffer, at + 2, seen):
            return at
        at = buffer.find(SOI, at + 1, end + 1)
    return None


def _leads_to(end: int, buffer: bytearray, at: int, seen: set[int]) -> bool:
    """Whether segment behind segment, from `at` on, leads exactly to `end`."""
    while at < end:
        if at in seen or at + 4 > end or buffer[at] != 0xFF:
            return False
        seen.add(at)
        code = buffer[at + 1]
        if code == 0xFF:
            at += 1
        elif code in _STANDALONE:
            at += 2
        elif code < _FIRST_SEGMENT or code in _NO_SEGMENT:
            return False
        else:
            at += 2 + int.from_bytes(buffer[at + 2 : at + 4], "big")
    return at == end


def further_images(index: bytes) -> frozenset[int]:
    """Where the images begin that belong to another, by its index (CIPA DC-007, section 5.2).

    Args:
        index: the payload of the segment behind `MULTI_PICTURE`.

    Returns:
        Offsets from the start of the index; none if it cannot be read.
    """
    order = _BYTE_ORDERS.get(index[:4])
    if order is None:
        return frozenset()
    try:
        (at,) = struct.unpack_from(f"{order}I", index, 4)
        (tags,) = struct.unpack_from(f"{order}H", index, at)
        for tag_at in range(at + 2, at + 2 + 12 * tags, 12):
            tag, _, size, value = struct.unpack_from(f"{order}HHII", index, tag_at)
            if tag == _ENTRIES_TAG:
                entries = range(value, value + size - _ENTRY_BYTES + 1, _ENTRY_BYTES)
                offsets = (_offset(order, index, entry) for entry in entries)
                # That of the first image is 0.
                return frozenset(offset for offset in offsets if offset)
    except struct.error:
        pass
    return frozenset()


def _offset(order: str, index: bytes, entry: int) -> int:
    (offset,) = struct.unpack_from(f"{order}I", index, entry + _OFFSET_IN_ENTRY)
    return int(offset)

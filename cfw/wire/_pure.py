"""The two loops that touch every byte, in Python; `_native` is the same, compiled."""

from __future__ import annotations

from struct import Struct
from typing import TypeAlias

try:
    from websockets.speedups import apply_mask
except ImportError:  # Built without its C extension: correct, and slower.
    from websockets.utils import apply_mask

Bytes: TypeAlias = bytes | bytearray | memoryview

_LENGTH_16 = Struct("!H")
_LENGTH_64 = Struct("!Q")


def unmask(data: Bytes, mask: Bytes) -> bytes:
    """Undo the masking of a payload, or of the beginning of one."""
    return apply_mask(data, bytes(mask))


def take_messages(
    data: Bytes,
    pos: int,
    messages: list[str | bytes],
    most: int,
    max_text_bytes: int,
    max_binary_bytes: int,
) -> int:
    """Take the whole messages that `data` has from `pos` on, as far as they are plain.

    Plain is a message in one frame, all of it there, within its limit, and UTF-8 if it is
    text. Whatever else stands there, right or wrong, is left to the caller.

    Args:
        data: bytes as received; not kept.
        pos: where a frame begins.
        messages: they are appended to it.
        most: how many are taken.
        max_text_bytes: the longest text that is taken.
        max_binary_bytes: the longest binary message that is taken.

    Returns:
        Where the first frame begins that was not taken.
    """
    size = len(data)
    while most and size - pos >= 6:
        most -= 1
        first = data[pos]
        if first != 0x81 and first != 0x82:
            break
        length = data[pos + 1] - 0x80
        start = pos + 6
        if length > 125:
            start += 2 if length == 126 else 8
            if start > size:
                break
            unpack = _LENGTH_16 if length == 126 else _LENGTH_64
            shortest = 126 if length == 126 else 0x10000
            (length,) = unpack.unpack_from(data, pos + 2)
            if length < shortest:
                break
        end = start + length
        limit = max_text_bytes if first == 0x81 else max_binary_bytes
        if not 0 <= length <= limit or end > size:
            break
        payload = unmask(data[start:end], data[start - 4 : start])
        if first == 0x81:
            try:
                messages.append(str(payload, "utf-8"))
            except UnicodeDecodeError:
                break
        else:
            messages.append(payload)
        pos = end
    return pos


class Payload:
    """Collects a binary message that comes in several reads or frames.

    Memory: at most nine eighths of what has come, or five quarters of the largest one before;
    never what a header announces.

    Attributes:
        missing: how many bytes of the current frame have not come.
    """

    def __init__(self) -> None:
        self.missing = 0
        self._data = bytearray()
        self._mask = b""

    def __sizeof__(self) -> int:
        return object.__sizeof__(self) + self._data.__sizeof__()

    def expect(self, length: int, mask: bytes) -> None:
        """Begin a frame of so many bytes."""
        self.missing = length
        self._mask = mask

    def add(self, data: Bytes, pos: int) -> int:
        """Take what `data` has of the frame from `pos` on; return where that ends."""
        end = min(len(data), pos + self.missing)
        self._data += unmask(data[pos:end], self._mask)
        turn = (end - pos) % 4
        self._mask = self._mask[turn:] + self._mask[:turn]
        self.missing -= end - pos
        return end

    def tail(self, size: int) -> bytes:
        """The last so many bytes that have come, at most as many as there are."""
        return bytes(self._data[max(0, len(self._data) - size) :])

    def take(self) -> bytes:
        """Give the message away; the next frame begins another."""
        message = bytes(self._data)
        self._data = bytearray()
        return message

"""What rigs send: masked messages, and frames that differ and lie in no cache."""

from __future__ import annotations

import os
import struct
from functools import cache

from websockets.utils import apply_mask

from cfw.bench.peers.checks import TAIL_BYTES

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
#: Not zero: a server may leave out the unmasking of a zero mask.
MASK = b"\x37\xfa\x21\x3d"
#: How `capture.close` ends, for a server that looks at nothing else.
CLOSING_END = b'"capture.close"}'
_EOI = b"\xff\xd9"
#: Several times the largest cache that a processor of today shares between a few cores.
ALBUM_BYTES = 128 * 1024 * 1024
_FRAME = b"\xff\xc0\x00\x11\x08\x01\xe0\x02\x80\x03\x01\x22\x00\x02\x11\x01\x03\x11\x01"
_SCAN = b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00"
_PICTURE_HEAD = b"\xff\xd8" + _FRAME + _SCAN


def picture(size: int) -> bytes:
    """A 640 x 480 JPEG, as far as its segments go, of exactly `size` bytes."""
    return _PICTURE_HEAD + bytes(size - len(_PICTURE_HEAD) - 2) + _EOI


def message(opcode: int, payload: bytes) -> bytes:
    """One masked WebSocket frame."""
    return _message_head(opcode, len(payload)) + apply_mask(payload, MASK)


def _message_head(opcode: int, size: int) -> bytes:
    if size < 126:
        head = bytes([0x80 | opcode, 0x80 | size])
    elif size < 1 << 16:
        head = struct.pack("!BBH", 0x80 | opcode, 0xFE, size)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 0xFF, size)
    return head + MASK


class Album:
    """Frames that differ, masked, in more memory than a processor's cache holds.

    Args:
        size: bytes of each frame.
    """

    def __init__(self, size: int) -> None:
        self._head = _message_head(BINARY, size) + apply_mask(_PICTURE_HEAD, MASK)
        # What is random is as random under a mask.
        self._scans = _noise()
        self._size = size - len(_PICTURE_HEAD) - TAIL_BYTES
        self._at = 0

    def next_body(self) -> tuple[bytes, memoryview]:
        """The message of the next frame but for its last `TAIL_BYTES`, in two parts."""
        if self._at + self._size > len(self._scans):
            self._at = 0
        scan = self._scans[self._at : self._at + self._size]
        self._at += self._size
        return self._head, scan


@cache
def _noise() -> memoryview:
    return memoryview(os.urandom(ALBUM_BYTES))


def stamped_tail(size: int, instant_ns: int) -> bytes:
    """The last `TAIL_BYTES` of a frame of `size` bytes, masked, that carry an instant."""
    turn = (size - TAIL_BYTES) % 4
    return apply_mask(struct.pack("!Q", instant_ns) + _EOI, MASK[turn:] + MASK[:turn])

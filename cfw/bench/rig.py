"""One rig of the benchmark: what it sends, made beforehand, and what it is told."""

from __future__ import annotations

import json
import os
import socket
import struct
import time
from collections.abc import Iterator
from functools import cache
from itertools import count

import attrs
from websockets.utils import apply_mask

from cfw.bench.peers.checks import PATH, TAIL_BYTES
from schemas import SCHEMA_VERSION, Timestamp

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
#: Not zero: a server may leave out the unmasking of a zero mask.
MASK = b"\x37\xfa\x21\x3d"
#: How `capture.close` ends, for a server that looks at nothing else.
CLOSING_END = b'"capture.close"}'
_EOI = b"\xff\xd9"
#: Several times the largest cache that a processor of today shares between a few cores.
ALBUM_BYTES = 128 * 1024 * 1024


class BenchError(Exception):
    """A server did not do what it was asked to; the text says what happened."""


@attrs.frozen
class End:
    """How a server ended a connection.

    Args:
        code: of its close frame; 1006 when none came.
        reason: of its close frame.
    """

    code: int
    reason: str

    @property
    def frames(self) -> int | None:
        """The frames of the receipt; None from a server that does not know any.

        Raises:
            BenchError: it is no receipt.
        """
        if self.code != 1000:
            raise BenchError(f"closed with {self.code} {self.reason}".rstrip())
        frames: int | None = json.loads(self.reason)["frames"]
        return frames


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


def connect(port: int, path: str) -> tuple[socket.socket, bytes]:
    """Open a WebSocket on loopback; gives the socket and what came behind the handshake.

    Raises:
        BenchError: the server refused the handshake.
    """
    sock = socket.create_connection(("127.0.0.1", port), 30)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        answer = b""
        while b"\r\n\r\n" not in answer and (more := sock.recv(4096)):
            answer += more
        head, _, rest = answer.partition(b"\r\n\r\n")
        if b" 101 " not in head[:20]:
            raise BenchError(f"no handshake: {head[:80]!r}")
    except BaseException:
        sock.close()
        raise
    return sock, rest


class Rig:
    """A connection to a server, with a capture open on it once `open` was called.

    Args:
        port: where the server listens on loopback.
        number: tells the rigs of a run apart.
        size: bytes of each frame.

    Raises:
        BenchError: the server refused the handshake.
    """

    def __init__(self, port: int, number: int, size: int) -> None:
        self.size = size
        self.end: End | None = None
        #: Frames begun with `next_meta`.
        self.frames = 0
        #: Answers to pings, to be sent between two messages.
        self.pongs: list[bytes] = []
        self.data = message(BINARY, picture(size))
        self._ids = (f"{number:08x}-0000-4000-8000-{n:012x}" for n in count())
        now = Timestamp.from_ns(time.time_ns()).text
        self._header: dict[str, object] = {
            "schema_version": SCHEMA_VERSION,
            "user_id": "bench",
            "capture_id": f"bench-{os.getpid()}-{number}-{time.monotonic_ns()}",
            "timestamp": now,
        }
        self._now = now
        self._metas = self._make_metas()
        self.sock, self._replies = connect(port, PATH)

    @property
    def capture_id(self) -> str:
        """The id of its capture."""
        return str(self._header["capture_id"])

    def opening(self) -> dict[str, object]:
        """The fields of its `capture.open`."""
        return self._header | {
            "event": "capture.open",
            "record_id": next(self._ids),
            "session_id": "bench",
            "timestamp_start": self._now,
            "fps_target": 15,
            "width": 640,
            "height": 480,
            "encoding": "jpeg",
        }

    def meta(self, seq: int, **fields: object) -> dict[str, object]:
        """The fields of a `capture.frame_meta`."""
        return {
            **self._header,
            "event": "capture.frame_meta",
            "record_id": next(self._ids),
            "session_id": "bench",
            "seq": seq,
            "timestamp_frame": self._now,
            "byte_length": self.size,
            **fields,
        }

    def next_meta(self) -> bytes:
        """The masked `capture.frame_meta` of the next frame."""
        self.frames += 1
        return next(self._metas)

    def open(self) -> None:
        """Send `capture.open`."""
        self.say(self.opening())

    def closing(self) -> bytes:
        """The masked `capture.close`."""
        fields = self._header | {"record_id": next(self._ids), "timestamp_end": self._now}
        fields["event"] = "capture.close"  # the last one: see CLOSING_END
        return message(TEXT, json.dumps(fields).encode())

    def say(self, fields: dict[str, object]) -> None:
        """Send one control message, waiting until the kernel has it."""
        self.sock.sendall(message(TEXT, json.dumps(fields).encode()))

    def read(self) -> None:
        """Take what the server has sent; afterwards `end` may be set."""
        try:
            data = self.sock.recv(65_536)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""
        self._replies += data
        while self.end is None and self._take_reply():
            pass
        if not data and self.end is None:
            self.end = End(1006, "the connection was cut")

    def wait_end(self) -> End:
        """Read until the server has ended the connection.

        Raises:
            TimeoutError: it did not within 30 s.
        """
        self.sock.settimeout(30)
        while self.end is None:
            self.read()
        return self.end

    def close(self) -> None:
        """Close the socket."""
        self.sock.close()

    def _make_metas(self) -> Iterator[bytes]:
        text = json.dumps(self.meta(-1, record_id="%s"))
        template = text.replace('"seq": -1', '"seq": %d')
        for seq in count(1):
            yield message(TEXT, (template % (next(self._ids), seq)).encode())

    def _take_reply(self) -> bool:
        """Take one whole frame of the server out of what was read; False when none is there."""
        if len(self._replies) < 2:
            return False
        length, start = self._replies[1], 2
        if length == 126:
            length, start = int.from_bytes(self._replies[2:4], "big"), 4
        if len(self._replies) < start + length:
            return False
        opcode, payload = self._replies[0] & 0xF, self._replies[start : start + length]
        self._replies = self._replies[start + length :]
        if opcode == CLOSE:
            self.end = End(
                int.from_bytes(payload[:2] or b"\x03\xed", "big"), payload[2:].decode()
            )
        elif opcode == PING:
            self.pongs.append(message(PONG, payload))
        return True

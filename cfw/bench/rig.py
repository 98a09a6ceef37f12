"""One rig of the benchmark: what it sends, made beforehand, and what it is told."""

from __future__ import annotations

import json
import os
import socket
import ssl
import time
from collections.abc import Iterator
from itertools import count

import attrs

from cfw.bench.frames import BINARY, CLOSE, PING, PONG, TEXT, message, picture
from cfw.bench.peers.checks import PATH
from cfw.bench.tls import TlsSocket
from schemas import SCHEMA_VERSION, Timestamp


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


def dial(port: int) -> socket.socket:
    """Connect to a port of loopback."""
    sock = socket.create_connection(("127.0.0.1", port), 30)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def upgrade(sock: socket.socket | TlsSocket, path: str) -> bytes:
    """Do the WebSocket handshake, as a client; gives what came behind it.

    Raises:
        BenchError: the server refused it.
    """
    sock.sendall(
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        "Sec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    answer = b""
    while b"\r\n\r\n" not in answer and (more := sock.recv(4096)):
        answer += more
    head, _, rest = answer.partition(b"\r\n\r\n")
    if b" 101 " not in head[:20]:
        raise BenchError(f"no handshake: {head[:80]!r}")
    return rest


class Rig:
    """A connection to a server, with a capture open on it once `open` was called.

    Args:
        port: where the server listens on loopback.
        number: tells the rigs of a run apart.
        size: bytes of each frame.
        trust: whom to trust over TLS; None for none.

    Raises:
        BenchError: the server refused the handshake.
    """

    def __init__(
        self, port: int, number: int, size: int, trust: ssl.SSLContext | None = None
    ) -> None:
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
        sock = dial(port)
        try:
            self.sock = sock if trust is None else TlsSocket(sock, trust)
            self._replies = upgrade(self.sock, PATH)
        except BaseException:
            sock.close()
            raise

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

    @property
    def is_behind(self) -> bool:
        """Whether something that its socket has taken is still to go to the kernel."""
        return isinstance(self.sock, TlsSocket) and self.sock.is_behind

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

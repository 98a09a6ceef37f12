"""Rigs that cost little: frames masked beforehand, blocking sockets, one thread each."""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import count

import attrs

from schemas import SCHEMA_VERSION, Timestamp

#: Frames that one system call sends; enough that the kernel is not asked too often.
BATCH = 8
_PING = 0x89
_MASK = b"\x00\x00\x00\x00"  # the server unmasks all the same; the load need not mask


@attrs.frozen
class Rate:
    """What a server took.

    Args:
        frames: frames of all connections, by the server's own count.
        seconds: from the first frame sent to the last receipt.
        size: bytes of one frame.
    """

    frames: int
    seconds: float
    size: int

    @property
    def frames_per_s(self) -> float:
        """Frames a second."""
        return self.frames / self.seconds

    @property
    def megabytes_per_s(self) -> float:
        """JPEG bytes a second, in units of 10^6."""
        return self.frames_per_s * self.size / 1e6


def picture(size: int) -> bytes:
    """A 640 x 480 JPEG, as far as its segments go, of exactly `size` bytes."""
    frame = b"\xff\xc0\x00\x11\x08\x01\xe0\x02\x80\x03\x01\x22\x00\x02\x11\x01\x03\x11\x01"
    head = b"\xff\xd8" + frame + b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00"
    return head + bytes(size - len(head) - 2) + b"\xff\xd9"


def message(opcode: int, payload: bytes) -> bytes:
    """One masked WebSocket frame."""
    first = bytes([0x80 | opcode])
    if len(payload) < 126:
        return first + bytes([0x80 | len(payload)]) + _MASK + payload
    if len(payload) < 1 << 16:
        return first + b"\xfe" + struct.pack("!H", len(payload)) + _MASK + payload
    return first + b"\xff" + struct.pack("!Q", len(payload)) + _MASK + payload


def measure(port: int, path: str, *, connections: int, size: int, seconds: float) -> Rate:
    """Send frames for a while over several connections, and count what was received.

    Args:
        port: where the server listens on loopback.
        path: the path to open.
        connections: rigs at the same time.
        size: bytes of each frame.
        seconds: how long each rig sends.
    """
    start_line = threading.Barrier(connections + 1)
    counts: list[int] = []

    def run(number: int) -> None:
        with socket.create_connection(("127.0.0.1", port)) as sock:
            counts.append(_capture(sock, path, number, size, seconds, start_line.wait))

    threads = [threading.Thread(target=run, args=(n,)) for n in range(connections)]
    for thread in threads:
        thread.start()
    start_line.wait()
    started = time.perf_counter()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - started
    if len(counts) != connections:
        raise RuntimeError(f"{connections - len(counts)} of {connections} connections failed")
    return Rate(sum(counts), took, size)


def _capture(
    sock: socket.socket,
    path: str,
    number: int,
    size: int,
    seconds: float,
    ready: Callable[[], object],
) -> int:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(
        f"GET {path} HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        "Sec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    replies = sock.makefile("rb")
    while replies.readline().strip():
        pass
    now = Timestamp.from_ns(time.time_ns()).text
    ids = (f"{number:08x}-0000-4000-8000-{n:012x}" for n in count())
    header = {
        "schema_version": SCHEMA_VERSION,
        "user_id": "bench",
        "capture_id": f"bench-{os.getpid()}-{number}-{time.monotonic_ns()}",
        "timestamp": now,
    }
    opened = header | {
        "event": "capture.open",
        "record_id": next(ids),
        "session_id": "bench",
        "timestamp_start": now,
        "fps_target": 1,
        "width": 640,
        "height": 480,
        "encoding": "jpeg",
    }
    sock.sendall(message(1, json.dumps(opened).encode()))
    data = message(2, picture(size))
    metas = _metas(header, now, size, ids)
    ready()
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        _send_all(sock, [part for _ in range(BATCH) for part in (next(metas), data)])
    closed = header | {"event": "capture.close", "record_id": next(ids), "timestamp_end": now}
    sock.sendall(message(1, json.dumps(closed).encode()))
    return _receipt(replies)


def _metas(
    header: Mapping[str, object], now: str, size: int, ids: Iterator[str]
) -> Iterator[bytes]:
    fields = {
        **header,
        "event": "capture.frame_meta",
        "record_id": "%s",
        "session_id": "bench",
        "seq": -1,
        "timestamp_frame": now,
        "byte_length": size,
    }
    template = json.dumps(fields).replace('"seq": -1', '"seq": %d')
    for seq in count(1):
        yield message(1, (template % (next(ids), seq)).encode())


def _send_all(sock: socket.socket, parts: list[bytes]) -> None:
    views = [memoryview(part) for part in parts]
    while views:
        sent = sock.sendmsg(views)
        while views and sent >= len(views[0]):
            sent -= len(views[0])
            del views[0]
        if views:
            views[0] = views[0][sent:]


def _receipt(replies: object) -> int:
    """The frames that the server's close frame says it took."""
    first = _PING
    while first == _PING:  # left unanswered; nobody waits for it
        first, length = replies.read(2)  # type: ignore[attr-defined]
        payload = replies.read(length)  # type: ignore[attr-defined]
    if first != 0x88:
        raise RuntimeError(f"the server aborted: {payload[:200]!r}")
    frames: int = json.loads(payload[2:])["frames"]
    return frames

"""The path of a frame through the worker, for counting what it costs.

`python -m tests.guards.hot_path WAY SIZE FRAMES TURNS` takes a capture of FRAMES frames of SIZE
bytes and turns the reference loop TURNS times, for a tool that counts instructions. WAY is
`many`, for frames that come together and from memory, or `lone`, for frames that come over a
socket, each when the worker has nothing else to do; with `-said` behind it, the rig says all
that and nobody hears it.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Iterator
from types import FrameType

import structlog
import trio

from cfw.bench.frames import BINARY, CLOSE, TEXT, message, picture
from cfw.bench.peers.checks import LIMITS
from cfw.limits import Times
from cfw.routes import PATH, Router
from cfw.routes.registry import Registry
from cfw.sessions import open_authority
from cfw.sinks.null import NullSink
from schemas import SCHEMA_VERSION, Timestamp
from tests.profiled import Profiled

#: What one read brings; as much as the worker asks a socket for.
READ_BYTES = 192 * 1024
_REQUEST = (
    f"GET {PATH} HTTP/1.1\r\nHost: worker\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
).encode()


class Conversation(trio.abc.Stream):
    """A rig that has said everything already, and hears nothing."""

    def __init__(self, size: int, frames: int) -> None:
        said = b"".join(_words(size, frames))
        parts = [bytes(said[at : at + READ_BYTES]) for at in range(0, len(said), READ_BYTES)]
        self._reads = [_REQUEST, *parts]
        self._reads.reverse()
        self.heard = b""

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        return self._reads.pop() if self._reads else b""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        self.heard += data

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


def _words(size: int, frames: int) -> Iterator[bytes]:
    """What a rig says: its opening, each frame, its end."""
    now = Timestamp.from_ns(time.time_ns()).text
    picture_size = {"width": 640, "height": 480}
    opening = {"timestamp_start": now, "fps_target": 15, "encoding": "jpeg", **picture_size}
    yield _control("capture.open", 0, now, **opening)
    data = message(BINARY, picture(size))
    for seq in range(1, frames + 1):
        fields = {"seq": seq, "timestamp_frame": now, "byte_length": size}
        yield _control("capture.frame_meta", seq, now, **fields) + data
    closing = _control("capture.close", frames + 1, now, timestamp_end=now)
    yield closing + message(CLOSE, b"\x03\xe8")


class _PatientRig(trio.abc.Instrument):
    """A rig that sends its next frame whenever the worker is about to sleep.

    So each frame wakes the worker, as that of a camera does, and nothing else runs beside it.
    """

    def __init__(self, sock: socket.socket, size: int, frames: int, sink: NullSink) -> None:
        self._sock = sock
        self._words = _words(size, frames)
        self._sink = sink
        self._sent = -1
        self._frames = frames
        sock.sendall(_REQUEST + next(self._words))

    def before_io_wait(self, timeout: float) -> None:
        if self._sink.captures and self._sink.frames > self._sent:
            self._sent = self._sink.frames
            self._sock.sendall(next(self._words, b""))


def _control(event: str, number: int, now: str, **fields: object) -> bytes:
    header = {
        "event": event,
        "schema_version": SCHEMA_VERSION,
        "record_id": f"00000000-0000-4000-8000-{number:012x}",
        "user_id": "ada",
        "session_id": "s-1",
        "capture_id": "cap-1",
        "timestamp": now,
    }
    return message(TEXT, json.dumps(header | fields).encode())


def take(size: int, frames: int) -> None:
    """Take a capture through the whole worker: wire, core, forwarder, `null:`.

    Raises:
        AssertionError: not all of it was taken.
    """
    said = Conversation(size, frames)
    sink = NullSink()
    trio.run(_serve, said, sink)
    assert sink.frames == frames
    assert b'{"frames":%d,' % frames in said.heard, said.heard


def take_lone(size: int, frames: int) -> None:
    """The same over a socket, frame by frame.

    Raises:
        AssertionError: not all of it was taken.
    """
    sink = NullSink()

    async def main() -> None:
        rig, worker = _connection()
        with rig:
            instrument = _PatientRig(rig, size, frames, sink)
            trio.lowlevel.add_instrument(instrument)
            await _serve(trio.SocketStream(trio.socket.from_stdlib_socket(worker)), sink)
            trio.lowlevel.remove_instrument(instrument)

    trio.run(main)
    assert sink.frames == frames


def say(size: int, frames: int) -> None:
    """What the rig of `take` costs, which is no part of what a frame costs the worker."""
    Conversation(size, frames)


def say_lone(size: int, frames: int) -> None:
    """The same for the rig of `take_lone`."""
    for _ in _words(size, frames):
        pass


async def _serve(stream: trio.abc.Stream, sink: NullSink) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    async with open_authority("allow:") as authority:
        router = Router(
            limits=LIMITS,
            times=Times(session_recheck_s=3600, idle_s=3600, meta_to_bytes_s=3600),
            sink=sink,
            authority=authority,
            registry=Registry(LIMITS),
        )
        await router.handle(stream)


def _connection() -> tuple[socket.socket, socket.socket]:
    """Both ends of a TCP connection that takes a frame at once."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        rig = socket.socket()
        rig.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        rig.connect(listener.getsockname())
        worker, _ = listener.accept()
    worker.setblocking(False)
    return rig, worker


def calls(size: int, frames: int) -> int:
    """How many functions, of Python and of C, a capture calls."""
    count = 0

    def see(_: FrameType, event: str) -> None:
        nonlocal count
        if event in ("call", "c_call"):
            count += 1

    with Profiled(see):
        take(size, frames)
    return count


def refer(turns: int) -> int:
    """Work that never changes: one turn is what a simple server does with metadata."""
    total = 0
    text = json.dumps({"event": "capture.frame_meta", "seq": 1, "byte_length": 30_000})
    for turn in range(turns):
        fields = json.loads(text)
        kept = {name: str(value) for name, value in fields.items()}
        total += len(kept["event"]) + int(kept["seq"]) + turn
    return total


if __name__ == "__main__":
    ways = {"many": take, "many-said": say, "lone": take_lone, "lone-said": say_lone}
    ways[sys.argv[1]](int(sys.argv[2]), int(sys.argv[3]))
    refer(int(sys.argv[4]))

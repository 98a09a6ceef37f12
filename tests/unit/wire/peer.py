"""The far end of a connection, by hand: frames built byte by byte, and what came back."""

import re
import struct
from typing import Any

import attrs
import trio
import trio.testing

from cfw.wire import accept

PATH = "/camera_feed_worker/capture"
MASK = b"\x12\x9f\x56\xe8"

REQUEST = (
    f"GET {PATH} HTTP/1.1\r\nHost: worker\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
).encode()

SETTINGS: dict[str, Any] = {
    "path": PATH,
    "max_text_bytes": 1000,
    "max_binary_bytes": 100_000,
    "handshake_s": 10,
    "keepalive_s": 20,
    "keepalive_timeout_s": 15,
    "message_s": 60,
}


def mask(payload: bytes, key: bytes = MASK) -> bytes:
    """Mask by the definition, not by the routine under test."""
    return bytes(byte ^ key[at % 4] for at, byte in enumerate(payload))


def frame(first: int, payload: bytes = b"", *, key: bytes = MASK) -> bytes:
    """Build a masked frame whose first byte is `first`, with a minimal length."""
    return header(first, len(payload)) + key + mask(payload, key)


def header(first: int, length: int) -> bytes:
    """Build the header of a masked frame, up to its mask."""
    if length < 126:
        return bytes([first, 0x80 | length])
    if length < 1 << 16:
        return bytes([first, 0xFE]) + struct.pack("!H", length)
    return bytes([first, 0xFF]) + struct.pack("!Q", length)


def text(words: str) -> bytes:
    """Build a text message in one frame."""
    return frame(0x81, words.encode())


def binary(payload: bytes) -> bytes:
    """Build a binary message in one frame."""
    return frame(0x82, payload)


def close(code: int | None = None, reason: bytes = b"") -> bytes:
    """Build a close frame."""
    return frame(0x88, b"" if code is None else struct.pack("!H", code) + reason)


def ping(payload: bytes = b"") -> bytes:
    """Build a ping."""
    return frame(0x89, payload)


def split_frames(data: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """Take a server's bytes apart into (first byte, payload), and what is left of them."""
    frames = []
    while len(data) > 1:
        length, start = data[1], 2
        assert length < 127, "a server frame is masked or longer than these tests send"
        if length == 126:
            if len(data) < 4:
                break
            length, start = struct.unpack("!H", data[2:4])[0], 4
        if len(data) < start + length:
            break
        frames.append((data[0], data[start : start + length]))
        data = data[start + length :]
    return frames, data


def parse_frames(data: bytes) -> list[tuple[int, bytes]]:
    """Take a server's bytes apart into (first byte, payload)."""
    frames, rest = split_frames(data)
    assert not rest, f"a part of a frame came last: {rest!r}"
    return frames


@attrs.define
class Peer:
    """A client that does only what it is told, over one half of a memory stream pair."""

    stream: Any
    received: bytearray = attrs.Factory(bytearray)

    async def send(self, *parts: bytes) -> None:
        await self.stream.send_all(b"".join(parts))

    async def read_until(self, end: bytes) -> bytes:
        """Read until `end` has come; return everything up to and with it."""
        while end not in self.received:
            data = await self.stream.receive_some()
            assert data, f"the server ended after {bytes(self.received)!r}"
            self.received += data
        head, _, rest = bytes(self.received).partition(end)
        self.received[:] = rest
        return head + end

    async def open(self) -> None:
        """Do the opening handshake."""
        await self.send(REQUEST)
        head = await self.read_until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head

    async def read_frames(self) -> list[tuple[int, bytes]]:
        """Read to the end of the server's bytes."""
        return parse_frames(await self.read_rest())

    async def read_rest(self) -> bytes:
        while data := await self.stream.receive_some():
            self.received += data
        data = bytes(self.received)
        self.received.clear()
        return data

    async def read_answer(self) -> tuple[int, str]:
        """Read an HTTP answer to its end; return its status and body."""
        head, _, body = (await self.read_rest()).partition(b"\r\n\r\n")
        match = re.match(rb"HTTP/1\.1 (\d{3}) ", head)
        assert match, head
        return int(match[1]), body.decode()


def pair() -> tuple[trio.StapledStream[Any, Any], Peer]:
    """Return a server's transport and the peer at its other end."""
    ours, theirs = trio.testing.memory_stream_pair()
    return ours, Peer(theirs)


async def tcp_pair() -> tuple[trio.SocketStream, Peer]:
    """The same over a real connection on loopback."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        theirs = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
        return await listener.accept(), Peer(theirs)


def serve(transport: trio.abc.Stream, **changes: Any) -> Any:
    """Call `accept` with the settings of these tests."""
    return accept(transport, **{**SETTINGS, **changes})

"""Videos with times that are known, and an RTSP server that plays one: made here, with PyAV."""

from __future__ import annotations

import base64
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from PIL import Image

#: Of RTP for video (RFC 6184).
CLOCK = 90_000
_MOST_RTP_BYTES = 1_200
#: Times begin anywhere, and here they come to the end of their 32 bits after half a second.
_FIRST_STAMP = 2**32 - CLOCK // 2


#: PyAV; a module that uses this one is skipped as a whole without it, and says so.
av: Any = pytest.importorskip("av", reason="needs PyAV: the extra av")
for _codec in ("libx264", "libvpx", "mjpeg"):
    if _codec not in av.codec.codecs_available:
        pytest.skip(f"this PyAV has no encoder {_codec}", allow_module_level=True)


def make_film(
    path: Path,
    times: Sequence[int],
    *,
    codec: str = "libx264",
    time_base: Fraction = Fraction(1, CLOCK),
    size: tuple[int, int] = (64, 48),
    rate: int = 15,
) -> Path:
    """Write a video whose frames have these times, in units of its time base."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.time_base = time_base
        stream.time_base = time_base
        if codec == "libx264":
            stream.options = {"bf": "0", "tune": "zerolatency", "g": "5"}
        for number, pts in enumerate(times):
            shade = 40 + number * 7 % 200
            picture = Image.new("RGB", size, (shade, 255 - shade, 128))
            frame = av.VideoFrame.from_image(picture)
            frame.pts, frame.time_base = pts, time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def times_of(path: Path) -> list[Fraction]:
    """Seconds of each frame from the first on, as PyAV reads them."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        pts = sorted(p.pts for p in container.demux(stream) if p.pts is not None and p.size)
        return [(each - pts[0]) * stream.time_base for each in pts]


# --- RTSP ---------------------------------------------------------------------------------


@attrs.define
class Played:
    """What a server plays: H.264 in the form of MP4."""

    parameters: list[bytes]
    packets: list[tuple[int, bytes]]

    @classmethod
    def of(cls, path: Path) -> Played:
        """Read a film made by `make_film`."""
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            extra = bytes(stream.codec_context.extradata)
            packets = [
                (int(p.pts * p.time_base * CLOCK), bytes(p))
                for p in container.demux(stream)
                if p.size
            ]
        return cls(_parameters(extra), packets)

    def rtp(self, skip: Sequence[int] = ()) -> list[tuple[int, list[bytes]]]:
        """Packets of RTP for each frame, and its time; those of some numbers are left out."""
        sequence, frames = 0, []
        for number, (at, data) in enumerate(self.packets):
            if number in skip:
                continue
            pieces = [piece for unit in _units(data) for piece in _payloads(unit)]
            packets = []
            for index, piece in enumerate(pieces):
                marker = 0x80 if index == len(pieces) - 1 else 0
                stamp = (at + _FIRST_STAMP) % 2**32
                head = struct.pack("!BBHII", 0x80, 96 | marker, sequence % 65536, stamp, 7)
                packets.append(head + piece)
                sequence += 1
            frames.append((at, packets))
        return frames


def _parameters(extra: bytes) -> list[bytes]:
    """SPS and PPS of an avcC box."""
    found, at = [], 6
    for mask, place in ((0x1F, 5), (0xFF, None)):
        count = extra[at if place is None else place] & mask
        at += place is None
        for _ in range(count):
            (length,) = struct.unpack_from("!H", extra, at)
            found.append(extra[at + 2 : at + 2 + length])
            at += 2 + length
    return found


def _units(data: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(data):
        (length,) = struct.unpack_from("!I", data, at)
        found.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    return found


def _payloads(unit: bytes) -> list[bytes]:
    """One, or the fragments FU-A of RFC 6184, 5.8."""
    if len(unit) <= _MOST_RTP_BYTES:
        return [unit]
    indicator, kind, rest = unit[0] & 0xE0 | 28, unit[0] & 0x1F, unit[1:]
    cuts = [rest[i : i + _MOST_RTP_BYTES] for i in range(0, len(rest), _MOST_RTP_BYTES)]
    last = len(cuts) - 1
    return [
        bytes([indicator, (0x80 if i == 0 else 0) | (0x40 if i == last else 0) | kind]) + cut
        for i, cut in enumerate(cuts)
    ]


@attrs.define(eq=False)
class RtspServer:
    """Plays a film once to everyone who asks, at its own pace; `url` is where.

    Args:
        film: what it plays.
        skip: numbers of frames that it loses.
        stalls_after: frames behind which it says nothing more; None to play to the end.
    """

    film: Played
    skip: Sequence[int] = ()
    stalls_after: int | None = None
    url: str = ""
    asked: list[str] = attrs.field(factory=list)
    connections: int = 0

    async def serve(self, stream: trio.SocketStream) -> None:
        """Answer one client."""
        self.connections += 1
        try:
            buffer = b""
            async with trio.open_nursery() as nursery:
                async for data in stream:
                    buffer += data
                    while b"\r\n\r\n" in buffer and not buffer.startswith(b"$"):
                        head, _, buffer = buffer.partition(b"\r\n\r\n")
                        if await self._answer(stream, head.decode()):
                            nursery.start_soon(self._play, stream, nursery)
                nursery.cancel_scope.cancel()
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            self.connections -= 1

    async def _answer(self, stream: trio.SocketStream, head: str) -> bool:
        lines = head.split("\r\n")
        method = lines[0].split(" ")[0]
        fields = dict(line.split(": ", 1) for line in lines[1:])
        self.asked.append(method)
        more, body = [], ""
        if method == "OPTIONS":
            more = ["Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN"]
        elif method == "DESCRIBE":
            body = self._sdp()
            more = ["Content-Type: application/sdp", f"Content-Base: {self.url}/"]
        elif method == "SETUP":
            more = ["Transport: RTP/AVP/TCP;unicast;interleaved=0-1", "Session: 1"]
        elif method == "PLAY":
            more = ["Session: 1", "Range: npt=0.000-"]
        answer = ["RTSP/1.0 200 OK", f"CSeq: {fields['CSeq']}", *more]
        answer += [f"Content-Length: {len(body)}"] if body else []
        await stream.send_all(("\r\n".join(answer) + "\r\n\r\n" + body).encode())
        return method == "PLAY"

    def _sdp(self) -> str:
        sets = ",".join(base64.b64encode(each).decode() for each in self.film.parameters)
        profile = self.film.parameters[0][1:4].hex()
        return (
            "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=film\r\nt=0 0\r\n"
            f"m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/{CLOCK}\r\na=control:track1\r\n"
            f"a=fmtp:96 packetization-mode=1;profile-level-id={profile};"
            f"sprop-parameter-sets={sets}\r\n"
        )

    async def _play(self, stream: trio.SocketStream, nursery: trio.Nursery) -> None:
        started = trio.current_time()
        for number, (at, packets) in enumerate(self.film.rtp(self.skip)):
            if number == self.stalls_after:
                await trio.sleep_forever()
            await trio.sleep_until(started + at / CLOCK)
            for packet in packets:
                await stream.send_all(b"$\x00" + struct.pack("!H", len(packet)) + packet)
        # RTCP's BYE, behind the receiver report that it has to begin with.
        goodbye = struct.pack("!BBHI", 0x80, 201, 1, 7) + struct.pack("!BBHI", 0x81, 203, 1, 7)
        await stream.send_all(b"$\x01" + struct.pack("!H", len(goodbye)) + goodbye)
        await stream.send_eof()
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def rtsp_server(film: Path, **how: Any) -> AsyncIterator[RtspServer]:
    """Serve on loopback."""
    server = RtspServer(Played.of(film), **how)
    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_tcp, server.serve, 0, host="127.0.0.1")
        listeners = await nursery.start(serve)
        port = listeners[0].socket.getsockname()[1]
        server.url = f"rtsp://127.0.0.1:{port}/cam"
        yield server
        nursery.cancel_scope.cancel()

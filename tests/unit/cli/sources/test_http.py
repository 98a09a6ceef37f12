"""MJPEG over HTTP: what cameras send, ask for and do wrong, on a virtual clock or a socket."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import attrs
import httpx
import pytest
import trio
from trio.testing import MockClock

from cfw.cli.left_out import LeftOut
from cfw.cli.mjpeg import SourceError
from cfw.cli.sources import Fit, open_source
from cfw.cli.sources._http import CameraAuth, HttpSource
from cfw.cli.sources._source import Reading, Shot
from cfw.jpeg import probe
from tests.patience import PATIENCE_S
from tests.pictures import draw

IMAGES = [draw(24, 16, seed=seed) for seed in range(8)]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace;boundary=X\r\n\r\n"


def part(image: bytes, stamp: str | None = None) -> bytes:
    """As the camera server of the ESP32 writes it."""
    time = f"X-Timestamp: {stamp}\r\n" if stamp else ""
    head = f"\r\n--X\r\nContent-Type: image/jpeg\r\nContent-Length: {len(image)}\r\n{time}\r\n"
    return head.encode() + image


# --- a stream that is scripted, on a virtual clock ----------------------------------------


class Script(httpx.AsyncBaseTransport):
    """Answers with chunks, each after so many seconds."""

    def __init__(self, *chunks: tuple[float, bytes], then_hangs: bool = False) -> None:
        self._chunks = chunks
        self._then_hangs = then_hangs

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=self._Body(self), request=request)

    class _Body(httpx.AsyncByteStream):
        def __init__(self, script: Script) -> None:
            self._script = script

        async def __aiter__(self) -> AsyncIterator[bytes]:
            for seconds, chunk in self._script._chunks:
                await trio.sleep(seconds)
                yield chunk
            if self._script._then_hangs:
                await trio.sleep_forever()


@asynccontextmanager
async def scripted(
    script: Script, left_out: LeftOut | None = None, **fit: int
) -> AsyncIterator[HttpSource]:
    counts = LeftOut() if left_out is None else left_out
    source = HttpSource(
        "http://cam/", "http://cam/", Reading(10**6, counts, Fit(**fit)), script
    )
    try:
        yield source
    finally:
        await source.aclose()


async def shots_of(source: HttpSource) -> list[Shot]:
    found = []
    while (shot := await source.next_frame()) is not None:
        found.append(shot)
    return found


async def test_images_go_on_to_the_byte(autojump_clock: MockClock) -> None:
    """They are not decoded, and it is told what it is."""
    whole = b"".join(map(part, IMAGES))
    pieces = [(0.0, whole[at : at + 700]) for at in range(0, len(whole), 700)]
    async with scripted(Script(*pieces)) as source:
        assert [shot.jpeg for shot in await shots_of(source)] == IMAGES
        assert source.about == "http://cam/: mjpeg 24x16, sent as it is"


@pytest.mark.parametrize("size", [1, 7, 64, 65, 100_000])
async def test_each_image_has_the_time_before_it(autojump_clock: MockClock, size: int) -> None:
    """However the stream is cut: the camera's intervals are those of the event times."""
    stamps = ["12.000001", "12.1", "12.25", "12.25", "13", "13.000000001", "13.5", "13.9"]
    whole = b"".join(map(part, IMAGES, stamps))
    pieces = [(0.0, whole[at : at + size]) for at in range(0, len(whole), size)]
    async with scripted(Script(*pieces)) as source:
        taken = [shot.taken_ns or 0 for shot in await shots_of(source)]
    since = [12_000_001_000, 12_100_000_000, 12_250_000_000, 12_250_000_000]
    since += [13_000_000_000, 13_000_000_001, 13_500_000_000, 13_900_000_000]
    assert [at - taken[0] for at in taken] == [ns - since[0] for ns in since]


async def test_lost_frames_are_seen_in_the_camera_s_times(autojump_clock: MockClock) -> None:
    """Two are missing behind the sixth."""
    left_out = LeftOut()
    stamps = ["1.0", "1.1", "1.2", "1.3", "1.4", "1.5", "1.8", "1.9"]
    chunks = [(0.1, part(image, stamp)) for image, stamp in zip(IMAGES, stamps, strict=True)]
    async with scripted(Script(*chunks), left_out) as source:
        await shots_of(source)
    assert left_out.counts() == {"dropped_frames": 2}
    assert "2 frames; the first: http://cam/, before frame 7" in left_out.sentences()[0]


async def test_an_image_that_is_too_large_is_scaled(autojump_clock: MockClock) -> None:
    """And told; PyAV is not asked for it."""
    async with scripted(Script((0, part(IMAGES[0]))), max_width=12) as source:
        (shot,) = await shots_of(source)
        assert probe(shot.jpeg) == (12, 8)
        assert source.about == "http://cam/: mjpeg 24x16, scaled to 12x8"


async def test_a_camera_that_stalls_is_told(autojump_clock: MockClock) -> None:
    """What it sent is given out; then ten seconds pass, on the clock, and no more."""
    async with scripted(Script((0, part(IMAGES[0])), then_hangs=True)) as source:
        shot = await source.next_frame()
        assert shot is not None
        with pytest.raises(SourceError, match="the camera stalls: nothing within 10 s"):
            await source.next_frame()
        assert trio.current_time() == 10


async def test_damage_is_counted_and_the_next_image_sent(autojump_clock: MockClock) -> None:
    """As in files."""
    left_out = LeftOut()
    broken = part(IMAGES[1][:-30])
    script = Script((0, part(IMAGES[0]) + broken + part(IMAGES[2])))
    async with scripted(script, left_out) as source:
        assert [shot.jpeg for shot in await shots_of(source)] == [IMAGES[0], IMAGES[2]]
    assert left_out.damaged_images == 1


async def test_what_is_no_stream_of_jpegs_says_so(autojump_clock: MockClock) -> None:
    """Not endlessly, and not as an empty capture."""
    for script in (Script((0, b"\x1aE\xdf\xa3" + bytes(900))), Script((0, b""))):
        async with scripted(script) as source:
            with pytest.raises(SourceError, match=r"no JPEG image|no image"):
                await source.next_frame()


# --- cameras on a socket ------------------------------------------------------------------


@attrs.define
class Camera:
    """An HTTP server that records what it is asked, and answers as a test says."""

    url: str
    asked: list[bytes] = attrs.field(factory=list)


@asynccontextmanager
async def camera(answer: Callable[[bytes], bytes | None]) -> AsyncIterator[Camera]:
    """Serve on loopback; None as an answer says nothing for good."""
    seen: list[bytes] = []

    async def serve(stream: trio.SocketStream) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            if not (more := await stream.receive_some()):
                return
            head += more
        seen.append(head)
        said = answer(head)
        if said is None:
            await trio.sleep_forever()
        else:
            await stream.send_all(said)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        port = listeners[0].socket.getsockname()[1]
        yield Camera(f"http://127.0.0.1:{port}", seen)
        nursery.cancel_scope.cancel()


async def read(url: str) -> list[bytes]:
    source = open_source(url)
    try:
        with trio.fail_after(PATIENCE_S):
            found = []
            while (shot := await source.next_frame()) is not None:
                found.append(shot.jpeg)
            return found
    finally:
        await source.aclose()


def refusal(status: str, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", "Content-Length: 0", "Connection: close", *headers, "", ""]
    return "\r\n".join(lines).encode()


async def test_a_camera_is_read_to_its_end() -> None:
    """One that has no length and just closes has ended, with what it sent."""
    async with camera(lambda _: HEAD + b"".join(map(part, IMAGES))) as cam:
        assert await read(cam.url + "/stream") == IMAGES
    assert cam.asked[0].startswith(b"GET /stream HTTP/1.1\r\n")
    assert b"authorization" not in cam.asked[0].lower()


async def test_a_stream_that_is_cut_is_no_end() -> None:
    """Where the camera said how long it would be."""
    head = HEAD.replace(b"\r\n\r\n", b"\r\nContent-Length: 100000\r\n\r\n")
    async with camera(lambda _: head + part(IMAGES[0])) as cam:
        source = open_source(cam.url)
        with trio.fail_after(PATIENCE_S):
            assert await source.next_frame() is not None
            with pytest.raises(SourceError, match="is no HTTP, or was cut short"):
                await source.next_frame()
        await source.aclose()


async def test_user_and_password_are_given_when_they_are_asked_for() -> None:
    """In the way that the camera asks for; not before, and never in a message."""

    def basic(head: bytes) -> bytes:
        if base64.b64encode(b"ada:p@ss") in head:
            return HEAD + part(IMAGES[0])
        return refusal("401 Unauthorized", 'WWW-Authenticate: Basic realm="cam"')

    async with camera(basic) as cam:
        url = cam.url.replace("http://", "http://ada:p%40ss@")
        assert await read(url) == [IMAGES[0]]
        assert [b"authorization: basic" in head.lower() for head in cam.asked] == [False, True]
        with pytest.raises(SourceError, match="neither this user nor this password") as caught:
            await read(cam.url.replace("http://", "http://ada:secret@"))
        assert "secret" not in str(caught.value)
        assert "ada" not in str(caught.value)
        with pytest.raises(SourceError, match="wants a user and a password: http://USER:PASS"):
            await read(cam.url)


async def test_digest_is_preferred_to_basic() -> None:
    """The password itself stays here."""
    challenge = 'WWW-Authenticate: Digest realm="cam", nonce="abc", qop="auth"'

    def digest(head: bytes) -> bytes:
        if b"response=" in head:
            return HEAD + part(IMAGES[0])
        basic = 'WWW-Authenticate: Basic realm="cam"'
        return refusal("401 Unauthorized", basic, challenge)

    async with camera(digest) as cam:
        assert await read(cam.url.replace("http://", "http://ada:secret@")) == [IMAGES[0]]
    last = cam.asked[-1].lower()
    assert b"authorization: digest" in last
    assert b"secret" not in last
    assert base64.b64encode(b"ada:secret").lower() not in last


async def test_a_way_to_ask_that_nobody_knows_is_told() -> None:
    """By its name."""
    bearer = refusal("401 Unauthorized", "WWW-Authenticate: Bearer")
    async with camera(lambda _: bearer) as cam:
        with pytest.raises(SourceError, match="wants bearer; basic and digest are known"):
            await read(cam.url.replace("http://", "http://ada:secret@"))


async def test_redirects_are_followed_a_few_times() -> None:
    """To the stream; round in a circle is refused, and so is another protocol."""

    def moved(head: bytes) -> bytes:
        place = head.split(b" ")[1].decode()
        if place == "/stream":
            return HEAD + part(IMAGES[0])
        target = {"/": "/stream", "/ftp": "ftp://cam/"}.get(place, place)
        return refusal("302 Found", f"Location: {target}")

    async with camera(moved) as cam:
        assert await read(cam.url + "/") == [IMAGES[0]]
        with pytest.raises(SourceError, match="more than 5 times"):
            await read(cam.url + "/circle")
        with pytest.raises(SourceError, match="no http:// or https://"):
            await read(cam.url + "/ftp")


async def test_a_password_is_not_told_to_another_camera() -> None:
    """A redirect to another host takes it nowhere."""
    asking = refusal("401 Unauthorized", 'WWW-Authenticate: Basic realm="x"')
    async with camera(lambda _: asking) as other:

        def moved(head: bytes) -> bytes:
            return refusal("302 Found", f"Location: {other.url}/stream")

        async with camera(moved) as cam:
            with pytest.raises(SourceError, match="neither this user"):
                await read(cam.url.replace("http://127.0.0.1", "http://ada:secret@localhost"))
        assert other.asked
        assert not any(b"authorization" in head.lower() for head in other.asked)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (refusal("404 Not Found"), "HTTP status 404"),
        (refusal("503 Busy"), "HTTP status 503"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>", "text/html, which is no"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\n\r\n", "video/mp4, which is no MJPEG"),
        (b"RTSP/1.0 200 OK\r\n\r\n", "is no HTTP"),
        (b"\x00\x01\x02" * 50 + b"\r\n\r\n", "is no HTTP"),
        (b"", "is no HTTP, or was cut short"),
    ],
    ids=range(7),
)
async def test_other_answers_are_told(answer: bytes, told: str) -> None:
    """In words of our own, with what would be right where there is something."""
    async with camera(lambda _: answer) as cam:
        with pytest.raises(SourceError, match=told):
            await read(cam.url)


async def test_a_camera_that_says_nothing_is_left_at_once() -> None:
    """Cancelled while it is silent, nothing is waited for."""
    async with camera(lambda _: None) as cam:
        source = open_source(cam.url)
        began = trio.current_time()
        with trio.move_on_after(0.2) as scope:
            await source.next_frame()
        await source.aclose()
        assert scope.cancelled_caught
        assert trio.current_time() - began < 30


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://", "malformed"),
        ("http://:80/", "malformed"),
        ("http://host:99999/", "malformed"),
        ("http://[::1/", "malformed"),
        ("ftp://ada:secret@host/x", "ftp:// is none; accepted"),
    ],
)
def test_a_wrong_url_is_refused_at_once(url: str, told: str) -> None:
    """With what is accepted, and without the password."""
    with pytest.raises(SourceError, match=told) as caught:
        open_source(url)
    assert "secret" not in str(caught.value)


def test_without_a_user_nothing_is_sent_again() -> None:
    """The camera's refusal is the answer."""
    flow = CameraAuth("", "").auth_flow(httpx.Request("GET", "http://cam/"))
    next(flow)
    with pytest.raises(StopIteration):
        flow.send(httpx.Response(401, headers={"www-authenticate": "Basic"}))

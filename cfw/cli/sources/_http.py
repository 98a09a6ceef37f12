"""MJPEG over HTTP, as IP cameras and ESP32 boards send it; PyAV is not needed."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import suppress

import httpx
import trio

from cfw.cli.mjpeg import MjpegSplitter, SourceError
from cfw.cli.sources._clock import DeviceClock, GapCounter
from cfw.cli.sources._fit import Fitter, Thinner
from cfw.cli.sources._source import Reading, Shot
from cfw.printable import printable

_CONNECT_S = 10.0
_CLOSE_S = 1.0
_MOST_REDIRECTS = 5
_NS = 1_000_000_000
#: Seconds, with a fraction: of the ESP32's camera server and of mjpg-streamer.
_TIMESTAMP = re.compile(
    rb"(?i:\nx-timestamp):[ \t]*([0-9]{1,12})(?:\.([0-9]{1,9}))?[ \t]*\r?\n"
)
_MOST_TIMESTAMP_BYTES = 64


class HttpSource:
    """The frames of one stream.

    Args:
        url: with user and password, if the camera wants them.
        name: the same without.
        reading: what all sources have in common.
        transport: in place of the network; None for it.
    """

    is_live = True
    fps = None

    def __init__(
        self,
        url: str,
        name: str,
        reading: Reading,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.name = name
        self.about: str | None = None
        self._url = httpx.URL(url)
        self._left_out = reading.left_out
        self._stall_s = reading.stall_s
        self._client = httpx.AsyncClient(
            transport=transport,
            timeout=httpx.Timeout(reading.stall_s, connect=_CONNECT_S),
            follow_redirects=True,
            max_redirects=_MOST_REDIRECTS,
            # A camera is in reach itself, and its password is nothing for a file of others.
            trust_env=False,
        )
        self._fitter = Fitter(
            name,
            reading.fit,
            max_frame_bytes=reading.max_frame_bytes,
            left_out=reading.left_out,
        )
        self._parts = _Parts(
            MjpegSplitter(
                max_frame_bytes=reading.max_frame_bytes, name=name, left_out=reading.left_out
            )
        )
        self._response: httpx.Response | None = None
        self._chunks: AsyncIterator[bytes] | None = None
        self._ready: deque[tuple[bytes, int | None, int]] = deque()
        self._clock = DeviceClock(time.time_ns() - time.monotonic_ns())
        self._gaps = GapCounter()
        self._thinner = Thinner(None, reading.fit.max_fps)
        self._frames = 0
        self._ended = False

    async def next_frame(self) -> Shot | None:
        await trio.lowlevel.checkpoint()
        while True:
            while not self._ended and not (self._ready and self._clock.is_settled):
                await self._receive()
            if not self._ready:
                return None
            jpeg, at_ns, arrived_ns = self._ready.popleft()
            if (shot := await self._shot(jpeg, at_ns, arrived_ns)) is not None:
                return shot

    async def _shot(self, jpeg: bytes, at_ns: int | None, arrived_ns: int) -> Shot | None:
        missing = self._gaps.missing_before(at_ns)
        self._left_out.add_dropped(missing, f"{self.name}, before frame {self._frames + 1}")
        if not self._thinner.takes(arrived_ns if at_ns is None else at_ns):
            self._left_out.skipped_frames += 1
            return None
        # Milliseconds where it has to be scaled: a cancelled call waits for it.
        fitting = await trio.to_thread.run_sync(self._fitter.image, jpeg)
        if fitting is None:
            return None
        self._frames += 1
        taken = self._clock.taken(at_ns, arrived_ns)
        self._left_out.clock_jumps += self._clock.pop_jumps()
        if self.about is None:
            self.about = self._describe()
        return Shot(fitting, taken_ns=taken)

    def _describe(self) -> str:
        (width, height), size = self._fitter.source_size, self._fitter.size
        text = f"{self.name}: mjpeg {width}x{height}"
        is_same = size == (width, height)
        return text + (", sent as it is" if is_same else f", scaled to {size[0]}x{size[1]}")

    async def _receive(self) -> None:
        """Take what has come, or find that there is no more.

        Cancellation: what was read is kept, but httpx closes the stream; the next call says so.
        """
        try:
            with trio.fail_after(self._stall_s if self._chunks else _CONNECT_S + self._stall_s):
                if self._chunks is None:
                    self._chunks = await self._open()
                chunk = await anext(self._chunks, None)
        except (trio.TooSlowError, httpx.TimeoutException):
            what = "the camera stalls: nothing" if self._chunks else "no answer"
            waited = self._stall_s if self._chunks else _CONNECT_S + self._stall_s
            raise SourceError(self.name, None, f"{what} within {waited:g} s") from None
        except (httpx.HTTPError, httpx.StreamError) as exc:
            raise SourceError(self.name, None, _told(exc)) from exc
        now_ns = time.monotonic_ns()
        if chunk is None:
            self._ended = True
            self._clock.settle()
            images = self._parts.finish()
        else:
            images = self._parts.feed(chunk)
        for jpeg, at_ns in images:
            self._clock.hear(at_ns, now_ns)
            if at_ns is None:
                self._clock.settle()
            self._ready.append((jpeg, at_ns, now_ns))

    async def _open(self) -> AsyncIterator[bytes]:
        request = self._client.build_request("GET", self._url.copy_with(userinfo=b""))
        auth = CameraAuth(self._url.username, self._url.password)
        self._response = response = await self._client.send(request, auth=auth, stream=True)
        if response.status_code != 200:
            raise SourceError(self.name, None, _refusal(response, bool(self._url.userinfo)))
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind.startswith(("text/", "video/", "application/vnd.apple")):
            reason = (
                f"it answers with {printable(kind)}, which is no MJPEG; cameras have that at a "
                "path of its own, such as /stream, /video or /mjpg/video.mjpg"
            )
            raise SourceError(self.name, None, reason)
        return response.aiter_raw()

    async def aclose(self) -> None:
        """Close the connection."""
        self._ended = True
        self._ready.clear()
        with trio.move_on_after(_CLOSE_S, shield=True):
            if self._response is not None:
                await self._response.aclose()
            if self._chunks is not None:
                # httpx nests generators, and all of them end well only if the end comes from
                # below, as the next read's error.
                with suppress(httpx.HTTPError, httpx.StreamError):
                    async for _ in self._chunks:
                        pass
            await self._client.aclose()


class _Parts:
    """Images of a stream, each with the time that stands before it.

    Args:
        splitter: takes the stream apart.
    """

    def __init__(self, splitter: MjpegSplitter) -> None:
        self._splitter = splitter
        self._tail = b""  # of what was fed: a header may come in two pieces
        self._at_ns: int | None = None

    def feed(self, data: bytes) -> Iterator[tuple[bytes, int | None]]:
        """The images that are whole now, and their times."""
        text, fed = self._tail + data, len(self._tail)
        for match in _TIMESTAMP.finditer(text):
            if match.end() <= fed:
                continue
            # The image before it is whole by now, the one behind it is not.
            yield from self._images(text[fed : match.end()])
            fed = match.end()
            fraction = (match[2] or b"").ljust(9, b"0")
            self._at_ns = int(match[1]) * _NS + int(fraction)
        yield from self._images(text[fed:])
        self._tail = text[-_MOST_TIMESTAMP_BYTES:]

    def finish(self) -> Iterator[tuple[bytes, int | None]]:
        """What was not whole when the stream ended."""
        for image in self._splitter.finish():
            yield image, self._at_ns

    def _images(self, data: bytes) -> Iterator[tuple[bytes, int | None]]:
        for image in self._splitter.feed(data):
            yield image, self._at_ns


class CameraAuth(httpx.Auth):
    """User and password, in the way that the camera asks for them, once it does.

    Args:
        user: empty where there is none.
        password: to it.
    """

    def __init__(self, user: str, password: str) -> None:
        self._user, self._password = user, password

    def auth_flow(
        self, request: httpx.Request
    ) -> Generator[httpx.Request, httpx.Response, None]:
        response = yield request
        if response.status_code != 401 or not self._user:
            return
        schemes = _schemes(response)
        auth: httpx.Auth
        if "digest" in schemes:
            auth = httpx.DigestAuth(self._user, self._password)
        elif "basic" in schemes:
            auth = httpx.BasicAuth(self._user, self._password)
        else:
            return
        yield from auth.auth_flow(request)


def _schemes(response: httpx.Response) -> set[str]:
    values = response.headers.get_list("www-authenticate")
    return {value.partition(" ")[0].lower() for value in values}


def _refusal(response: httpx.Response, has_password: bool) -> str:
    status = response.status_code
    if status == 401 and not has_password:
        return "it wants a user and a password: http://USER:PASSWORD@HOST/..."
    if status == 401 and not _schemes(response) & {"basic", "digest"}:
        schemes = printable(", ".join(sorted(_schemes(response))))[:100]
        return f"it wants {schemes or 'nothing that is known'}; basic and digest are known here"
    if status == 401:
        return "it takes neither this user nor this password"
    return f"it answers with HTTP status {status}"


def _told(exc: httpx.HTTPError | httpx.StreamError) -> str:
    """In words of our own: httpx may repeat what the camera sent, and the URL."""
    if isinstance(exc, httpx.ConnectError):
        return f"cannot connect: {exc}"
    if isinstance(exc, httpx.TooManyRedirects):
        return f"it leads from one address to the next, more than {_MOST_REDIRECTS} times"
    if isinstance(exc, httpx.UnsupportedProtocol):
        return "it leads to an address that is no http:// or https://"
    if isinstance(exc, httpx.RemoteProtocolError):
        return "what it sends is no HTTP, or was cut short"
    return f"the connection broke ({type(exc).__name__})"

"""One reader of the real admin listener, beside a capture that films: to be cut anywhere.

The sockets are in memory; hub, application, HTTP, feed and listener are the real ones. What
can be fired: `listener` (all of it is cancelled), `stop` (the worker ends), `room` (a newcomer
takes the place of who is quiet), `connection` (this one is cancelled), the reader's `eof`,
`reset`, `hang` (it neither reads nor speaks) and `mute`, and faults of each send and receive.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import attrs
import h11
import pytest
import trio

import cfw.admin.serve as module
from cfw.admin import AdminServer, loopback_only, serve_admin
from cfw.admin._pace import LivePace
from cfw.admin._rounds import packed
from cfw.limits import Limits
from cfw.routes.registry import Registry
from cfw.sinks.hub import Hub
from cfw.testing.bytecuts import stream_pair
from cfw.testing.sweep import World
from schemas import to_json
from tests.sweep.peers import Rig, WatchedStream
from tests.unit.admin.served import make_app
from tests.unit.sinks.items import close, frame, opened
from tests.unit.wire.peer import close as close_frame
from tests.unit.wire.peer import split_frames, text

FAULTS = ("listener", "stop", "room", "connection", "eof", "reset", "hang", "mute", "faults")
#: Any of these may take a connection away in the middle of a word.
CUTS = {"listener", "stop", "room", "connection"}
REACHED = ("held up", "cut short", "turned away", "told in rounds")
GONE = {"eof", "reset", "hang"}

PACE_S = 0.02
PICTURES = [b"\xff\xd8" + bytes([seq]) * 300 + b"\xff\xd9" for seq in (1, 2, 3)]
FRAMES = [frame(seq, data=data) for seq, data in enumerate(PICTURES, 1)]
_PING, _CLOSE = 0x89, 0x88
#: A frame and its message are more than one window.
WINDOW_BYTES = 400
STALL_S, GRACE_S, REQUEST_S = 1.0, 0.5, 0.4
PING_S, PONG_S, NEXT_FRAME_S, FLUSH_S = 0.3, 1.0, 1.0, 2.0
#: What ends a reader who says and takes nothing; a refusal, and its end, take a second more.
PATIENCE_S = REQUEST_S + STALL_S + PING_S + PONG_S + NEXT_FRAME_S + 2 * STALL_S

_HTTP = "HTTP/1.1\r\nHost: localhost\r\n"
_UPGRADE = (
    f"{_HTTP}Connection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
_ASK = text('{"ask": ["cap"], "frames": 9, "every_s": 0.01}')
#: What a reader says, one word each `PACE_S`; nothing is a pause, longer than the capture.
_PAUSE = ("",) * 6
SAID: dict[str, tuple[str | bytes, ...]] = {
    "asks twice": (
        f"GET /info {_HTTP}\r\n",
        f"POST /signin {_HTTP}Connection: close\r\nContent-Length: 4\r\n\r\nto",
        "ld",
    ),
    "latest": ("GET /captures/cap/late", f"st.jpg {_HTTP}Connection: close\r\n\r\n"),
    "stream": ("GET /captures/cap/stre", f"am.mjpg {_HTTP}\r\n"),
    "lossless": ("GET /fe", f"ed {_UPGRADE}", *_PAUSE),
    "live": ("GET /fe", f"ed?mode=live {_UPGRADE}", *_PAUSE),
    # Once there is a capture to ask for.
    "asked": ("GET /fe", f"ed?mode=live&frames=asked {_UPGRADE}", "", _ASK, *_PAUSE),
}
FEEDS = ("lossless", "live", "asked")


class Door(trio.abc.Listener[trio.abc.Stream]):
    """A listening socket, in memory."""

    def __init__(self) -> None:
        self.socket = self
        self.was_closed = False
        self._waiting: list[WatchedStream] = []
        self._knocked = trio.Event()

    def getsockname(self) -> tuple[str, int]:
        return "127.0.0.1", 8766

    def knock(self, stream: WatchedStream) -> None:
        self._waiting.append(stream)
        self._knocked.set()
        if self.was_closed:
            self.turn_away()

    async def accept(self) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        while not self._waiting:
            self._knocked = trio.Event()
            await self._knocked.wait()
        return self._waiting.pop(0)

    async def aclose(self) -> None:
        self.was_closed = True
        self.turn_away()
        await trio.lowlevel.checkpoint()

    def turn_away(self) -> None:
        """As a kernel does with whom nobody has accepted."""
        while self._waiting:
            self._waiting.pop().reset()


@attrs.define
class Film:
    """A capture, and how it fared."""

    hub: Hub
    sent: int = 0
    late_s: float = 0
    is_told: bool = False
    over: trio.Event = attrs.field(factory=trio.Event)

    async def run(self) -> None:
        await trio.sleep(2.5 * PACE_S)  # the feeds are there
        due = trio.current_time()
        async with self.hub.capture(opened()) as capture:
            for each in FRAMES:
                due += PACE_S
                await trio.sleep_until(due)
                await capture.send(each)
                self.sent += 1
                self.late_s += max(0, trio.current_time() - due)
                due = max(due, trio.current_time())
            began = trio.current_time()
            with trio.move_on_after(FLUSH_S):
                await capture.finish(close(frames=len(FRAMES)))
                self.is_told = True
            self.late_s += trio.current_time() - began
        self.over.set()


@attrs.define
class Seen:
    """One run, as the oracle sees it.

    Attributes:
        newcomer: what another one was answered who asked at last.
        waited_s: how long the connection went on behind the capture and the last fault.
        stayed_s: how long the listener did when it had to stop.
    """

    world: World
    reads: str
    hub: Hub
    door: Door
    pace: LivePace
    film: Film
    reader: Rig
    streams: list[WatchedStream]
    server: AdminServer | None = None
    newcomer: bytes = b""
    waited_s: float = 0
    stopped_at: float = math.inf
    over_at: float = 0

    @property
    def fired(self) -> set[str]:
        return {injection.name for injection in self.world.injections}

    @property
    def is_cut(self) -> bool:
        """Whether the connection may end in the middle of a word."""
        return bool(self.fired & (CUTS | GONE)) or any(":" in name for name in self.fired)

    @property
    def is_gone(self) -> bool:
        """Whether there is a listener no more."""
        return bool(self.fired & {"listener", "stop"})

    def stop(self) -> None:
        """As the worker does."""
        self.stopped_at = min(self.stopped_at, trio.current_time())
        self.hub.close()
        if self.server is not None:
            self.server.stop()

    def cut(self) -> None:
        for each in self.server._connections if self.server else ():
            each.scope.cancel()

    def hang(self) -> None:
        self.reader.stop_reading()
        self.reader.stop_sending()

    def make_room(self) -> None:
        if self.server is not None:
            self.server._end_quietest()


async def reading(
    world: World, *, reads: str = "lossless", reach: Collection[str] = ()
) -> None:
    """A capture films, somebody reads, another one asks at last, and the worker ends.

    Args:
        world: what the sweep fires and asks.
        reads: a key of SAID.
        reach: properties that must be true in some run: of REACHED.
    """
    seen = prepare(world, reads)
    for name, check in INVARIANTS.items():
        world.check(partial(check, seen), name)
    actions: dict[str, Callable[[], object]] = {
        "stop": seen.stop,
        "room": seen.make_room,
        "connection": seen.cut,
        "eof": seen.reader.leave,
        "reset": seen.reader.reset,
        "hang": seen.hang,
        "mute": seen.reader.stop_sending,
    }
    for name, action in actions.items():
        world.expose(name, action)
    registry = Registry(Limits())
    with in_memory(seen), registry.claim("cap", _never, _never):
        app = make_app(hub=seen.hub, registry=registry)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve, seen, loopback_only(app))
            nursery.start_soon(seen.reader.run)
            nursery.start_soon(seen.film.run)
            await seen.film.over.wait()
            await wait_gone(seen)
            for name in actions:
                world.withdraw(name)
            await ask_for_health(seen)
            seen.stop()
    reached = {
        "held up": seen.film.late_s,
        "cut short": seen.is_cut and seen.reader.heard,
        "turned away": not seen.newcomer,
        "told in rounds": seen.reader.heard.count(b'"capture.frames"') > 1,
    }
    for name in reach:
        world.sometimes(name, reached[name])


def prepare(world: World, reads: str) -> Seen:
    """A listener in memory, and who is about to speak to it."""
    hub = Hub()
    ours, theirs = stream_pair(WINDOW_BYTES)
    words = [word.encode() if isinstance(word, str) else word for word in SAID[reads]]
    if reads in FEEDS:
        words.append(close_frame(1000))
    watched = WatchedStream(world.faults(ours, "connection"))
    reader = Rig(theirs, tuple(words), PACE_S)
    return Seen(
        world,
        reads,
        hub,
        Door(),
        LivePace(trio.current_time),
        Film(hub),
        reader,
        [watched],
    )


@contextmanager
def in_memory(seen: Seen) -> Iterator[None]:
    """No socket, no real clock, short times and a small window."""

    async def open_listeners(*_: object, **__: object) -> list[Door]:
        await trio.lowlevel.checkpoint()
        return [seen.door]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "open_listeners", open_listeners)
        patch.setattr(module, "PING_S", PING_S)
        patch.setattr(module, "PONG_S", PONG_S)
        patch.setattr("cfw.sinks.hub._lossless.LOSSLESS_ITEMS", 1)
        patch.setattr("cfw.admin.pictures.NEXT_FRAME_S", NEXT_FRAME_S)
        patch.setattr("cfw.admin.app.LivePace", lambda: seen.pace)
        # Else the capture is over before a second frame is told.
        patch.setattr("cfw.admin._pace.FIRST_REST_S", PACE_S / 2)
        yield


def _never(*_: object) -> Any:
    raise AssertionError("nobody asked for it")


async def serve(seen: Seen, app: Any) -> None:
    """Listen until it is over; the first to come is there at once."""
    seen.door.knock(seen.streams[0])
    with trio.CancelScope() as scope:
        seen.world.expose("listener", scope)
        try:
            async with trio.open_nursery() as nursery:
                seen.server = await nursery.start(
                    partial(
                        serve_admin,
                        app,
                        grace_s=GRACE_S,
                        send_stall_s=STALL_S,
                        handshake_s=REQUEST_S,
                    )
                )
                if seen.stopped_at < math.inf:
                    seen.server.stop()
        finally:
            seen.over_at = trio.current_time()
            seen.door.was_closed |= seen.server is None  # it never listened
            if seen.door.was_closed:
                seen.door.turn_away()


async def wait_gone(seen: Seen) -> None:
    """Wait for the end that the connection comes to by itself."""
    began = trio.current_time()
    with trio.move_on_after(2 * PATIENCE_S):
        while seen.server is not None and seen.server._connections:
            await next(iter(seen.server._connections)).ended.wait()
    injected = [each.time for each in seen.world.injections]
    seen.waited_s = trio.current_time() - max([began, *injected])


async def ask_for_health(seen: Seen) -> None:
    """Another one comes, and asks whether the worker is well."""
    ours, theirs = stream_pair(None)
    seen.streams.append(WatchedStream(ours))
    seen.door.knock(seen.streams[-1])
    async with theirs:
        with trio.move_on_after(PATIENCE_S), suppress(trio.BrokenResourceError):
            await theirs.send_all(f"GET /healthz {_HTTP}Connection: close\r\n\r\n".encode())
            while data := await theirs.receive_some():
                seen.newcomer += data


# --- what must hold ---------------------------------------------------------------------------

Check = Callable[[Seen], None]
INVARIANTS: dict[str, Check] = {}


def invariant(check: Check) -> Check:
    """Ask this of every run, by the function's name."""
    INVARIANTS[check.__name__] = check
    return check


@invariant
def no_capture_suffers(seen: Seen) -> None:
    """All of it was taken; it waited for a lossless reader alone, and no longer than told."""
    film = seen.film
    assert film.sent == len(FRAMES)
    may_wait = seen.reads == "lossless" and bool(seen.fired)
    most = max(STALL_S, REQUEST_S) if may_wait else 0  # until it was shaken hands with, or read
    assert film.late_s <= most + 1e-6, f"{film.late_s:g} s late"
    assert film.is_told


@invariant
def nothing_is_left(seen: Seen) -> None:
    """No connection, subscription or viewer is counted, and nobody looks at the loop."""
    assert seen.hub.subscribers == 0
    assert seen.server is None or not seen.server._connections
    assert (seen.pace._viewers, seen.pace._is_looking) == (0, False)


@invariant
def all_is_closed(seen: Seen) -> None:
    """Streams and sockets, and no byte was sent on one that was."""
    assert seen.door.was_closed
    for stream in seen.streams:
        assert stream.is_closed
        assert not stream.late_sends


@invariant
def it_ends_in_time(seen: Seen) -> None:
    """A connection by itself, once nobody reads or speaks; all of it within the grace."""
    assert seen.waited_s <= PATIENCE_S + 1e-6, f"it stayed for {seen.waited_s:g} s"
    hard = [each.time for each in seen.world.injections if each.name == "listener"]
    due = hard[0] if hard else seen.stopped_at + GRACE_S
    assert seen.over_at <= due + 1e-6, f"over at {seen.over_at:g} s, due at {due:g} s"


@invariant
def others_are_served(seen: Seen) -> None:
    """Whatever has become of one connection, the next one is answered."""
    if not seen.is_gone:
        assert seen.newcomer.startswith(b"HTTP/1.1 200 "), seen.newcomer
        assert seen.newcomer.endswith(b'{"status":"ok"}'), seen.newcomer


@invariant
def what_is_read_is_true(seen: Seen) -> None:
    """A beginning of what there was, in order; whole, unless the connection was cut."""
    heard = bytes(seen.reader.heard)
    if seen.reads in FEEDS:
        check_feed(seen, heard)
    else:
        check_answers(seen, heard)


def check_feed(seen: Seen, heard: bytes) -> None:
    """Messages of the capture, then one close frame."""
    head, _, said = heard.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 101 "):
        assert seen.is_cut or "mute" in seen.fired, heard
        return
    frames, rest = split_frames(said)
    told = [(first, data) for first, data in frames if first != _PING]
    codes = [int.from_bytes(data[:2], "big") for first, data in told if first == _CLOSE]
    messages = [data for first, data in told if first != _CLOSE]
    there = [to_json(opened()).encode()]
    for each in FRAMES:
        if seen.reads == "asked":
            there.append(packed([each]))
        else:
            there += [to_json(each.feed_message()).encode(), each.data]
    there.append(to_json(close(frames=len(FRAMES))).encode())
    if seen.reads == "lossless":
        assert messages == there[-len(messages) :] or messages == there[: len(messages)]
    else:
        rest_of = iter(there)
        assert all(message in rest_of for message in messages), messages
    assert all(first == _CLOSE for first, _ in told[-len(codes) :]) or not codes
    assert len(codes) <= 1, codes
    if not seen.is_cut:
        assert not rest
        has_left = seen.reader.said == len(seen.reader.writes)
        assert codes == [1000 if has_left else 1011], codes  # or no pong came
        assert seen.reads != "lossless" or messages == there


def check_answers(seen: Seen, heard: bytes) -> None:
    """As many answers as requests, each as it has to be."""
    client = h11.Connection(h11.CLIENT)
    if heard:
        client.receive_data(heard)  # nothing would be the end
    answers: list[tuple[int, bytes]] = []
    is_whole = True
    for _ in range(2 if seen.reads == "asks twice" else 1):
        if client.our_state is h11.DONE:
            client.start_next_cycle()
        client.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
        client.send(h11.EndOfMessage())
        status, body = 0, b""
        while isinstance(event := client.next_event(), h11.Response | h11.Data):
            if isinstance(event, h11.Response):
                status = event.status_code
            else:
                body += event.data
        is_whole = isinstance(event, h11.EndOfMessage)
        if status:
            answers.append((status, body))
        if not is_whole or client.their_state is not h11.DONE:
            break
    assert not is_whole or not client.trailing_data[0], heard
    assert is_whole or seen.is_cut or "mute" in seen.fired, heard
    check_bodies(seen, answers)


def check_bodies(seen: Seen, answers: list[tuple[int, bytes]]) -> None:
    """Pictures are those of the capture, byte for byte."""
    pictures = [each.data for each in FRAMES]
    for status, body in answers:
        if seen.reads == "stream" and status == 200:
            first, *parts = body.split(b"--cfw-frame\r\n")
            *whole, last = [part.partition(b"\r\n\r\n")[2] for part in parts] or [b""]
            rest = iter(pictures)
            assert first == b"" or seen.is_cut
            assert all(part.removesuffix(b"\r\n") in rest for part in whole), body
            assert any(jpeg.startswith(last) for jpeg in rest) or last in (b"", b"\r\n"), body
            assert not last or seen.is_cut, body
        elif seen.reads == "latest" and status == 200:
            assert body in pictures or seen.is_cut, body
    if not seen.is_cut and "mute" not in seen.fired:
        expected = {"asks twice": [200, 404], "latest": [200], "stream": [200]}[seen.reads]
        assert [status for status, _ in answers] == expected, answers

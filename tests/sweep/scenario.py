"""One connection of the real router, held to the common oracle by invariant name.

The rig, sink and authority are ours; router, buffer, core and wire are the real ones. What
can be injected: `connection` and `server` (scopes), `revoke`, `eof`, `reset`, `drain`, `abort`
(actions). What a sink does wrong is a parameter.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import attrs
import structlog
import trio

import cfw.routes.router as shell
from cfw.limits import Limits, Times
from cfw.registry import Registry
from cfw.repository import ForwardBuffer
from cfw.routes.outcome import LADDER
from cfw.sessions import SessionStatus
from cfw.state import Frame
from cfw.testing.bytecuts import MemoryStream, stream_pair
from cfw.testing.fakes import (
    FailingSink,
    Place,
    RecordingSink,
    ScriptedAuthority,
    StallingSink,
)
from cfw.testing.sweep import World
from cfw.wire import PeerClosed
from schemas import ErrorCode, FeedClose
from tests.factories import START_NS, at, close_fields, jpeg, meta_fields, open_fields
from tests.route.kit import Ending, encode, ending_of
from tests.wire.peer import REQUEST, close, parse_frames

PICTURES = [jpeg(60, fill=seq) for seq in (1, 2, 3)]
#: Short enough that a re-check falls into the capture, and every timeout into the heal time.
TIMES = Times(
    session_recheck_s=0.07,
    session_check_s=0.5,
    session_grace_s=1,
    idle_s=2,
    meta_to_bytes_s=1,
    open_s=2,
    close_flush_s=1,
    linger_s=0.5,
)
LIMITS = Limits(max_forward_buffer_frames=3)


@attrs.define
class Rig:
    """Sends a conversation at a pace, and reads what it is told until the end."""

    stream: MemoryStream
    writes: list[bytes]
    pace_s: float
    heard: bytearray = attrs.Factory(bytearray)
    is_gone: bool = False

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.listen)
            try:
                for data in self.writes:
                    await self.stream.send_all(data)
                    await trio.sleep(self.pace_s)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass

    async def listen(self) -> None:
        try:
            while data := await self.stream.receive_some():
                self.heard += data
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        await self.stream.aclose()

    def leave(self) -> None:
        self.is_gone = True
        self.stream.close()

    def reset(self) -> None:
        self.is_gone = True
        self.stream.reset()

    @property
    def told(self) -> Ending | None:
        """What the worker said behind its 101; None when the handshake was never answered."""
        head, _, rest = bytes(self.heard).partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101"):
            return None
        return ending_of(parse_frames(rest))


def conversation(frames: int, close_behind: bool) -> list[bytes]:
    """What a rig writes, message by message, with the same ids in every run."""

    def message(number: int, fields: dict[str, Any]) -> bytes:
        return encode(fields | {"record_id": str(uuid.UUID(int=number))})

    writes = [REQUEST, message(1, open_fields())]
    for seq in range(1, frames + 1):
        meta = message(seq + 1, meta_fields(seq, len(PICTURES[seq - 1])))
        writes.append(meta + encode(PICTURES[seq - 1]))
    writes.append(message(99, close_fields(timestamp_end=at(1))))
    if close_behind:
        writes.append(close(1000))
    return writes


@contextmanager
def replaced(**names: Any) -> Iterator[None]:
    """Other objects under the names of the router's module, for one run."""
    originals = {name: getattr(shell, name) for name in names}
    for name, value in names.items():
        setattr(shell, name, value)
    try:
        yield
    finally:
        for name, value in originals.items():
            setattr(shell, name, value)


class BareSocket:
    """What the router sees of a WebSocket, without the wire."""

    remote = "nowhere"
    round_trip_s = None

    def __init__(self, frames: int, transport: MemoryStream, rig: Rig) -> None:
        self._rig = rig
        self._transport = transport
        self._messages: list[str | bytes] = [json.dumps(open_fields())]
        for seq in range(1, frames + 1):
            picture = PICTURES[seq - 1]
            self._messages += [json.dumps(meta_fields(seq, len(picture))), picture]
        self._messages.append(json.dumps(close_fields(timestamp_end=at(1))))

    @asynccontextmanager
    async def accept(self, *_: object, **__: object) -> AsyncIterator[BareSocket]:
        self._rig.heard += b"HTTP/1.1 101 \r\n\r\n"
        try:
            yield self
        finally:
            self._transport.close()

    async def receive_batch(self) -> list[str | bytes]:
        await trio.lowlevel.checkpoint()
        if not self._messages:
            raise PeerClosed(1000, "")
        return [self._messages.pop(0)]

    def ping_soon(self) -> None: ...

    async def send_text(self, text: str) -> None:
        await trio.lowlevel.checkpoint()
        self._rig.heard += bytes([0x81, 126]) + len(text).to_bytes(2, "big") + text.encode()

    async def close(self, code: int, reason: str, *, linger_s: float) -> None:
        await trio.lowlevel.checkpoint()
        words = code.to_bytes(2, "big") + reason.encode()
        self._rig.heard += bytes([0x88, len(words)]) + words


class SlowToOpen(RecordingSink):
    """A sink that waits before it takes a capture, and after its end."""

    async def reach(self, place: Place) -> None:
        if place in ("open", "leave"):
            await trio.sleep(0.01)


SINKS: dict[str, Any] = {
    "fast": RecordingSink,
    "opens slowly": SlowToOpen,
    "slow": lambda: RecordingSink(delay_s=0.03, finish_s=0.01),
    "raises once": lambda: FailingSink(at=2, times=1),
    "raises for ever": lambda: FailingSink(at=1),
    "raises at finish": lambda: FailingSink(at="finish"),
    "never returns": lambda: StallingSink(at=2),
    "never finishes": lambda: StallingSink(at="finish"),
}


async def connection(
    world: World,
    *,
    sink: str = "fast",
    pace: float = 0.01,
    frames: int = 2,
    close_behind: bool = True,
    is_bare: bool = False,
    reach: Collection[str] = (),
) -> None:
    """One connection from its first byte to its last.

    Args:
        world: what the sweep fires and asks.
        sink: a key of SINKS.
        pace: virtual seconds between two writes of the rig.
        frames: how many it sends.
        close_behind: its own close frame follows `capture.close`.
        is_bare: without wire and rig, the router's own tasks alone: the messages are there,
            one batch each.
        reach: properties that must be true in some run: of REACHED.
    """
    taker: RecordingSink = SINKS[sink]()
    authority = ScriptedAuthority(delay_s=0.005)
    registry = Registry(LIMITS)
    router = shell.Router(
        limits=LIMITS,
        times=TIMES,
        sink=taker,
        authority=authority,
        registry=registry,
        wall_clock=lambda: START_NS + round(trio.current_time() * 1e9),
    )
    ours, theirs = stream_pair()
    writes = conversation(frames, close_behind)
    rig = Rig(theirs, writes, pace)
    running_for: list[float] = []
    ends_at = trio.current_time() + pace * (len(writes) - 2)  # when capture.close is sent

    def revoke() -> None:
        if len(registry):
            running_for.append(ends_at - trio.current_time())
        authority.flip(SessionStatus.CLOSED)

    world.expose("revoke", revoke)
    world.expose("eof", rig.leave)
    world.expose("reset", rig.reset)
    world.expose("drain", router.drain)
    world.expose("abort", router.abort_all)
    buffers: list[ForwardBuffer] = []
    accepted: list[int] = []  # counted here, whatever the buffer and the terminal say

    def make_buffer(limits: Limits) -> ForwardBuffer:
        box = ForwardBuffer(limits)
        put = box.put

        async def counted(frame: Frame) -> None:
            await put(frame)
            accepted.append(len(frame.data))

        box.put = counted  # type: ignore[method-assign]
        buffers.append(box)
        return box

    bare = BareSocket(frames, ours, rig)
    names: dict[str, Any] = {"accept": bare.accept} if is_bare else {}
    with replaced(ForwardBuffer=make_buffer, **names):
        async with trio.open_nursery() as outer:
            if not is_bare:
                outer.start_soon(rig.run)
            with trio.CancelScope() as server:
                world.expose("server", server)
                with trio.CancelScope() as scope:
                    world.expose("connection", scope)
                    await router.handle(ours)

    # --- the common oracle, by name -----------------------------------------------------

    def one_terminal() -> None:
        for recorded in taker.captures:
            recorded.check_one_terminal()
            recorded.check_left()

    def accounting() -> None:
        for recorded in taker.captures:
            recorded.check_accounting()
            said = (recorded.terminal.frames_accepted, recorded.terminal.bytes_accepted)
            assert said == (len(accepted), sum(accepted)), (said, accepted)

    def order() -> None:
        for recorded in taker.captures:
            recorded.check_prefix(PICTURES[:frames])

    def nothing_buffered() -> None:
        assert all((box.frames, box.bytes) == (0, 0) for box in buffers)

    def stream_closed() -> None:
        assert ours.is_closed

    def registry_empty() -> None:
        assert len(registry) == 0
        assert not router._connections

    def told_once() -> None:
        told = rig.told
        if told is None or rig.is_gone:
            return
        assert len(told.aborts) <= 1, told
        if told.aborts:
            (abort,) = told.aborts
            assert told.code == LADDER[abort.error_code][0], told
            assert told.reason.startswith(abort.error_code), told

    def rig_is_told() -> None:
        # From the moment the sink has the capture, the rig hears how it ended, if it is there.
        if not taker.captures or rig.is_gone:
            return
        told = rig.told
        assert told is not None
        assert told.code == 1000 or told.aborts, told
        fired = {injection.name for injection in world.injections}
        if sink in ("fast", "slow", "opens slowly") and told.code != 1000:
            allowed = {
                ErrorCode.SESSION_CLOSED: {"revoke"},
                ErrorCode.SERVER_SHUTDOWN: {"connection", "server", "abort", "drain"},
                # Cancelled for good while it took what was left: that is no answer in time.
                ErrorCode.FORWARD_FAILED: {"connection", "server"},
            }
            assert allowed[told.aborts[0].error_code] & fired, (told, fired)

    def receipt_is_true() -> None:
        told = rig.told
        if told is not None and told.code == 1000 and taker.captures:
            (recorded,) = taker.captures
            assert isinstance(recorded.terminals[0], FeedClose), recorded.terminals
            assert told.receipt["frames"] == len(recorded.frames) == frames

    def sink_and_rig_agree() -> None:
        told = rig.told
        if told is not None and told.aborts and taker.captures:
            told_code = told.aborts[0].error_code
            terminal = taker.captures[0].terminals[0]
            # A sink that fails while it takes the terminal is the one thing it cannot hear.
            if told_code is not ErrorCode.FORWARD_FAILED:
                assert getattr(terminal, "error_code", None) == told_code

    def revoked_is_over() -> None:
        # Revoked while it ran, and a re-check was still due: it must not end cleanly.
        still_long = bool(running_for) and running_for[0] > TIMES.session_recheck_s + 0.02
        if still_long and not rig.is_gone and rig.told is not None:
            assert rig.told.code != 1000, rig.told

    def left_alone_it_is_clean() -> None:
        if world.injected is None and sink in ("fast", "slow", "opens slowly"):
            assert rig.told is not None
            assert rig.told.receipt["frames"] == frames

    for invariant in (
        one_terminal,
        accounting,
        order,
        nothing_buffered,
        stream_closed,
        registry_empty,
        told_once,
        rig_is_told,
        receipt_is_true,
        sink_and_rig_agree,
        revoked_is_over,
        left_alone_it_is_clean,
    ):
        world.check(invariant)

    told = rig.told
    aborts = told.aborts if told is not None else []
    now_true = {
        "clean end": told is not None and told.code == 1000,
        "aborted": bool(aborts),
        "frames discarded": any(b.frames_accepted > b.frames_forwarded for b in buffers),
    }
    for name in reach:
        world.sometimes(name, now_true[name])


def quiet() -> None:
    """No log lines: a sweep makes thousands of connections."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(50),
        logger_factory=structlog.ReturnLoggerFactory(),
        processors=[],
    )


__all__ = ["LIMITS", "PICTURES", "SINKS", "TIMES", "connection", "quiet"]

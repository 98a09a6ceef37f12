"""One connection of the real router, to be cut and held to the oracle.

The rig, sink and authority are ours; router, buffer, core and wire are the real ones. `FAULTS`
is what can be injected, at any instant; `SINKS` are the sinks it can be injected under.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import Any

import structlog
import trio

import cfw.routes.capture
import cfw.routes.connection
from cfw.limits import Limits
from cfw.repository import ForwardBuffer
from cfw.routes import Router
from cfw.routes.registry import Registry
from cfw.sessions import SessionStatus
from cfw.sinks import CaptureSink
from cfw.state import Frame
from cfw.testing.bytecuts import stream_pair
from cfw.testing.fakes import (
    FailingSink,
    FlippingSink,
    Place,
    RecordingSink,
    ScriptedAuthority,
    StallingSink,
)
from cfw.testing.sweep import World
from schemas import FeedOpened
from tests.factories import START_NS
from tests.sweep.oracle import INVARIANTS, LIMITS, TIMES, Seen, left_alone_it_is_clean
from tests.sweep.peers import BareSocket, Rig, WatchedStream, conversation, told_by


class SlowToOpen(FlippingSink):
    """A sink that waits before it takes a capture, and after its end."""

    async def reach(self, place: Place) -> None:
        if place in ("open", "leave"):
            await trio.sleep(0.01)
        await super().reach(place)


class PromptSink(FlippingSink):
    """A sink that takes every other read at once, and has the forwarder wait with the rest."""

    @asynccontextmanager
    async def capture(self, opened: FeedOpened) -> AsyncIterator[Any]:
        async with super().capture(opened) as taker:
            yield _PromptTaker(self, taker)


class _PromptTaker:
    def __init__(self, sink: PromptSink, taker: CaptureSink) -> None:
        self._sink = sink
        self.send, self.finish = taker.send, taker.finish
        self._asked = 0

    def send_nowait(self, frames: Sequence[Frame]) -> bool:
        self._asked += 1
        if self._sink.is_stalled or self._asked % 2:
            return False
        recorded = self._sink.only
        for frame in frames:
            recorded.offer()
            with suppress(StopIteration):  # not stalled, it does not wait
                self._sink.reach(frame.meta.seq).send(None)
            recorded.take(frame)
        return True


#: Sinks that work, until a fault tells them not to.
WORKING: dict[str, Callable[[], RecordingSink]] = {
    "fast": FlippingSink,
    "opens slowly": SlowToOpen,
    "slow": lambda: FlippingSink(delay_s=0.03, finish_s=0.01),
    "prompt": lambda: PromptSink(delay_s=0.004, finish_s=0.01),
}
SINKS = WORKING | {
    "raises once": lambda: FailingSink(at=2, times=1),
    "raises for ever": lambda: FailingSink(at=1),
    "raises at finish": lambda: FailingSink(at="finish"),
    "never returns": lambda: StallingSink(at=2),
    "never finishes": lambda: StallingSink(at="finish"),
}

#: What ends a connection from outside: scopes that are cancelled, and calls of the server.
FROM_OUTSIDE = ("connection", "server", "revoke", "drain", "abort")
#: What the rig does wrong; at every byte, `test_byte_cuts.py` does.
BY_THE_RIG = ("eof", "reset", "rig_deaf", "rig_mute")
#: What the sink begins to do wrong; only those of `WORKING` can be told to.
BY_THE_SINK = ("sink_raises_once", "sink_raises", "sink_stalls")
FAULTS = (*FROM_OUTSIDE, *BY_THE_RIG, *BY_THE_SINK)


#: What can be replaced, and in which module it is made or called.
PLACES = {"accept": cfw.routes.connection, "ForwardBuffer": cfw.routes.capture}


@contextmanager
def replaced(**names: Any) -> Iterator[None]:
    """Other objects under names of the shell's modules, for one run."""
    originals = {name: getattr(PLACES[name], name) for name in names}
    for name, value in names.items():
        setattr(PLACES[name], name, value)
    try:
        yield
    finally:
        for name, value in originals.items():
            setattr(PLACES[name], name, value)


def prepare(world: World, sink: str, pace: float, frames: int, close_behind: bool) -> Seen:
    """A router with its sink and a rig that is about to speak to it."""
    taker = SINKS[sink]()
    registry = Registry(LIMITS)
    router = Router(
        limits=LIMITS,
        times=TIMES,
        sink=taker,
        authority=ScriptedAuthority(delay_s=0.005),
        registry=registry,
        wall_clock=lambda: START_NS + round(trio.current_time() * 1e9),
    )
    ours, theirs = stream_pair()
    writes = conversation(frames, close_behind)
    return Seen(
        world=world,
        frames=frames,
        taker=taker,
        rig=Rig(theirs, writes, pace),
        stream=WatchedStream(ours),
        router=router,
        registry=registry,
        rig_ends_at=trio.current_time() + pace * (len(writes) - 1),
    )


def expose_actions(seen: Seen) -> None:
    """All faults that are no scopes."""
    world, rig, router, taker = seen.world, seen.rig, seen.router, seen.taker
    assert isinstance(router.services.authority, ScriptedAuthority)
    flip = router.services.authority.flip
    close_at = seen.rig_ends_at - rig.pace_s  # when capture.close is sent

    def revoke() -> None:
        if len(seen.registry):
            seen.running_for.append(close_at - trio.current_time())
        flip(SessionStatus.CLOSED)

    world.expose("revoke", revoke)
    world.expose("drain", router.drain)
    world.expose("abort", router.abort_all)
    world.expose("eof", rig.leave)
    world.expose("reset", rig.reset)
    world.expose("rig_deaf", rig.stop_reading)
    world.expose("rig_mute", rig.stop_sending)
    if isinstance(taker, FlippingSink):
        world.expose("sink_raises_once", partial(taker.fail, 1))
        world.expose("sink_raises", taker.fail)
        world.expose("sink_stalls", taker.stall)


async def connection(
    world: World,
    *,
    sink: str = "fast",
    pace: float = 0.01,
    frames: int = 2,
    close_behind: bool = True,
    is_bare: bool = False,
    in_one_write: bool = False,
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
        in_one_write: everything the rig has to say, and the end of it, is there before the
            worker looks; the rig has no tasks of its own.
        reach: properties that must be true in some run: of REACHED.
    """
    seen = prepare(world, sink, pace, frames, close_behind)
    expose_actions(seen)

    def make_buffer(limits: Limits) -> ForwardBuffer:
        box = ForwardBuffer(limits)
        put = box.put

        def counted(frame: Frame) -> None:
            put(frame)
            seen.accepted.append(len(frame.data))

        box.put = counted  # type: ignore[method-assign]
        seen.buffers.append(box)
        return box

    names: dict[str, Any] = {"ForwardBuffer": make_buffer}
    if is_bare:
        names["accept"] = BareSocket(frames, seen.stream, seen.rig).accept
    rig = seen.rig
    with replaced(**names):
        if in_one_write:
            await rig.send_all_at_once()
            await serve(seen)
            await rig.listen()
        elif is_bare:
            await serve(seen)
        else:
            await serve_beside_rig(seen)
    seen.told, seen.nonsense = told_by(bytes(rig.heard))
    for name, check in {**INVARIANTS, "left_alone_it_is_clean": left_alone_it_is_clean}.items():
        world.check(partial(check, seen), name)
    now_true = {
        "clean end": seen.told is not None and seen.told.code == 1000,
        "aborted": seen.told is not None and bool(seen.told.aborts),
        "frames discarded": any(b.frames_accepted > b.frames_forwarded for b in seen.buffers),
    }
    for name in reach:
        world.sometimes(name, now_true[name])


async def serve_beside_rig(seen: Seen) -> None:
    """Serve the connection while the rig speaks to it, until both are done."""
    failure: BaseException | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(seen.rig.run)
        try:
            await serve(seen)
        except BaseException as exc:
            # Raised below: the nursery would take a stray Cancelled for its own.
            failure = exc
        if not seen.was_closed:
            nursery.cancel_scope.cancel()  # the rig would wait for ever
    try:
        if failure is not None:
            raise failure
    finally:
        del failure


async def serve(seen: Seen) -> None:
    """Let the router serve the connection, in scopes that can be cancelled."""
    with trio.CancelScope() as server:
        seen.world.expose("server", server)
        with trio.CancelScope() as scope:
            seen.world.expose("connection", scope)
            try:
                await seen.router.handle(seen.stream)
            finally:
                seen.ended_at = trio.current_time()
                seen.was_closed = seen.stream.is_closed


def quiet() -> None:
    """No log lines: a sweep makes thousands of connections."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(50),
        logger_factory=structlog.ReturnLoggerFactory(),
        processors=[],
    )

"""A film disturbed at every instant: no frame comes twice, and none is lost without a word.

The film, the client and the worker are the real ones; the streams between them are in memory.
What can be fired: `cut` (the newest connection breaks), `stop` (the worker ends all captures
and another takes its place), `revoke` (the session ends), `sender` (one `send_frame` is
cancelled, and the caller goes on with the next frame), `film` (all of it is cancelled).
"""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio

from cfw.client import CaptureError, ConnectionRefused, Film, FilmIncomplete, SessionError, film
from cfw.sessions import SessionStatus
from cfw.testing.bytecuts import MemoryStream
from cfw.testing.fakes import ScriptedAuthority
from cfw.testing.rigs import Worker, jpeg, running_worker
from cfw.testing.sweep import World, sweep

FRAMES = 4
PACE_S = 0.05
LIMITS = {"max_frames": 2}
TIMES = {"session_recheck_s": 0.04}
FAULTS = ["cut", "stop", "revoke", "sender", "film"]
REACHED = ["whole", "incomplete", "ended by its session", "frame not sent", "three parts"]


def picture(number: int) -> bytes:
    return jpeg(100, fill=number)


@attrs.define
class Seen:
    """What the caller of a film knows at its end."""

    worker: Worker
    streams: list[MemoryStream] = attrs.Factory(list)
    sent: Film | None = None
    returned: list[int] = attrs.Factory(list)
    cancelled: list[int] = attrs.Factory(list)
    ended: BaseException | None = None
    is_cancelled: bool = False

    async def dial(self) -> Any:
        stream = self.worker.dial(window_bytes=None)
        self.streams.append(stream)
        return stream

    def cut(self) -> None:
        if self.streams:
            self.streams[-1].close()

    def stop(self) -> None:
        self.worker.router.abort_all()
        self.worker.router.is_draining = False

    @property
    def given(self) -> list[int]:
        """The numbers of what the sink was given, capture by capture."""
        captures = self.worker.captures
        return [frame.data[-3] for capture in captures for frame in capture.frames]


async def run_film(world: World, seen: Seen) -> None:
    options: dict[str, Any] = {"user_id": "ada", "session_id": "s-1", "capture_id": "f"}
    options |= {"width": 640, "height": 480, "fps": 15}
    made = film("ws://worker", split=True, retry_s=60, dial=seen.dial, **options)
    try:
        async with made as seen.sent:
            for number in range(1, FRAMES + 1):
                with trio.CancelScope() as scope, world.expose("sender", scope):
                    await seen.sent.send_frame(picture(number))
                    seen.returned.append(number)
                if scope.cancelled_caught:
                    seen.cancelled.append(number)
                await trio.sleep(PACE_S)
    except CaptureError as exc:
        seen.ended = exc


async def filming(world: World) -> None:
    """Four frames, of which a capture takes two."""
    authority = ScriptedAuthority(delay_s=0.002)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("random.uniform", lambda low, high: high)  # what is replayed is the same
        async with running_worker(limits=LIMITS, times=TIMES, authority=authority) as worker:
            seen = Seen(worker)
            world.expose("cut", seen.cut)
            world.expose("stop", seen.stop)
            world.expose("revoke", lambda: authority.flip(SessionStatus.CLOSED))
            with trio.CancelScope() as scope, world.expose("film", scope):
                await run_film(world, seen)
            seen.is_cancelled = scope.cancelled_caught
            for name in ("cut", "stop", "revoke"):
                world.withdraw(name)
    check(world, seen)


def check(world: World, seen: Seen) -> None:
    """What has to hold, whatever was fired."""
    sent, ended = seen.sent, seen.ended
    parts = sent.parts if sent is not None else ()

    def none_comes_twice_and_all_in_order() -> None:
        assert seen.given == sorted(set(seen.given))

    def a_receipt_is_for_what_the_consumer_has() -> None:
        given = {each.opened.capture_id: len(each.frames) for each in seen.worker.captures}
        for part in parts:
            if part.receipt is not None:
                assert part.receipt.frames == part.frames_sent == given[part.capture_id]

    def none_is_lost_without_a_word() -> None:
        if seen.is_cancelled or sent is None:
            return
        most = len(seen.returned) + len(seen.cancelled)
        assert len(seen.returned) <= sum(part.frames_sent for part in parts) <= most
        if ended is None:
            assert sent.receipt.frames == sent.frames_sent
            assert {*seen.returned} <= {*seen.given}
        if isinstance(ended, FilmIncomplete):
            assert sent.receipt.frames + ended.frames_lost == sent.frames_sent
            assert all(part.failure is not None for part in ended.lost)

    def it_ends_as_it_has_to() -> None:
        if sent is None and not seen.is_cancelled:
            # The first capture has to open at once.
            assert isinstance(ended, ConnectionRefused | SessionError), ended
            return
        assert ended is None or isinstance(ended, FilmIncomplete | SessionError), ended
        if not isinstance(ended, SessionError) and not seen.is_cancelled:
            assert len(seen.returned) + len(seen.cancelled) == FRAMES

    def nothing_is_left() -> None:
        assert all(stream.is_closed for stream in seen.streams)

    for invariant in (
        none_comes_twice_and_all_in_order,
        a_receipt_is_for_what_the_consumer_has,
        none_is_lost_without_a_word,
        it_ends_as_it_has_to,
        nothing_is_left,
    ):
        world.check(invariant)
    world.sometimes("whole", ended is None and seen.given == [1, 2, 3, 4])
    world.sometimes("incomplete", isinstance(ended, FilmIncomplete))
    world.sometimes("ended by its session", isinstance(ended, SessionError))
    world.sometimes("frame not sent", {*seen.cancelled} - {*seen.given})
    world.sometimes("three parts", len(parts) > 2)


@sweep(at=FAULTS, schedules=["fifo"], budget=150)
async def test_no_frame_of_a_film_is_doubled_or_lost_without_a_word(world: World) -> None:
    """Cut, stopped, revoked, or cancelled in a frame or as a whole."""
    await filming(world)


@pytest.mark.sweep
@sweep(at=FAULTS, schedules=["fifo", "lifo"], sometimes=REACHED, jobs=2)
async def test_every_instant_of_a_film(world: World) -> None:
    """All of them, in two orders."""
    await filming(world)


@pytest.mark.sweep
@sweep(
    pairs=[("cut", "cut"), ("cut", "sender"), ("stop", "cut"), ("cut", "film")],
    schedules=["fifo"],
    budget=1500,
    jobs=2,
)
async def test_two_faults_of_a_film(world: World) -> None:
    """Cut again while it opens again, or cancelled then."""
    await filming(world)

"""Sinks and authorities that raise, a stop under load, and a very long day."""

from __future__ import annotations

import contextlib
import gc
import signal
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from cfw.client import open_feed
from cfw.sessions import AuthorityUnreachable, SessionStatus
from cfw.testing.fakes import RecordingSink, ScriptedAuthority
from schemas import ErrorCode, FeedAbort, FeedClose, FeedFrame, FeedOpened, Terminal
from tests.factories import at, close_fields, jpeg, meta_fields, open_fields
from tests.patience import until
from tests.raw import Ending
from tests.unit.routes.kit import bench
from tests.whole.hostile.figures import IS_LONG, figure
from tests.whole.hostile.kit import MB, Rig, Worker, read_rest, worker

OTHERS = 99
PICTURE = jpeg(20_000)


# --- sinks and authorities ------------------------------------------------------------------


class SinkWithABug(RecordingSink):
    """Raises at one place of the capture named `bad`, and records the others."""

    def __init__(self, place: str) -> None:
        super().__init__()
        self.place = place

    @asynccontextmanager
    async def capture(self, opened: FeedOpened) -> AsyncIterator[Any]:
        is_bad = opened.capture_id == "bad"
        if is_bad and self.place == "open":
            raise ZeroDivisionError("a secret of the sink")
        async with super().capture(opened) as taker:
            yield _Broken(taker, self.place) if is_bad else taker
        if is_bad and self.place == "leave":
            raise ZeroDivisionError("a secret of the sink")


class _Broken:
    def __init__(self, taker: Any, place: str) -> None:
        self.taker, self.place = taker, place

    async def send(self, frame: Any) -> None:
        if self.place == "send":
            raise ZeroDivisionError("a secret of the sink")
        await self.taker.send(frame)

    async def finish(self, terminal: Any) -> None:
        await self.taker.finish(terminal)
        if self.place == "finish":
            raise ZeroDivisionError("a secret of the sink")


async def film(rig: Any, capture_id: str, frames: int) -> None:
    for seq in range(1, frames + 1):
        await rig.frame(seq, capture_id=capture_id)
        await trio.sleep(0.01)
    await rig.say(close_fields(capture_id=capture_id))


@pytest.mark.parametrize("place", ["open", "send", "finish", "leave"])
async def test_a_sink_that_raises_is_one_captures_trouble(
    place: str, autojump_clock: MockClock
) -> None:
    """99 captures beside it get their receipts; its own rig reads `forward_failed`."""
    sink = SinkWithABug(place)
    async with bench(sink) as b, trio.open_nursery() as nursery:
        bad = await b.capture(capture_id="bad")
        others = [await b.capture(capture_id=f"cap-{n}") for n in range(OTHERS)]
        for number, rig in enumerate(others):
            nursery.start_soon(film, rig, f"cap-{number}", 5)
        nursery.start_soon(film, bad, "bad", 5)
        endings: list[Ending] = [await rig.ending() for rig in others]
        told = await bad.ending()
        sink.captures = [c for c in sink.captures if c.opened.capture_id != "bad"]
    assert [ending.receipt["frames"] for ending in endings] == [5] * OTHERS
    assert told.code == 1011
    assert told.aborts[0].error_code is ErrorCode.FORWARD_FAILED
    assert "secret" not in str(told)


async def test_an_authority_that_raises_is_one_captures_trouble(
    autojump_clock: MockClock,
) -> None:
    """Whatever it raises for one user, 99 others are checked and get their receipts."""

    class Authority(ScriptedAuthority):
        async def check(self, user_id: str, session_id: str) -> SessionStatus:
            if session_id == "bad":
                raise ZeroDivisionError("a secret of the authority")
            return await super().check(user_id, session_id)

    async with bench(authority=Authority()) as b, trio.open_nursery() as nursery:
        bad = await b.capture(capture_id="bad", session_id="bad")
        others = [await b.capture(capture_id=f"cap-{n}") for n in range(OTHERS)]
        for number, rig in enumerate(others):
            nursery.start_soon(film, rig, f"cap-{number}", 5)
        endings = [await rig.ending() for rig in others]
        told = await bad.ending()
    assert [ending.receipt["frames"] for ending in endings] == [5] * OTHERS
    assert told.aborts[0].error_code is ErrorCode.SESSION_INVALID
    assert "secret" not in str(told)
    assert AuthorityUnreachable("x").detail == "x"


# --- stopping -------------------------------------------------------------------------------


@attrs.define
class Consumer:
    """A program that reads the whole feed: where frames go.

    Attributes:
        frames: capture_id -> the `seq` of each frame that came, in order.
        terminals: capture_id -> how it ended, as often as that was told.
    """

    frames: dict[str, list[int]] = attrs.Factory(lambda: defaultdict(list))
    terminals: dict[str, list[Terminal]] = attrs.Factory(lambda: defaultdict(list))

    async def read(self, made: Worker, task_status: trio.TaskStatus[None]) -> None:
        async with open_feed(made.admin) as feed:
            task_status.started()
            async for message, _ in feed:
                if isinstance(message, FeedFrame):
                    self.frames[message.capture_id].append(message.seq)
                elif isinstance(message, FeedClose | FeedAbort):
                    self.terminals[message.capture_id].append(message)


async def film_until_told(rig: Rig, leave: trio.Event) -> Ending:
    """Send frames until it is time to leave, or until the worker has ended the capture."""

    async def send() -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            while not leave.is_set():
                await rig.frame(data=PICTURE)
                await trio.sleep(0.01)
            await rig.close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        data = bytes(rig.received) + await read_rest(rig.stream)
        nursery.cancel_scope.cancel()
    await rig.stream.aclose()
    return Ending.parse(data)


@pytest.mark.parametrize("signals", [1, 2])
async def test_stopping_under_load_loses_no_frame_silently(
    signals: int, tmp_path: Path
) -> None:
    """Frames still come when it begins; each is with the consumer or counted in an abort."""
    settings = {"times.drain_s": 2, "limits.max_frames": 10_000, "times.linger_s": 1}
    consumer, leave, stay = Consumer(), trio.Event(), trio.Event()
    endings: list[tuple[Rig, Ending]] = []
    async with worker(tmp_path, settings=settings) as made, trio.open_nursery() as nursery:
        await nursery.start(consumer.read, made)
        leaving = [await made.rig(f"leaves-{n}") for n in range(10)]
        staying = [await made.rig(f"stays-{n}") for n in range(10)]
        deaf = [await made.rig(f"deaf-{n}") for n in range(5)]
        await made.captures(25)

        async def film(rig: Rig) -> None:
            endings.append((rig, await film_until_told(rig, leave if rig in leaving else stay)))

        for rig in (*leaving, *staying):
            nursery.start_soon(film, rig)
        await until(lambda: all(len(consumer.frames[rig.capture_id]) > 9 for rig in staying))
        began = trio.current_time()
        for _ in range(signals):
            made.process.send_signal(signal.SIGTERM)
            await trio.sleep(0.2)
        sent = sum(rig.seq for rig in staying)
        leave.set()
        code = await made.exit_code()
        took = trio.current_time() - began
        for rig in deaf:
            await rig.stream.aclose()
    assert code == 0
    kinds = Counter(ending.code for _, ending in endings)
    assert kinds == ({1000: 10, 1001: 10} if signals == 1 else {1001: 20})
    assert len(consumer.terminals) == 25
    for rig, ending in endings:
        (terminal,) = consumer.terminals[rig.capture_id]
        forwarded, accepted = terminal.frames_forwarded, terminal.frames_accepted
        came = consumer.frames[rig.capture_id]
        assert came == list(range(1, len(came) + 1))
        # An abort may come between the consumer's taking of a frame and the count of it.
        assert forwarded <= len(came) <= min(forwarded + 1, accepted)
        assert accepted <= rig.seq
        if ending.code == 1000:
            assert ending.receipt["frames"] == forwarded == accepted == len(came) == rig.seq
        else:
            (abort,) = ending.aborts
            assert isinstance(terminal, FeedAbort)
            assert abort.error_code is terminal.error_code is ErrorCode.SERVER_SHUTDOWN
    if signals == 1:
        assert sum(rig.seq for rig in staying) > sent, "nothing was sent behind the signal"
    # drain_s, the terminal, linger_s and the admin listener's grace; and a busy machine.
    assert took < 2 + 5 + 1 + 2 + 10
    frames = sum(map(len, consumer.frames.values()))
    lost = sum(t.frames_accepted - t.frames_forwarded for (t,) in consumer.terminals.values())
    figure(
        f"{'SIGTERM' if signals == 1 else 'two SIGTERM'} under load, 25 captures, 5 deaf",
        f"exit code 0 after {took:.1f} s; {kinds[1000]} receipts, {kinds[1001]} of 1001 read; "
        f"{frames} frames with the consumer, {lost} more named in an abort",
    )


# --- a very long day ------------------------------------------------------------------------


async def test_captures_that_come_and_go_leave_nothing(tmp_path: Path) -> None:
    """Thousands of short captures: no descriptor, connection or claim is left, nor memory."""
    count = 100_000 if IS_LONG else 2_100
    async with worker(tmp_path, "--log-level", "warning") as made:
        limit = trio.CapacityLimiter(20)

        async def capture(number: int) -> None:
            async with limit:
                rig = await made.rig(f"cap-{number}")
                await rig.frame()
                assert (await rig.receipt())["frames"] == 1

        async def many(numbers: range) -> None:
            for start in range(numbers.start, numbers.stop, 500):
                async with trio.open_nursery() as nursery:
                    for number in range(start, min(start + 500, numbers.stop)):
                        nursery.start_soon(capture, number)

        await many(range(count // 3))
        await made.connections(0)
        rss, descriptors = made.rss, made.descriptors
        began = trio.current_time()
        await many(range(count // 3, count))
        took = trio.current_time() - began
        await made.connections(0)
        grown, left = (made.rss - rss) / MB, made.descriptors - descriptors
        assert await made.metric("cfw_captures_running") == 0
        assert await made.metric('cfw_captures_ended_total{end="clean"}') == count
    assert left <= 2  # the admin's connections of the moment
    assert grown < 8
    figure(
        f"{count} captures, one after the other",
        f"{count * 2 / 3 / took:.0f} a second; {left:+d} descriptors, {grown:+.1f} MB "
        "over the last two thirds",
    )


async def test_a_days_captures_leave_no_task(autojump_clock: MockClock) -> None:
    """24 hours on the virtual clock, a capture every minute: tasks and objects stay few."""
    counts: list[int] = []
    async with bench(RecordingSink()) as b:
        before = trio.lowlevel.current_statistics().tasks_living
        for number in range(24 * 60):
            rig, now = await b.connect(), at(trio.current_time())
            capture_id = f"cap-{number}"
            await rig.say(
                open_fields(capture_id=capture_id, timestamp_start=now),
                meta_fields(1, 200, capture_id=capture_id, timestamp_frame=now),
                jpeg(200),
                close_fields(capture_id=capture_id, timestamp_end=now),
            )
            assert (await rig.ending()).receipt["frames"] == 1
            await rig.peer.stream.aclose()
            await trio.sleep(60)
            b.sink.captures.clear()
            if number % 240 == 239:
                gc.collect()
                counts.append(len(gc.get_objects()))
        assert trio.lowlevel.current_statistics().tasks_living == before
        assert trio.current_time() >= 24 * 3600
        assert b.registry.ends.total() == 24 * 60
    # The first samples fill what is kept on purpose: the last ended captures.
    assert counts[-1] - counts[1] < 500
    figure(
        "24 hours, virtual: 1440 captures", f"{counts[-1] - counts[1]:+d} objects in 16 hours"
    )

"""`film(start_at=...)`: rigs whose clocks disagree start together, by the worker's clock."""

# The block of `film` is what is tested, so it stands by itself, whole.

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from itertools import count
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import cfw.client._clock as clocks
from cfw.client import ClockOffset, ClockUnknown, FilmStart, StartMissed, film
from cfw.testing.rigs import Worker, running_worker
from schemas import SchemaError, Timestamp
from tests.unit.client.fake_worker import FakeWorker, fake_worker
from tests.unit.client.test_film import OPTIONS, once, picture
from tests.unit.client.test_worker import Line

START = datetime(2026, 5, 4, 10, 20, 30, tzinfo=UTC)
START_NS = Timestamp.from_datetime(START).ns


def instant(seconds: float) -> str:
    """So many seconds behind the start of a worker, by its clock."""
    return Timestamp.from_ns(START_NS + round(seconds * 1e9)).text


async def start_rig(
    worker: Worker,
    began: dict[float, float],
    starts: dict[float, FilmStart],
    *,
    ahead_s: float,
    line_s: tuple[float, float],
    at: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One rig with a clock and a line of its own."""

    class Clock(clocks.RigClock):
        def __init__(self) -> None:
            self._epoch_ns = START_NS + round(ahead_s * 1e9)

    async def dial() -> Any:
        return Line(worker.dial(), *line_s)

    monkeypatch.setattr("cfw.client._film.RigClock", Clock)
    made = film("ws://worker", start_at=instant(at), dial=dial, **OPTIONS)
    async with made as sent:
        began[ahead_s] = trio.current_time()
        assert sent.start is not None
        starts[ahead_s] = sent.start
        await sent.send_frame(picture(0))


async def test_rigs_with_wrong_clocks_start_together(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each within what it says it knows: half the round trip of its line."""
    lines = {0.0: (0.001, 0.001), 0.04: (0.03, 0.01), -0.25: (0.002, 0.02), 3600.0: (0.1, 0.1)}
    began: dict[float, float] = {}
    starts: dict[float, FilmStart] = {}
    async with running_worker(start=START) as worker, trio.open_nursery() as nursery:
        for ahead_s, line_s in lines.items():
            rig = partial(
                start_rig,
                worker,
                began,
                starts,
                ahead_s=ahead_s,
                line_s=line_s,
                at=90,
                monkeypatch=monkeypatch,
            )
            nursery.start_soon(rig)
            await trio.testing.wait_all_tasks_blocked()
    for ahead_s, line_s in lines.items():
        start = starts[ahead_s]
        assert abs(began[ahead_s] - 90) <= start.width_s / 2 + 1e-6
        assert start.width_s == pytest.approx(sum(line_s), abs=1e-5)
        assert start.late_s == 0
        assert start.offset.min_ns <= ahead_s * 1e9 <= start.offset.max_ns
        # What the capture says is the rig's own clock at that instant.
        assert (
            abs(start.timestamp.ns - START_NS - (90 + ahead_s) * 1e9)
            <= 5e8 * start.width_s + 1e3
        )
    assert max(began.values()) - min(began.values()) < 0.1


@pytest.mark.parametrize("at", [-1.0, -0.001])
async def test_an_instant_that_is_over_is_told(autojump_clock: MockClock, at: float) -> None:
    """And nothing is sent."""
    async with running_worker() as worker:

        async def dial() -> Any:
            return worker.dial()

        with pytest.raises(StartMissed, match="over by the worker's clock"):
            async with film("ws://w", start_at=worker.now(at), dial=dial, **OPTIONS):
                raise AssertionError("it began")
        assert worker.captures == []


async def test_a_rig_that_is_nearly_late_says_so(autojump_clock: MockClock) -> None:
    """The connection was made when the instant was over: it starts at once, and tells."""
    async with running_worker() as worker:
        dialled = count()

        async def dial() -> Any:
            if next(dialled) == 4:  # behind the four questions
                await trio.sleep(3)
            return worker.dial()

        async with film("ws://w", start_at=worker.now(1), dial=dial, **OPTIONS) as sent:
            assert sent.start is not None
            assert sent.start.late_s == pytest.approx(2, abs=0.01)
            await sent.send_frame(picture(0))


async def test_a_worker_that_tells_no_clock_is_told(autojump_clock: MockClock) -> None:
    """One of before 0.3."""
    async with fake_worker(FakeWorker.read_to_end) as rig:
        made = film("ws://w", start_at=instant(1e9), dial=once(rig.stream), **OPTIONS)
        with pytest.raises(ClockUnknown, match="Cfw-Time"):
            async with made:
                raise AssertionError("it began")


def test_a_start_that_is_none_is_refused_at_the_call() -> None:
    """As is one that is given twice."""
    with pytest.raises(SchemaError, match="start_at"):
        film("ws://w", start_at="soon", **OPTIONS)
    with pytest.raises(ValueError, match="either"):
        film("ws://w", start_at=instant(0), timestamp_start=instant(0), **OPTIONS)
    assert FilmStart(Timestamp.from_ns(0), Timestamp.from_ns(0), ClockOffset(0, 10**9)).width_s

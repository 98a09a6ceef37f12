"""What `running_worker` finds when its block is left: bugs of a sink, and of the worker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from cfw.state import Frame
from cfw.testing.fakes import FailingSink, StallingSink
from cfw.testing.rigs import running_worker
from schemas import ErrorCode, FeedAbort, FeedOpened, Terminal
from tests.planted import Change, planted
from tests.sweep.mutants import BUFFER, CAPTURE, REGISTRY, ROUTER
from tests.unit.testing.lab import LabSink, send_three


def sink_with(place: str, bug: Any) -> LabSink:
    """A lab's sink with a bug at one place; a frame is the third."""

    class Planted(LabSink):
        @asynccontextmanager
        async def capture(self, opened: FeedOpened) -> AsyncIterator[LabSink]:
            if place == "open":
                await bug()
            yield self
            if place == "leave":
                await bug()

        async def send(self, frame: Frame) -> None:
            if place == "send" and frame.meta.seq == 3:
                await bug()

        async def finish(self, terminal: Terminal) -> None:
            if place == "finish":
                await bug()

    return Planted()


async def raise_it() -> None:
    raise ZeroDivisionError("planted")


WORDS = {
    "open": "capture",
    "send": "send of frame 3",
    "finish": "finish",
    "leave": "leaving its capture",
}


@pytest.mark.parametrize("place", WORDS)
@pytest.mark.parametrize("bug", [raise_it, trio.sleep_forever], ids=["raises", "never returns"])
async def test_a_sink_with_a_bug_is_caught(
    autojump_clock: MockClock, place: str, bug: Any
) -> None:
    """Although no test looks at it: what it did, where, in which capture and when."""
    did = "raised ZeroDivisionError" if bug is raise_it else "did not return from .* within 5 s"
    with pytest.raises(AssertionError, match=did) as caught:
        async with running_worker(sink=sink_with(place, bug)) as worker:
            assert (await send_three(worker)).error_code is ErrorCode.FORWARD_FAILED
    assert f" {WORDS[place]}" in str(caught.value)
    assert "the sink Planted" in str(caught.value)
    assert "capture cap-1, at" in str(caught.value)
    assert str(caught.value).count("Planted") == 1
    assert isinstance(caught.value.__cause__, ZeroDivisionError) is (bug is raise_it)
    async with running_worker(sink=sink_with(place, bug), sink_may_fail=True) as worker:
        await send_three(worker)


async def test_a_sink_that_is_too_slow_is_caught(autojump_clock: MockClock) -> None:
    """Each call returns, and still the capture is lost."""

    class Slow(LabSink):
        async def send(self, frame: Frame) -> None:
            await trio.sleep(3)

    for limits in ({}, {"max_forward_buffer_frames": 2}):
        with pytest.raises(AssertionError, match="the sink Slow was too slow"):
            async with running_worker(sink=Slow(), limits=limits) as worker:
                await send_three(worker)


async def test_a_sink_cut_off_by_its_rig_is_not_to_blame(autojump_clock: MockClock) -> None:
    """A send that is cancelled before the sink's time is over is nobody's fault."""

    class Slow(LabSink):
        async def send(self, frame: Frame) -> None:
            await trio.sleep(4)

    async with running_worker(sink=Slow()) as worker, worker.connect() as rig:
        await rig.open()
        await rig.frame()
        await trio.sleep(3)
    assert worker.captures[0].error_code is ErrorCode.CLIENT_DISCONNECTED
    assert worker.captures[0].frames == []


async def test_a_fake_may_do_what_it_was_told(autojump_clock: MockClock) -> None:
    """Fakes that stall or fail are no finding."""
    for sink in (FailingSink(at="leave"), StallingSink(at="finish")):
        async with running_worker(sink=sink) as worker:
            assert (await send_three(worker)).code == 1011
        sink.check()


async def stall() -> None:
    async with (
        running_worker(sink=StallingSink(at=2, delay_s=0.01)) as worker,
        worker.connect() as rig,
    ):
        await rig.open()
        for _ in range(3):
            await rig.frame()
        await trio.sleep(1)


FORGETS = """
finally:
    self._connections.discard(connection)
    if not self._connections:
        self._all_gone.set()
"""


@pytest.mark.parametrize(
    ("file", "lines", "instead", "problem"),
    [
        (BUFFER, "self.frames = self.bytes = 0", "pass", "with 400 bytes buffered"),
        (
            BUFFER,
            "self._release(frames)",
            "pass",
            "3 frames accepted are not 1 forwarded and 3",
        ),
        (REGISTRY, "return len(self._captures)", "return 1", "the registry still has"),
        (
            ROUTER,
            FORGETS,
            f'{FORGETS}raise KeyError("a bug")',
            "raised KeyError.* into the server",
        ),
        (ROUTER, "while self._connections:", "while True:", "left after .*a connection"),
    ],
    ids=["a byte left", "a frame counted twice", "an entry left", "raises", "not forgotten"],
)
async def test_a_worker_with_a_bug_is_caught(
    autojump_clock: MockClock, file: str, lines: str, instead: str, problem: str
) -> None:
    """Each thing that is checked when the block is left is found when it is not so."""
    with planted(Change(file, lines, instead)), pytest.raises(AssertionError, match=problem):
        await stall()


async def test_a_connection_that_does_not_end_is_told_with_its_place(
    autojump_clock: MockClock,
) -> None:
    """The message says in which function each of its tasks waits."""
    for_ever = Change(ROUTER, "await connection.run(stream)", "await trio.sleep_forever()")
    with (
        planted(for_ever),
        pytest.raises(AssertionError, match=r"connection 1 .*handle \(router\.py"),
    ):
        async with running_worker() as worker:
            worker.dial()


@pytest.mark.parametrize("accepted", [1, 1000])
async def test_a_terminal_that_hides_or_invents_frames_is_caught(
    autojump_clock: MockClock, accepted: int
) -> None:
    """What it says was accepted is held against what the worker itself has counted."""
    lie = Change(
        CAPTURE,
        '"frames_accepted": buffer.frames_accepted,',
        f'"frames_accepted": {accepted},',
    )
    problem = rf"told \({accepted}, 600\) frames and bytes accepted, of \(3, 600\)"
    with planted(lie), pytest.raises(AssertionError, match=problem):
        await stall()


async def test_a_capture_without_its_terminal_is_caught(autojump_clock: MockClock) -> None:
    """A terminal that lies about what was forwarded is found against what the sink took."""
    lie = Change(
        BUFFER, "self._flushed.set()", "self.frames_forwarded -= 1\nself._flushed.set()"
    )
    with (
        planted(lie),
        pytest.raises(AssertionError, match=r"cap-1 took \(3, 600\) .* told \(2, 600\)"),
    ):
        async with running_worker() as worker:
            await send_three(worker)
    assert not isinstance(worker.captures[0].terminal, FeedAbort)

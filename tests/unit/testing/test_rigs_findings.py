"""What `running_worker` finds when its block is left: bugs of a sink, and of the worker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from cfw.repository import ForwardBuffer
from cfw.routes import Router
from cfw.routes.registry import Registry
from cfw.routes.router import _Connection
from cfw.state import Frame
from cfw.testing.fakes import FailingSink, StallingSink
from cfw.testing.rigs import running_worker
from schemas import ErrorCode, FeedAbort, FeedOpened, Terminal
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


async def never(*_: object) -> None:
    await trio.sleep_forever()


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


@pytest.mark.parametrize(
    ("target", "name", "bug", "problem"),
    [
        (ForwardBuffer, "discard", lambda self: self._put.close(), "with 400 bytes buffered"),
        (
            ForwardBuffer,
            "_release",
            lambda self, _: None,
            "3 frames accepted are not 1 forwarded and 3",
        ),
        (Registry, "__len__", lambda self: 1, "the registry still has"),
        (Router, "handle", None, "raised KeyError.* into the server"),
        (Router, "wait_gone", never, "left after .*a connection"),
    ],
    ids=["a byte left", "a frame counted twice", "an entry left", "raises", "not forgotten"],
)
async def test_a_worker_with_a_bug_is_caught(
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
    target: Any,
    name: str,
    bug: Any,
    problem: str,
) -> None:
    """Each thing that is checked when the block is left is found when it is not so."""
    if bug is None:
        whole = Router.handle

        async def bug(self: Router, stream: trio.abc.Stream) -> None:
            await whole(self, stream)
            raise KeyError("a bug")

    monkeypatch.setattr(target, name, bug)
    with pytest.raises(AssertionError, match=problem):
        await stall()


async def test_a_connection_that_does_not_end_is_told_with_its_place(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says in which function each of its tasks waits."""

    async def handle_for_ever(self: Router, stream: trio.abc.Stream) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(Router, "handle", handle_for_ever)
    with pytest.raises(AssertionError, match=r"connection 1 .*handle_for_ever \(test_rigs_"):
        async with running_worker() as worker:
            worker.dial()


@pytest.mark.parametrize("accepted", [1, 1000])
async def test_a_terminal_that_hides_or_invents_frames_is_caught(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, accepted: int
) -> None:
    """What it says was accepted is held against what the worker itself has counted."""
    true = _Connection._terminal

    def terminal(connection: _Connection, failure: BaseException | None) -> Terminal:
        return attrs.evolve(true(connection, failure), frames_accepted=accepted)

    monkeypatch.setattr(_Connection, "_terminal", terminal)
    problem = rf"told \({accepted}, 600\) frames and bytes accepted, of \(3, 600\)"
    with pytest.raises(AssertionError, match=problem):
        await stall()


async def test_a_capture_without_its_terminal_is_caught(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A terminal that lies about what was forwarded is found against what the sink took."""
    true = ForwardBuffer.forward

    async def forward(self: ForwardBuffer, sink: Any) -> None:
        self.frames_forwarded -= 1
        await true(self, sink)

    monkeypatch.setattr(ForwardBuffer, "forward", forward)
    with pytest.raises(AssertionError, match=r"cap-1 took \(3, 600\) .* told \(2, 600\)"):
        async with running_worker() as worker:
            await send_three(worker)
    assert not isinstance(worker.captures[0].terminal, FeedAbort)

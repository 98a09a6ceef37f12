"""What wakes Trio without being armed for each event: proved first, and only then used."""

from __future__ import annotations

import errno
import gc
import os
import select
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from cfw.wire import arming
from cfw.wire.arming import armed
from cfw.wire.receiver import Receiver

FRAMES = 20
trios = pytest.importorskip("trio._core._io_epoll", reason="Trio waits with epoll on Linux")
pytestmark = pytest.mark.skipif(
    not Path("/proc/self/fdinfo").exists(), reason="proc(5) is not mounted, or has no fdinfo"
)


def is_proved() -> bool:
    """A new one; what an earlier one has found is remembered by the process."""
    return arming._is_tolerated.__wrapped__()


class Passes(trio.abc.Instrument):
    """Counts the passes of the event loop."""

    number = 0

    def before_io_wait(self, timeout: float) -> None:
        self.number += 1


class Steps(trio.abc.Instrument):
    """Counts the steps of each task."""

    def __init__(self) -> None:
        self.of = Counter[str]()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.of[task.name] += 1


@contextmanager
def connected() -> Iterator[tuple[Receiver, socket.socket]]:
    ours, peer = socket.socketpair()
    with ours, peer:
        receiver = Receiver(trio.SocketStream(trio.socket.from_stdlib_socket(ours)))
        yield receiver, peer
        receiver.release()


async def exchange() -> Counter[str]:
    """Some frames, each when it is waited for; the steps of each task for them."""
    steps = Steps()
    with connected() as (receiver, peer):

        async def read() -> None:
            for _ in range(2 * FRAMES):
                got.send_nowait(bytes(await receiver.receive() or b""))

        got, frames = trio.open_memory_channel[bytes](2 * FRAMES)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            for number in range(2 * FRAMES):
                if number == FRAMES:  # by then it is armed
                    trio.lowlevel.add_instrument(steps)
                await trio.testing.wait_all_tasks_blocked()
                peer.send(bytes([number]))
                with trio.fail_after(40):
                    assert await frames.receive() == bytes([number])
        trio.lowlevel.remove_instrument(steps)
    return steps.of


async def test_a_frame_that_comes_alone_takes_no_step_of_the_watch() -> None:
    """Its reader is all that runs for it."""
    steps = await exchange()
    assert steps["cfw.wire.readiness._Watch._run"] <= 1


async def test_where_it_is_not_had_the_watch_steps_for_each_frame(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The way that needs nothing from Trio but its own words."""
    monkeypatch.setattr(arming, "_is_tolerated", lambda: False)
    steps = await exchange()
    assert steps["cfw.wire.readiness._Watch._run"] >= FRAMES - 1


def test_the_trio_that_is_installed_lets_it_be_so() -> None:
    """A release that takes it away is told of here, and not by what rigs cost then."""
    assert is_proved()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_trio_that_minds_is_not_woken_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event that nobody waits for ends the run of the proof, and no other."""
    process_events = trios.EpollIOManager.process_events

    def minds(manager: Any, events: list[tuple[int, int]]) -> None:
        for fd, _ in events:
            if fd != manager._force_wakeup_fd and fd not in manager._registered:
                raise KeyError(fd)
        process_events(manager, events)

    monkeypatch.setattr(trios.EpollIOManager, "process_events", minds)
    assert not is_proved()
    gc.collect()  # what Trio has left behind, as it does when it crashes


def test_a_trio_that_disarms_is_not_woken_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second event would never be seen."""
    process_events = trios.EpollIOManager.process_events

    def disarms(manager: Any, events: list[tuple[int, int]]) -> None:
        process_events(manager, events)
        for fd, _ in events:
            if fd != manager._force_wakeup_fd:
                manager._epoll.modify(fd, select.EPOLLONESHOT)

    monkeypatch.setattr(arming, "_PROOF_S", 0.2)
    monkeypatch.setattr(trios.EpollIOManager, "process_events", disarms)
    assert not is_proved()


@pytest.mark.parametrize("others", [0, 1])
async def test_what_cannot_be_told_apart_is_left_alone(others: int) -> None:
    """Another epoll watches the same descriptor, or none that the kernel tells of does."""
    ours, peer = socket.socketpair()
    with ours, peer, select.epoll() as other:
        if others:
            peer.send(b".")
            await trio.lowlevel.wait_readable(ours)
            other.register(ours, 0)
        with armed(ours.fileno()) as is_armed:
            assert not is_armed
        trio.lowlevel.notify_closing(ours)


async def test_without_a_descriptor_left_it_is_not_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no reason to end a worker, which may have thousands of connections by then."""

    def dup(_: int) -> int:
        raise OSError(errno.EMFILE, "too many open files")

    ours, peer = socket.socketpair()
    with ours, peer:
        peer.send(b".")
        await trio.lowlevel.wait_readable(ours)
        monkeypatch.setattr("os.dup", dup)
        with armed(ours.fileno()) as is_armed:
            assert not is_armed
        trio.lowlevel.notify_closing(ours)


async def test_it_is_as_before_behind_the_context() -> None:
    """Trio arms it for each event again, and nothing is left of what was found."""
    ours, peer = socket.socketpair()
    with ours, peer:
        peer.send(b".")
        await trio.lowlevel.wait_readable(ours)
        before = len(os.listdir("/proc/self/fd"))
        with armed(ours.fileno()) as is_armed:
            assert is_armed
        assert len(os.listdir("/proc/self/fd")) == before
        passes = Passes()
        trio.lowlevel.add_instrument(passes)
        await trio.sleep(0.01)  # it is readable all the time
        trio.lowlevel.remove_instrument(passes)
        assert passes.number < 10
        with trio.fail_after(40):
            await trio.lowlevel.wait_readable(ours)
        trio.lowlevel.notify_closing(ours)


async def test_an_instrument_that_raised_is_replaced_by_the_task(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Trio asks it no more: all cameras would stand still, and Trio would never sleep."""
    with connected() as (receiver, peer):
        for _ in range(3):
            peer.send(b".")
            assert await receiver.receive()
            await trio.testing.wait_all_tasks_blocked()
            with trio.move_on_after(0):
                await receiver.receive()
        watch = receiver._readiness._watch
        assert watch is not None
        look, calls = watch._look, Counter[str]()

        def raise_once() -> None:
            calls["look"] += 1
            if calls["look"] == 1:
                raise MemoryError
            look()

        monkeypatch.setattr(type(watch), "_look", lambda _: raise_once())
        for number in range(3):
            peer.send(bytes([number]))
            with trio.fail_after(40):
                assert await receiver.receive() == bytes([number])
        assert calls["look"] > 1

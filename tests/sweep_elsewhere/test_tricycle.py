"""tricycle: a writer that gives up leaves readers parked. Buffered streams are clean."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest
import trio

from cfw.testing.sweep import SweepFailure, World, run_sweep, stream_pair, sweep
from tests.sweep_elsewhere import check_found, need

need("tricycle")
import tricycle

Locked = Callable[[], AbstractAsyncContextManager[None]]


async def _hold(locked: Locked, seconds: float) -> None:
    async with locked():
        await trio.sleep(seconds)


async def readers_and_a_writer(world: World) -> None:
    """The second reader comes while the writer waits for the first one."""
    lock = tricycle.RWLock()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_hold, lock.read_locked, 2)
        nursery.start_soon(_hold, lock.write_locked, 1)
        nursery.start_soon(_hold, lock.read_locked, 1)


def test_a_writer_that_gives_up_leaves_readers_parked() -> None:
    """Its abort function takes it out of the queue, and wakes nobody who could go on then."""
    with pytest.raises(SweepFailure) as caught:
        run_sweep(readers_and_a_writer, at="tasks", schedules=["fifo"])
    waits = "_rwlock.py:148 RWLock.acquire (wait_task_rescheduled)"
    check_found(caught.value, "left-behind", waits, "_hold#4 still waits at")


@sweep(at=["reader", "nurseries"], schedules=["fifo", "lifo", *range(4)])
async def test_a_buffered_stream_loses_nothing(world: World) -> None:
    """Clean: what a cancelled read had taken already is there for the next one."""
    ours, theirs = stream_pair()
    stream = tricycle.BufferedReceiveStream(ours)
    got: list[bytes] = []

    async def read() -> None:
        with trio.CancelScope() as scope, world.expose("reader", scope):
            while sum(map(len, got)) < 12:
                got.append(await stream.receive_exactly(4))

    async def write() -> None:
        for part in (b"ab", b"cdef", b"gh", b"ijkl"):
            await theirs.send_all(part)
            await trio.sleep(0.1)
        await theirs.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        nursery.start_soon(write)
    if world.injected in (None, "reader"):
        while part := await stream.receive(100):
            got.append(part)
        assert b"".join(got) == b"abcdefghijkl"

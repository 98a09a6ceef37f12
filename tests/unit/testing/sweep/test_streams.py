"""Streams in a sweep: a pair like TCP, its faults, and what it means that one is closed."""

from __future__ import annotations

import re
from typing import Any

import pytest
import trio
import trio.testing

from cfw.testing.sweep import MemoryStream, Report, SweepFailure, World, run_sweep, stream_pair


def found(scenario: Any, **settings: Any) -> SweepFailure:
    """Sweep a scenario that must fail; the failure."""
    with pytest.raises(SweepFailure) as caught:
        run_sweep(scenario, **settings)
    return caught.value


async def test_a_pair_is_of_use_after_a_cancelled_send(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """As a socket is, and trio's lockstep streams are not."""
    ours, theirs = stream_pair(window_bytes=4)
    with trio.move_on_after(1) as scope:
        await ours.send_all(b"123456")
    assert scope.cancelled_caught
    assert await theirs.receive_some() == b"1234"
    await ours.send_all(b"56")
    await ours.send_eof()
    assert await theirs.receive_some(1) == b"5"
    assert await theirs.receive_some() == b"6"
    assert await theirs.receive_some() == b""
    await theirs.send_all(b"half")
    assert await ours.receive_some() == b"half"


@pytest.mark.parametrize(("sizes", "over_at"), [([4], 1), ([5], 2), ([3, 4], 3), ([2, 2], 1)])
async def test_a_pace_is_kept_over_parts_and_whole_sends(
    autojump_clock: trio.testing.MockClock, sizes: list[int], over_at: float
) -> None:
    """Two bytes a second, from whatever sends they come; the first are out at once."""
    ours, theirs = stream_pair()
    theirs.pace(2, 1.0)
    came: list[tuple[float, bytes]] = []

    async def read() -> None:
        while data := await ours.receive_some():
            came.append((trio.current_time() - began, data))

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        for size in sizes:
            await theirs.send_all(b"x" * size)
        await theirs.send_eof()
    assert sum(len(data) for _, data in came) == sum(sizes)
    assert max(len(data) for _, data in came) <= 2
    assert [at for at, _ in came] == [*range(len(came))]
    assert came[-1][0] == over_at


async def test_a_pace_ends_with_the_pause_that_is_under_way(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Taken back in the middle of a send, or while nothing is sent; a wrong one is told."""
    ours, theirs = stream_pair()
    theirs.pace(1, 2.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(theirs.send_all, b"1234")
        await trio.sleep(1)
        theirs.pace(None)
    assert trio.current_time() == 2
    assert await ours.receive_some() == b"1234"
    for wrong in ((0, 1.0), (1, 0.0), (1, float("inf"))):
        with pytest.raises(ValueError, match="at least 1 byte each time"):
            theirs.pace(*wrong)


async def exchange(world: World, *, careful: bool, ours: Any = None) -> None:
    """Send a length and its bytes, twice; the careless one takes what comes for the whole."""
    pair = stream_pair()
    stream: MemoryStream = world.faults(world.track("ours", pair[0]), "peer")
    heard = bytearray()

    async def peer() -> None:
        async with pair[1]:
            for _ in range(2):
                data = await pair[1].receive_some()
                if not data:
                    return
                await pair[1].send_all(data)

    async def ask() -> None:
        async with stream:
            for _ in range(2):
                await stream.send_all(b"12345678")
                got = bytearray()
                while len(got) < 8:
                    part = await stream.receive_some(8 - len(got))
                    if not part:
                        return
                    got += part
                    if not careful:
                        break
                heard.extend(got)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer)
        with trio.move_on_after(5):
            try:
                await ask()
            except trio.BrokenResourceError:
                world.sometimes("broke")
        nursery.cancel_scope.cancel()
    world.check(lambda: bytes(heard) in (b"", b"12345678", b"12345678" * 2), "whole answers")


def test_each_call_goes_wrong_in_each_way_once() -> None:
    """Enumerated like cancels: two sends in three ways, two receives in four."""

    async def scenario(world: World) -> None:
        await exchange(world, careful=True)

    report: Report = run_sweep(
        scenario, at="faults", schedules=["fifo"], sometimes=["broke"], params=[{}]
    )
    assert report.points == report.ran == 2 * 3 + 2 * 4
    assert report.sometimes == {"broke": True}


def test_a_reader_that_takes_a_part_for_the_whole_is_found_and_replayed() -> None:
    """Half of an answer is what a network may give, or one byte of it."""

    async def scenario(world: World) -> None:
        await exchange(world, careful=False)

    failure = found(scenario, at="faults")
    assert failure.invariant == "whole answers"
    assert re.search("'fault:peer.(send#. short|receive#. one byte)' fired", str(failure))
    with pytest.raises(SweepFailure) as again:
        run_sweep(scenario, replay=failure.token)
    assert again.value.invariant == "whole answers"


def test_what_broke_stays_broken() -> None:
    """A second send on a connection that broke raises again, without being counted."""
    seen: list[str] = []

    async def scenario(world: World) -> None:
        one, two = stream_pair()
        world.faults(one)
        seen.clear()
        for _ in range(3):
            try:
                await one.send_all(b"abcd")
            except trio.BrokenResourceError:
                seen.append("broken")
        one.close()
        two.close()
        got = bytes(two._in.data)
        world.check(lambda: world.injected is None or len(seen) in (1, 2, 3), "again")
        world.sometimes("half", got == b"ab" and len(seen) == 3)
        world.sometimes("stalls", world.injected is not None and not seen)

    # A send that stalls for ever is never over.
    failure = found(scenario, at="faults", schedules=["fifo"], sometimes=["half"])
    assert failure.invariants == ("finished",)
    assert "stalls" in failure.failures[0].details
    assert failure.report.sometimes["half"]


def test_only_streams_have_faults_and_each_name_once() -> None:
    """Said where it is asked, not at the first run that fires one."""
    world = World()
    with pytest.raises(TypeError, match="no stream"):
        world.faults(object())
    one, two = stream_pair()
    world.faults(one, "peer")
    with pytest.raises(ValueError, match="name of its own"):
        world.faults(two, "peer")
    with pytest.raises(ValueError, match="reserved"):
        world.expose("fault:x", lambda: None)


@pytest.mark.parametrize("halves", [0, 1, 2, 3])
def test_a_stapled_stream_is_closed_when_both_halves_are(halves: int) -> None:
    """Together or each by itself; one of them is half a leak."""

    async def scenario(world: World) -> None:
        one, _ = trio.testing.memory_stream_pair()
        world.track("stapled", one)
        if halves & 1:
            await one.send_stream.aclose()
        if halves & 2:
            await one.receive_stream.aclose()

    if halves == 3:
        run_sweep(scenario)
        return
    failure = found(scenario)
    left = "send_stream" if not halves & 1 else "receive_stream"
    assert f"stapled: {left}: times closed: 0, not at least once" in str(failure)


def test_a_stream_may_be_closed_twice_and_reset_is_a_close() -> None:
    """Trio promises that a second close does no harm; other resources promise nothing."""

    async def scenario(world: World) -> None:
        one, two = stream_pair()
        world.track("one", one)
        world.track("two", two)
        await one.aclose()
        await one.aclose()
        two.reset()

    run_sweep(scenario)

    async def strict(world: World) -> None:
        one, _ = stream_pair()
        world.track("one", one, closes={1})
        await one.aclose()
        await one.aclose()

    assert "times closed: 2, not 1" in str(found(strict))


def test_a_check_registered_too_early_is_said_and_no_alarm() -> None:
    """It reads a variable that a run which was cut before never set."""

    async def scenario(world: World) -> None:
        def wrong() -> None:
            assert result == 1

        world.check(wrong)
        with trio.CancelScope() as scope, world.expose("scope", scope):
            await trio.sleep(1)
            result = 1

    report = run_sweep(scenario, at="scope", schedules=["fifo"])
    assert 0 < report.not_asked["wrong"] < report.runs
    assert "not asked: wrong" in report.row()


def test_a_check_that_no_run_could_be_asked_fails_the_sweep() -> None:
    """Nobody else would notice."""

    async def scenario(world: World) -> None:
        def wrong() -> None:
            assert result == 1

        world.check(wrong)
        if world.injected == "never":
            result = 1
        await trio.sleep(1)

    assert found(scenario).invariants == ("asked:wrong",)


def test_a_check_registered_too_late_raises() -> None:
    """Such as by another check: nothing would ask it."""

    async def scenario(world: World) -> None:
        world.check(lambda: world.check(lambda: False, "inner"), "outer")

    assert "too late" in str(found(scenario))

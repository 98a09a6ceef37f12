"""What leaves a block that has tasks beside it."""

from __future__ import annotations

import gc
import weakref

import pytest
import trio
from trio.testing import MockClock

from cfw.tasks.nurseries import first_leaf, leaves, open_plain_nursery


class Told(Exception):
    """What a block raises."""


async def fail(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    "error", [Told(), KeyboardInterrupt(), ExceptionGroup("of the block", [Told()])]
)
async def test_what_the_block_raises_leaves_as_it_is(error: BaseException) -> None:
    """Also a group of its own; the task is cancelled."""
    caught: BaseException | None = None
    try:
        async with open_plain_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            raise error
    except BaseException as exc:
        caught = exc
    assert caught is error


async def test_the_end_of_the_block_cancels_the_tasks(autojump_clock: MockClock) -> None:
    """At once, and a task that shields itself is waited for."""

    async def linger() -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(3)

    async with open_plain_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        nursery.start_soon(linger)
    assert trio.current_time() == 3


@pytest.mark.parametrize("is_swallowed", [False, True], ids=["cancelled", "swallowed"])
async def test_what_a_task_raises_leaves_in_no_group(is_swallowed: bool) -> None:
    """Whatever the block makes of being cancelled for it."""
    pressed = KeyboardInterrupt()
    caught: BaseException | None = None
    try:
        async with open_plain_nursery() as nursery:
            nursery.start_soon(fail, pressed)
            try:
                await trio.sleep_forever()
            finally:
                if is_swallowed:
                    raise Told
    except BaseException as exc:
        caught = exc
    assert caught is pressed


async def test_a_cancellation_from_outside_is_the_scopes_of_the_outside(
    autojump_clock: MockClock,
) -> None:
    """It is neither swallowed nor taken out of its scope, wherever it strikes."""
    with trio.move_on_after(1) as scope:
        async with open_plain_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            await trio.sleep_forever()
    assert scope.cancelled_caught
    with trio.CancelScope() as inner:
        async with open_plain_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            nursery.cancel_scope.cancel()
            await trio.sleep_forever()
    assert not inner.cancelled_caught
    assert trio.current_time() == 1


async def test_nothing_is_held_by_a_failure_that_was_raised() -> None:
    """The frame of the nursery and the traceback do not hold each other."""
    gc.collect()
    gc.disable()
    try:
        ref = await _fail_once()
        await trio.lowlevel.checkpoint()
        assert ref() is None
    finally:
        gc.enable()


async def _fail_once() -> weakref.ref[Told]:
    told = Told()
    ref = weakref.ref(told)
    try:
        async with open_plain_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            raise told
    except Told:
        del told
    return ref


def test_the_leaves_of_a_group() -> None:
    """In their order, however deep they are."""
    one, two = Told(), Told()
    group = ExceptionGroup("", [ExceptionGroup("", [one]), two])
    assert list(leaves(group)) == [one, two]
    assert first_leaf(group) is one
    assert first_leaf(two) is two

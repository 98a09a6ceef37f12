"""A test that hangs is named and ended, and the tests behind it run as if nothing had been."""

from __future__ import annotations

import pytest

HANGING = """
import pytest
import trio

pytest_plugins = ["tests.time_limit"]

@pytest.fixture
async def thing():
    yield
    print("put away")

@pytest.mark.timeout(0.5)
async def test_waits_for_ever(thing):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.Event().wait)

@pytest.mark.timeout(0.5)
async def test_never_waits(thing):
    while True:
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled:
            return

@pytest.mark.timeout(0.5)
def test_a_run_of_its_own():
    trio.run(trio.testing.wait_all_tasks_blocked)
    trio.run(hang)

async def hang():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)

async def test_behind_it(thing):
    pass
"""


def test_a_test_that_hangs_fails_alone(pytester: pytest.Pytester) -> None:
    """It is told where its tasks stood, its fixtures are put away, and the next one passes."""
    pytester.makepyfile(HANGING)
    ran = pytester.runpytest_subprocess("-o", "trio_mode=true", "-p", "no:cacheprovider", "-v")
    ran.assert_outcomes(failed=3, passed=1)
    text = ran.stdout.str()
    assert text.count("took longer than 0.5 s; its tasks stood at") >= 3
    assert "trio.Event.wait: " in text
    assert text.count("put away") >= 2

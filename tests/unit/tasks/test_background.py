"""Tasks beside the captures: none of them ends the worker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog
import trio
from structlog.testing import LogCapture
from trio.testing import MockClock

from cfw.plugins import OutOfReach
from cfw.tasks.background import LONGEST_PAUSE_S, PAUSE_S, running_beside


@pytest.fixture
def log() -> Iterator[LogCapture]:
    """What is logged."""
    capture = LogCapture()
    before = structlog.get_config()
    structlog.configure(processors=[capture])
    yield capture
    structlog.configure(**before)


class Task:
    """Notes when it is started, and does something else each time; at last it stays."""

    def __init__(self, *steps: BaseException | float | None) -> None:
        self.started: list[float] = []
        self._steps = [*steps]

    async def run(self) -> None:
        self.started.append(trio.current_time())
        if not self._steps:
            await trio.sleep_forever()
        step = self._steps.pop(0)
        if isinstance(step, BaseException):
            raise step
        await trio.sleep(step or 0)


async def test_a_task_that_fails_ends_nothing_and_starts_again(
    autojump_clock: MockClock, log: LogCapture
) -> None:
    """Whatever it raises, a group included, or if it just ends; the pause doubles."""
    failures = [
        OutOfReach("away"),
        KeyError("bug"),
        ExceptionGroup("bugs", [OSError(), ValueError()]),
        None,
    ]
    task = Task(*failures)
    began = trio.current_time()
    async with running_beside("sinks.mine", task.run):
        await trio.sleep(60)
    assert [started - began for started in task.started] == pytest.approx(
        [0, 0.5, 1.5, 3.5, 7.5]
    )
    said = [(entry["event"], entry["log_level"], entry["task"]) for entry in log.entries]
    assert said == [
        ("background.ended", "warning", "sinks.mine"),
        ("background.failed", "error", "sinks.mine"),
        ("background.failed", "error", "sinks.mine"),
        ("background.ended", "warning", "sinks.mine"),
    ]
    assert log.entries[0]["detail"] == "away"


async def test_the_pause_has_a_limit_and_is_short_again(
    autojump_clock: MockClock, log: LogCapture
) -> None:
    """At most half a minute; a task that had run for longer was well."""
    task = Task(*10 * [KeyError()], LONGEST_PAUSE_S + 1)
    async with running_beside("sinks.mine", task.run):
        await trio.sleep(600)
    pauses = [later - one for one, later in zip(task.started, task.started[1:], strict=False)]
    assert pauses[0] == pytest.approx(PAUSE_S)
    assert pauses[6:10] == pytest.approx(4 * [LONGEST_PAUSE_S])
    assert pauses[10] == pytest.approx(LONGEST_PAUSE_S + 1 + PAUSE_S)


async def test_the_end_of_the_block_ends_the_task(autojump_clock: MockClock) -> None:
    """And an error of the block comes out as it is; so does a cancellation."""
    task = Task()

    async def fail() -> None:
        async with running_beside("sinks.mine", task.run):
            await trio.testing.wait_all_tasks_blocked()
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await fail()
    assert len(task.started) == 1
    with trio.move_on_after(1) as scope:
        async with running_beside("sinks.mine", task.run):
            await trio.sleep_forever()
    assert scope.cancelled_caught


async def test_what_is_no_exception_goes_on_outwards(autojump_clock: MockClock) -> None:
    """Ctrl-C is not a failure of a task; it leaves as it is, in no group."""
    with pytest.raises(KeyboardInterrupt):
        async with running_beside("sinks.mine", Task(KeyboardInterrupt()).run):
            await trio.sleep_forever()

"""How often live viewers get a frame: unhurried while captures need the loop."""

from __future__ import annotations

import pytest
import trio

from cfw.admin._pace import (
    BETWEEN_S,
    FIRST_REST_S,
    LONGEST_REST_S,
    PLENTY,
    SELDOM_S,
    WINDOW_S,
    LivePace,
)
from cfw.sinks.hub import Hub
from tests.patience import PATIENCE_S, until
from tests.unit.admin.served import hub_app, served
from tests.unit.admin.test_feed import feed
from tests.unit.sinks.items import frame, running


class Loop:
    """An event loop as a pace sees it: windows of which a share was slept."""

    def __init__(self) -> None:
        self.now = 100.0
        self.pace = LivePace(lambda: self.now)

    async def look(self) -> None:
        """Have a viewer rest, at a time when the pace looks at the loop."""
        self.now = max(self.now + BETWEEN_S, self.pace._look_again)
        with trio.move_on_after(0):
            await self.pace.rest()

    async def window(self, idle: float) -> float:
        """One window; answers the rest behind it."""
        await self.look()
        self.now += WINDOW_S * (1 - idle)
        self.pace.before_io_wait(1)
        self.now += WINDOW_S * idle + 1e-9
        self.pace.after_io_wait(1)
        return self.pace.rest_s


async def test_with_time_to_spare_viewers_soon_rest_no_more() -> None:
    """Each idle window shortens the rest, down to none."""
    loop = Loop()
    with loop.pace.viewer():
        rests = [await loop.window(0.9) for _ in range(10)]
    assert rests == sorted(rests, reverse=True)
    assert rests[0] < FIRST_REST_S
    assert rests[-1] == 0


async def test_on_a_busy_loop_viewers_rest_up_to_the_longest() -> None:
    """Two windows are enough, and it is never more than the longest."""
    loop = Loop()
    with loop.pace.viewer():
        while await loop.window(1):
            pass
        rests = [await loop.window(0.1) for _ in range(4)]
    assert rests == [FIRST_REST_S, LONGEST_REST_S, LONGEST_REST_S, LONGEST_REST_S]


async def test_a_look_at_the_sockets_with_tasks_waiting_is_no_sleep() -> None:
    """However long the kernel took for it."""
    loop = Loop()
    with loop.pace.viewer():
        await loop.look()
        loop.pace.before_io_wait(0)
        loop.now += 1.01 * WINDOW_S
        loop.pace.after_io_wait(0)
    assert loop.pace.rest_s > FIRST_REST_S


@pytest.mark.parametrize("load", [0.3, 0.8, 2, 10, 40])
async def test_viewers_who_are_the_load_come_to_a_standstill(load: float) -> None:
    """The rest does not swing between none and the longest.

    `load` is the share of the loop that viewers would use with a rest of 0.1 s.
    """
    loop = Loop()
    with loop.pace.viewer():
        rests = []
        for _ in range(100):
            busy = min(load * 0.1 / max(loop.pace.rest_s, 1 / 30), 1)
            rests.append(await loop.window(1 - busy))
    assert len(set(rests[50:])) == 1


async def test_the_loop_is_looked_at_now_and_then_while_somebody_views() -> None:
    """Not between two windows, and not without viewers; the next one begins anew."""
    loop = Loop()

    def is_looking() -> bool:
        try:
            trio.lowlevel.remove_instrument(loop.pace)
        except KeyError:
            return False
        trio.lowlevel.add_instrument(loop.pace)
        return True

    with loop.pace.viewer():
        assert not is_looking()
        with loop.pace.viewer():
            await loop.look()
            assert is_looking()
            assert await loop.window(0) == LONGEST_REST_S
            assert not is_looking()
            await loop.look()
        assert is_looking()
    assert not is_looking()
    with loop.pace.viewer():
        assert loop.pace.rest_s == FIRST_REST_S


@pytest.mark.parametrize(
    ("idle", "until_next_s"),
    [(PLENTY - 0.01, BETWEEN_S), (PLENTY + 0.01, SELDOM_S)],
)
async def test_a_loop_with_plenty_of_time_is_looked_at_less_often(
    idle: float, until_next_s: float
) -> None:
    """And a load that comes then is met at the next look."""
    loop = Loop()
    with loop.pace.viewer():
        while await loop.window(1):
            pass
        await loop.window(idle)
        assert loop.pace._look_again == pytest.approx(loop.now + until_next_s)
        assert await loop.window(0.1) == FIRST_REST_S
        assert loop.pace._look_again == pytest.approx(loop.now + BETWEEN_S)


async def test_a_loop_that_viewers_still_rest_for_is_looked_at_as_often_as_ever() -> None:
    """However idle it is: they rest no longer than they have to."""
    loop = Loop()
    with loop.pace.viewer():
        assert await loop.window(1) > 0
        assert loop.pace._look_again == pytest.approx(loop.now + BETWEEN_S)


async def test_live_viewers_leave_a_busy_loop_to_the_capture() -> None:
    """A capture as fast as the loop goes round: the viewer gets next to none of its frames."""
    hub = Hub()
    got = 0

    async def view() -> None:
        nonlocal got
        async with feed(server, "?mode=live") as client:
            async for message in client:
                got += isinstance(message, bytes)

    with trio.fail_after(PATIENCE_S):
        async with served(hub_app(hub)) as server, trio.open_nursery() as nursery:
            nursery.start_soon(view)
            await until(lambda: hub.subscribers)
            async with running(hub) as capture:
                sent, end = 0, trio.current_time() + 1.5
                while trio.current_time() < end:
                    sent += 1
                    await capture.send(frame(sent))
                    await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
    assert 1 <= got <= sent / 20

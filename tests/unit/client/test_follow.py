"""`follow_feed`: a feed that is read over its losses, by virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from cfw.client import (
    AccessDenied,
    ConnectionLost,
    ConnectionRefused,
    FeedOutage,
    follow_feed,
)
from cfw.client._retry import LONGEST_PAUSE_S, PAUSE_S, PROVEN_S

#: Of one time that a feed is opened: how long it lasts, or why it cannot be.
Script = float | ConnectionLost
GONE = ConnectionRefused("nobody listens there")


class Watched:
    """Feeds that last or fail by a script; the one behind the last is enough."""

    def __init__(self, *scripts: Script) -> None:
        self._left = [*scripts]
        self.opened_at: list[float] = []
        self.told: list[FeedOutage | None] = []

    @asynccontextmanager
    async def opening(self) -> AsyncIterator[Any]:
        self.opened_at.append(trio.current_time())
        script = self._left.pop(0) if self._left else None
        if isinstance(script, ConnectionLost):
            raise script
        yield script

    async def read(self, script: float | None) -> bool:
        if script is None:
            return True
        await trio.sleep(script)
        return False

    async def follow(self, *, is_patient: bool = False) -> None:
        await follow_feed(
            self.opening,
            self.read,
            on_open=self.told.append,
            on_loss=self.told.append,
            is_patient=is_patient,
        )

    @property
    def pauses(self) -> list[float]:
        return [later - sooner for sooner, later in pairwise(self.opened_at)]


async def test_pauses_double_up_to_the_longest_and_are_never_quite_the_same(
    autojump_clock: MockClock,
) -> None:
    """From half of what has been reached to all of it, so that no two readers keep in step."""
    one, other = (Watched(0, *9 * [GONE]) for _ in range(2))
    await one.follow()
    await other.follow()
    reached = PAUSE_S
    for pause, another in zip(one.pauses, other.pauses, strict=True):
        assert reached / 2 <= pause <= reached
        assert reached / 2 <= another <= reached
        reached = min(2 * reached, LONGEST_PAUSE_S)
    assert reached == LONGEST_PAUSE_S
    assert one.pauses != other.pauses


async def test_a_feed_that_ends_as_soon_as_it_is_open_is_trouble_too(
    autojump_clock: MockClock,
) -> None:
    """Only one that lasted has the pauses begin anew."""
    flapping = Watched(*8 * [PROVEN_S - 1])
    await flapping.follow()
    assert flapping.pauses[-1] - (PROVEN_S - 1) >= LONGEST_PAUSE_S / 2
    lasting = Watched(*8 * [PROVEN_S + 1])
    await lasting.follow()
    assert all(pause - (PROVEN_S + 1) <= PAUSE_S + 1e-9 for pause in lasting.pauses)


async def test_a_loss_is_told_once_and_how_long_it_was(autojump_clock: MockClock) -> None:
    """However many attempts it took; the second text says what became of what was sent."""
    lost = ConnectionLost("the worker closed the feed with code 1008 (too slow)", 1008)

    class Slow(Watched):
        async def read(self, script: float | None) -> bool:
            if await super().read(script):
                return True
            raise lost

    watched = Slow(10, GONE, GONE)
    await watched.follow()
    first, loss, back = watched.told
    assert first is None
    assert loss == FeedOutage(lost.detail)
    assert back is not None
    assert back.lasted_s == pytest.approx(sum(watched.pauses) - 10)
    assert f"{loss}" == f"{lost}; trying again"
    assert f"{back}" == (
        f"connected again after {back.lasted_s:.1f} s; what was sent meanwhile is missing"
    )


async def test_what_was_never_there_is_an_error_unless_it_is_waited_for(
    autojump_clock: MockClock,
) -> None:
    """A token that is refused is not tried again; a proxy's 404 for a worker once there is."""
    with pytest.raises(ConnectionRefused):
        await Watched(GONE).follow()
    patient = Watched(GONE, GONE)
    await patient.follow(is_patient=True)
    assert [outage and outage.lasted_s is None for outage in patient.told] == [True, False]
    await Watched(1, ConnectionRefused("HTTP status 404", status=404)).follow()
    with pytest.raises(AccessDenied):
        await Watched(1, AccessDenied("who are you", status=401)).follow(is_patient=True)


async def test_what_reading_raises_leaves_as_it_is(autojump_clock: MockClock) -> None:
    """A bug of the reader is no loss of the feed."""

    class Broken(Watched):
        async def read(self, script: float | None) -> bool:
            raise KeyError(script)

    watched = Broken(1)
    with pytest.raises(KeyError):
        await watched.follow()
    assert watched.told == [None]

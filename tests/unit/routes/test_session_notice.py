"""An authority that hears of a change has the session checked again at once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import trio
from trio.testing import MockClock

from cfw.sessions import NotifyingAuthority, SessionStatus
from cfw.testing.fakes import ScriptedAuthority
from schemas import ErrorCode
from tests.unit.routes.kit import bench


class Notifying(ScriptedAuthority):
    """Tells whoever watches a session when a test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.watchers: dict[tuple[str, str], Callable[[], object]] = {}

    @contextlib.contextmanager
    def on_change(
        self, user_id: str, session_id: str, changed: Callable[[], object]
    ) -> Iterator[None]:
        self.watchers[user_id, session_id] = changed
        try:
            yield
        finally:
            del self.watchers[user_id, session_id]


async def test_a_revoked_session_ends_its_capture_at_once(autojump_clock: MockClock) -> None:
    """The check comes with the notice, seconds before the re-check would be due."""
    authority = Notifying()
    assert isinstance(authority, NotifyingAuthority)
    async with bench(authority=authority) as table:
        rig = await table.capture()
        await rig.frame(1)
        await trio.sleep(1)
        authority.flip(SessionStatus.CLOSED)
        (changed,) = authority.watchers.values()
        changed()
        ending = await rig.ending()
        assert ending.aborts[0].error_code is ErrorCode.SESSION_CLOSED
        assert authority.asked_at[-1] - authority.asked_at[0] == 1
    assert authority.watchers == {}


async def test_notices_without_a_change_do_no_harm(autojump_clock: MockClock) -> None:
    """However many come at once, also while a check is under way, which is then repeated."""
    authority = Notifying()
    authority.delay_s = 0.5
    async with bench(authority=authority) as table:
        rig = await table.capture()
        await rig.frame(1)
        await trio.sleep(1)
        (changed,) = authority.watchers.values()
        for _ in range(5):
            changed()
        await trio.sleep(0.2)
        for _ in range(5):
            changed()
        await trio.sleep(2)
        assert [at - authority.asked_at[0] for at in authority.asked_at] == [0, 1, 1.5]
        await rig.frame(2)
        authority.flip(SessionStatus.INVALID)
        changed()
        assert (await rig.ending()).aborts[0].error_code is ErrorCode.SESSION_INVALID

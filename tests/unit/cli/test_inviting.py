"""Invitations of several workers: what each asks its supervisor, and what it does without."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from structlog.testing import capture_logs

from cfw.cli.inviting import ANSWER_S, MAX_QUESTION_BYTES, FarInvitations, answer_worker
from cfw.cli.lifeline import stream_of
from cfw.identity import (
    Invitations,
    InvitationsOutOfReach,
    Inviting,
    NotInvited,
    TooManyInvitations,
)
from tests.patience import PATIENCE_S


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[FarInvitations, Invitations, trio.CancelScope]]:
    """A worker's side, what the supervisor keeps, and what ends the supervisor."""
    ours, theirs = socket.socketpair()
    kept = Invitations(600, 600, 2)
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer_worker, ours, kept)
            async with FarInvitations(theirs.detach()) as far:
                yield far, kept, nursery.cancel_scope
            nursery.cancel_scope.cancel()


async def test_a_worker_asks_for_all_that_the_supervisor_knows() -> None:
    """The same answers and the same errors as from the one that keeps them."""
    async with pair() as (far, kept, _):
        worker: Inviting = far
        secret = await worker.invite("ada", "Sitzung \N{SNOWMAN}")
        assert secret.invitation.session_id == "Sitzung \N{SNOWMAN}"
        given = await worker.use(secret.text)
        found = await worker.find(given.text)
        assert found is not None
        assert found.invitation_id == secret.invitation.invitation_id
        assert await worker.find("nobody") is None
        assert await worker.holds(found.invitation_id)
        with pytest.raises(NotInvited, match="used already"):
            await worker.use(secret.text)
        await kept.invite("ada", "s1")
        await kept.invite("ada", "s1")
        with pytest.raises(TooManyInvitations, match="max_open"):
            await worker.invite("ada", "s1")
        assert len(await worker.listed()) == 3
        assert await worker.take_back(found.invitation_id)
        assert not await worker.take_back(found.invitation_id)
        assert not await kept.holds(found.invitation_id)


async def test_questions_at_once_get_each_its_own_answer() -> None:
    """From as many connections as a worker has."""
    async with pair() as (far, kept, _):
        given = await kept.use((await kept.invite("ada", "s1")).text)
        answers: list[bool] = []

        async def ask(text: str, is_known: bool) -> None:
            answers.append((await far.find(text) is not None) is is_known)

        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(ask, given.text, True)
                nursery.start_soon(ask, "nobody", False)
        assert answers == [True] * 100


async def test_an_answer_that_nobody_waits_for_is_no_other_s() -> None:
    """A question given up leaves its answer behind, which is read over."""
    async with pair() as (far, kept, _):
        given = await kept.use((await kept.invite("ada", "s1")).text)
        for _ in range(20):
            with trio.move_on_after(0):
                await far.find(given.text)
            assert await far.find("nobody") is None
        assert await far.find(given.text) is not None


async def test_a_supervisor_that_is_gone_is_told() -> None:
    """Once in the log, and to each who asks; nobody is let in."""
    async with pair() as (far, _, supervisor):
        assert await far.listed() == []
        supervisor.cancel()
        with capture_logs() as logs, trio.CancelScope(shield=True):
            for _ in range(3):
                with pytest.raises(InvitationsOutOfReach):
                    await far.find("a pass")
        assert [line["event"] for line in logs] == ["invitations.lost"]


async def test_a_supervisor_that_is_late_is_asked_again() -> None:
    """What stood still for a while is held against nobody."""
    ours, theirs = socket.socketpair()
    async with FarInvitations(theirs.detach()) as far:
        started = trio.current_time()
        with pytest.raises(InvitationsOutOfReach):
            await far.find("a pass")
        assert trio.current_time() - started >= ANSWER_S
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer_worker, ours, Invitations(600, 600, 2))
            with trio.fail_after(PATIENCE_S):
                assert await far.find("a pass") is None
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "line",
    [b"nonsense", b'[1, "__init__"]', b"[1]", b'[1, "use", 3]', b"x" * MAX_QUESTION_BYTES * 2],
    ids=["no-json", "no-method", "nothing", "no-text", "too-long"],
)
async def test_a_worker_that_asks_what_is_no_question_is_left(line: bytes) -> None:
    """It is not answered again, and the others are."""
    ours, theirs = socket.socketpair()
    asking = stream_of(theirs)
    with capture_logs() as logs, trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(answer_worker, ours, Invitations(600, 600, 2))
            async with asking:
                await asking.send_all(line + b"\n")
                assert await asking.receive_some() == b""
    assert [entry["event"] for entry in logs] == ["invitations.odd"]


async def test_what_is_too_long_for_a_question_is_no_invitation() -> None:
    """Whoever shows it; the supervisor never hears of it."""
    async with pair() as (far, _, _):
        with pytest.raises(NotInvited):
            await far.use("x" * MAX_QUESTION_BYTES)
        assert json.dumps(await far.listed()) == "[]"

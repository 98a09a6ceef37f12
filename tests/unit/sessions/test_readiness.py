"""A worker is not ready while its session authority is away, and for no other reason of its."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import httpx
import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from cfw.limits import Times
from cfw.metrics import Metrics
from cfw.routes.session import OWN_QUESTION, PAUSE_S, Sessions
from cfw.service import Verdict
from cfw.sessions import SessionStatus
from cfw.testing.fakes import Answer, ScriptedAuthority
from tests.patience import PATIENCE_S
from tests.unit.sessions.readiness import capture, readyz
from tests.unit.sessions.scripted import http, says, scripted_server
from tests.whole.smoke.worker import Worker, running


class FickleAuthority(ScriptedAuthority):
    """Answers rigs as written, and the worker's own question by itself."""

    own: Answer = SessionStatus.INVALID

    async def check(self, user_id: str, session_id: str) -> SessionStatus:
        if (user_id, session_id) != OWN_QUESTION:
            return await super().check(user_id, session_id)
        self.asked.append(OWN_QUESTION)
        self.asked_at.append(trio.current_time())
        return await ScriptedAuthority([self.own]).check(user_id, session_id)


async def says_soon(worker: Worker, status: str) -> None:
    """Wait until `/readyz` says this."""
    with trio.fail_after(PATIENCE_S):
        while (await readyz(worker))["status"] != status:  # noqa: ASYNC110 - a real socket
            await trio.sleep(0.01)


# --- a real worker and a real server ---------------------------------------------------------


@pytest.mark.parametrize("status", ["500 Oops", "503 Unavailable", "429 Slow down"])
async def test_an_authority_that_can_serve_nobody_makes_a_worker_unready_until_it_can(
    monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    """No rig has to come for that: behind a balancer none does."""
    answers = [http(b"", status=status)]

    async def answer(stream: trio.abc.Stream) -> None:
        await answers[0](stream)

    async with (
        scripted_server(answer) as server,
        running(
            monkeypatch,
            sessions__url=server.url,
            sessions__static=[],
            times__session_recheck_s=0.05,
        ) as worker,
    ):
        assert await capture(worker) == 1008
        await says_soon(worker, "authority_unreachable")
        assert len(server.requests) >= 2
        answers[0] = says("invalid")
        await says_soon(worker, "ready")
        answers[0] = says("active")
        assert await capture(worker) == 1000


async def test_an_authority_that_is_gone_and_comes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its process was restarted; the metric says what `/readyz` says."""

    async def shown(worker: Worker) -> str:
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.get(f"{worker.addresses.admin}/metrics")
        name = "cfw_session_authority_reachable"
        return next(x for x in answer.text.splitlines() if x.startswith(f"{name} "))

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    async with running(
        monkeypatch,
        sessions__url=f"http://127.0.0.1:{port}/check",
        sessions__static=[],
        times__session_recheck_s=0.05,
    ) as worker:
        assert await readyz(worker) == {"status": "ready"}
        assert await capture(worker) == 1008
        await says_soon(worker, "authority_unreachable")
        assert await shown(worker) == "cfw_session_authority_reachable 0.0"
        async with scripted_server(says("active"), port=port):
            await says_soon(worker, "ready")
            assert await shown(worker) == "cfw_session_authority_reachable 1.0"
            assert await capture(worker) == 1000


# --- exact times ------------------------------------------------------------------------------


def make(authority: ScriptedAuthority) -> tuple[Sessions, Metrics]:
    metrics = Metrics()
    return Sessions(authority, Times(), metrics), metrics


async def ask(sessions: Sessions) -> Verdict:
    """What a rig gets to know."""
    log: Any = _Quiet()
    return await sessions.verdict_of("ada", "s-1", log)


def is_up(metrics: Metrics) -> bool:
    """What `/readyz` goes by."""
    return metrics.is_authority_reachable


class _Quiet:
    def __getattr__(self, _: str) -> Any:
        return lambda *_, **__: None


async def test_it_asks_only_when_in_doubt_and_until_somebody_answers(
    autojump_clock: MockClock,
) -> None:
    """At once, and then every session_recheck_s, each time for at most session_check_s."""
    authority = FickleAuthority(["down"])
    authority.own = "stall"
    sessions, metrics = make(authority)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sessions.watch)
        await trio.sleep(20)
        assert authority.asked == []
        assert await ask(sessions) is Verdict.UNREACHABLE
        assert is_up(metrics)
        with capture_logs() as lines:
            await trio.sleep(3)
        assert not is_up(metrics)
        assert [line["event"] for line in lines] == ["session.out_of_reach"]
        assert "no answer within 2 s" in lines[0]["detail"]
        authority.own = ValueError("a bug of theirs")
        await trio.sleep(10)
        assert not is_up(metrics)
        authority.own = "odd"  # also that is an answer
        with capture_logs() as lines:
            await trio.sleep(60)
        assert is_up(metrics)
        assert [line["event"] for line in lines] == ["session.reachable"]
        assert authority.asked_at == [20, 20, 27, 32, 37]
        nursery.cancel_scope.cancel()


async def test_rigs_cause_no_flood_of_questions(autojump_clock: MockClock) -> None:
    """However often a check fails, the worker's own question is asked once a second."""
    authority = FickleAuthority(["down"])
    sessions, metrics = make(authority)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sessions.watch)
        for _ in range(100):
            await ask(sessions)
            await trio.sleep(0.1)
            assert is_up(metrics)
        nursery.cancel_scope.cancel()
    pairs = zip(authority.asked_at, authority.asked, strict=True)
    own = [at for at, asked in pairs if asked == OWN_QUESTION]
    assert len(own) <= 100 * 0.1 / PAUSE_S + 1
    assert all(later - sooner >= PAUSE_S for sooner, later in pairwise(own))


async def test_a_rig_that_is_answered_ends_an_outage(autojump_clock: MockClock) -> None:
    """Also of an authority that fails for everybody whom it does not know."""
    authority = FickleAuthority(["down", SessionStatus.ACTIVE])
    authority.own = "down"
    sessions, metrics = make(authority)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sessions.watch)
        await ask(sessions)
        await trio.sleep(7)
        assert not is_up(metrics)
        assert await ask(sessions) is Verdict.ACTIVE
        asked = len(authority.asked)
        await trio.sleep(60)
        assert is_up(metrics)
        assert len(authority.asked) == asked
        nursery.cancel_scope.cancel()


async def test_an_odd_answer_is_no_sign_that_an_outage_is_over(
    autojump_clock: MockClock,
) -> None:
    """A gateway may refuse an odd id itself while what stands behind it is down."""
    authority = FickleAuthority(["down", "odd"])
    authority.own = "down"
    sessions, metrics = make(authority)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sessions.watch)
        await ask(sessions)
        await trio.sleep(1)
        assert await ask(sessions) is Verdict.UNREACHABLE
        await trio.sleep(60)
        assert not is_up(metrics)
        nursery.cancel_scope.cancel()
    assert metrics.session_checks["unanswered"].count == 1
    assert metrics.session_checks["unreachable"].count == 1

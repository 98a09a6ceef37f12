"""The session authority: asked so that whatever it does is an answer, and watched."""

from __future__ import annotations

from typing import Any, NoReturn

import structlog
import trio

from cfw.limits import Times
from cfw.metrics import CheckResult, Metrics
from cfw.service import Verdict
from cfw.sessions import AuthorityUnreachable, SessionAuthority, SessionStatus, UnusableAnswer
from cfw.wire import hold_after

#: What the worker asks to learn whether anybody answers: user_id and session_id of nobody.
OWN_QUESTION = ("cfw-readiness", "cfw-readiness")
#: From one such question that was answered to the next, so that rigs cause no flood of them.
PAUSE_S = 1.0

_RESULTS: dict[SessionStatus, CheckResult] = {
    SessionStatus.ACTIVE: "active",
    SessionStatus.CLOSED: "closed",
    SessionStatus.INVALID: "invalid",
}

_log: structlog.stdlib.BoundLogger = structlog.get_logger("cfw.server")


class Sessions:
    """Asks an authority for verdicts, and knows whether it can be reached.

    A rig chooses what a check asks, and its question may be the only one without an answer. So
    no check makes the authority count as away. It raises a doubt, and a question of the
    worker's own decides.

    Args:
        authority: who is asked.
        times: how long an answer may take, and how often to ask again.
        metrics: told of each check, and whether the authority can be reached.
    """

    def __init__(self, authority: SessionAuthority, times: Times, metrics: Metrics) -> None:
        self._authority = authority
        self._times = times
        self._metrics = metrics
        self._doubt = trio.Event()
        self._is_answered = False

    async def verdict_of(self, user_id: str, session_id: str, log: Any) -> Verdict:
        """The authority's word for a session; `UNREACHABLE` when there is none.

        Args:
            user_id: who wants to send.
            session_id: the session that is to let them.
            log: told why there is none.

        Cancellation: passes on to the authority; the check counts for nothing then.
        """
        began = trio.current_time()
        result = await self._check(user_id, session_id, log)
        self._metrics.record_check(result, trio.current_time() - began)
        if result == "unreachable":
            self._doubt.set()
        if result in ("unreachable", "unanswered"):
            return Verdict.UNREACHABLE
        self._is_answered = True
        self._note(is_reachable=True)
        return Verdict(result)

    async def _check(self, user_id: str, session_id: str, log: Any) -> CheckResult:
        within_s = self._times.session_check_s
        with hold_after(within_s):
            try:
                return _RESULTS[await self._authority.check(user_id, session_id)]
            except UnusableAnswer as exc:
                log.warning("session.unanswered", detail=exc.detail)
                return "unanswered"
            except AuthorityUnreachable as exc:
                log.warning("session.unreachable", detail=exc.detail)
                return "unreachable"
            except Exception:
                # An authority of a third party may raise anything; it is as good as away.
                log.exception("session.unreachable", detail="the authority failed")
                return "unreachable"
        log.warning("session.unreachable", detail=_too_late(within_s))
        return "unreachable"

    async def watch(self) -> NoReturn:
        """Decide each doubt, and see when the authority is back; never returns.

        A worker that is not ready is sent no captures, so nobody else would notice.
        """
        while True:
            await self._doubt.wait()
            # Before it asks: what fails while it does is a doubt of its own.
            self._doubt, self._is_answered = trio.Event(), False
            problem = await self._ask()
            # A rig that was answered meanwhile knows better.
            is_reachable = problem is None or self._is_answered
            self._note(is_reachable=is_reachable, detail=problem)
            await trio.sleep(PAUSE_S if is_reachable else self._times.session_recheck_s)
            if not self._metrics.is_authority_reachable:
                self._doubt.set()

    async def _ask(self) -> str | None:
        """Ask the worker's own question; why nobody answers, or None when somebody does."""
        within_s = self._times.session_check_s
        with hold_after(within_s):
            try:
                await self._authority.check(*OWN_QUESTION)
            except UnusableAnswer:
                return None
            except AuthorityUnreachable as exc:
                return exc.detail
            except Exception as exc:
                return f"the authority failed ({type(exc).__name__})"
            return None
        return _too_late(within_s)

    def _note(self, *, is_reachable: bool, detail: str | None = None) -> None:
        if is_reachable is self._metrics.is_authority_reachable:
            return
        self._metrics.is_authority_reachable = is_reachable
        if is_reachable:
            _log.info("session.reachable")
        else:
            _log.error("session.out_of_reach", detail=detail, effect="/readyz is 503")


def _too_late(within_s: float) -> str:
    return f"no answer within {within_s:g} s (session_check_s)"

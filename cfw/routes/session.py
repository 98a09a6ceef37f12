"""The session authority, asked so that whatever it does is an answer."""

from __future__ import annotations

from typing import Any

import trio

from cfw.service import Verdict
from cfw.sessions import AuthorityUnreachable, SessionAuthority


async def verdict_of(
    authority: SessionAuthority, user_id: str, session_id: str, *, within_s: float, log: Any
) -> Verdict:
    """The authority's word for a session; `UNREACHABLE` when there is none.

    Args:
        authority: who is asked.
        user_id: who wants to send.
        session_id: the session that is to let them.
        within_s: seconds for the answer.
        log: told why there is none.

    Cancellation: passes on to the authority.
    """
    with trio.move_on_after(within_s):
        try:
            status = await authority.check(user_id, session_id)
        except AuthorityUnreachable as exc:
            log.warning("session.unreachable", detail=exc.detail)
            return Verdict.UNREACHABLE
        except Exception:
            # An authority of a third party may raise anything; it is as good as away.
            log.exception("session.unreachable", detail="the authority failed")
            return Verdict.UNREACHABLE
        return Verdict(status.value)
    log.warning("session.unreachable", detail=f"no answer within {within_s:g} s")
    return Verdict.UNREACHABLE

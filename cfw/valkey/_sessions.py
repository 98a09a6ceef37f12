"""Sessions as keys: a hash with user and status, and a channel that tells of changes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from coredis.retry import NoRetryPolicy

from cfw.valkey._link import Link, ValkeyFailed, WrongKind
from cfw.valkey._names import session_channel, session_key
from cfw.valkey._pipeline import Argument
from cfw.valkey._replies import Unreadable

#: A session lasts a millisecond at least and ten years at most, or for ever.
SHORTEST_EXPIRE_S = 0.001
LONGEST_EXPIRE_S = 315_360_000

#: KEYS session; ARGV user, status, expire_ms or 0, channel, session_id
_SET = """
redis.call('HSET', KEYS[1], 'user', ARGV[1], 'status', ARGV[2])
if ARGV[3] == '0' then
  redis.call('PERSIST', KEYS[1])
else
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
redis.call('PUBLISH', ARGV[4], ARGV[5])
return 'OK'
"""


async def set_session(
    link: Link, user_id: str, session_id: str, status: str, *, expire_s: float | None = None
) -> None:
    """Write a session and tell every worker of it.

    Args:
        link: an open connection.
        user_id: whose session it is.
        session_id: its id.
        status: `active` or `closed`.
        expire_s: seconds after which nobody knows it any more, at most `LONGEST_EXPIRE_S`;
            None for never.

    Raises:
        ValueError: `expire_s` is out of range; nothing was written.
        ValkeyFailed: the server is out of reach or refused.
    """
    if expire_s is not None and not SHORTEST_EXPIRE_S <= expire_s <= LONGEST_EXPIRE_S:
        raise ValueError(
            f"a session must expire after {SHORTEST_EXPIRE_S} to {LONGEST_EXPIRE_S} seconds, "
            f"or never, not after {expire_s:g}"
        )
    prefix = link.address.prefix
    expire_ms = 0 if expire_s is None else round(1000 * expire_s)
    args: list[Argument] = [user_id, status, expire_ms, session_channel(prefix), session_id]
    await link.script(_SET, [session_key(prefix, session_id)], args)


async def look_up_session(link: Link, session_id: str) -> tuple[bytes | None, bytes | None]:
    """The user and the status of a session; None for what is not there.

    Raises:
        ValkeyFailed: the server is out of reach or refused.
        Unreadable: its key holds another type.
    """
    key = session_key(link.address.prefix, session_id)
    try:
        user, status = await link.ask(lambda: link.client.hmget(key, ["user", "status"]))
    except WrongKind:
        raise Unreadable(key, "is no hash") from None
    return user, status


async def hear_sessions(link: Link, changed: Callable[[bytes | None], object]) -> None:
    """Listen for changes of sessions, until the connection breaks.

    Args:
        link: an open connection.
        changed: called with the id of a session that has changed, or with None when any may
            have, because nobody listened for a while.

    Raises:
        ValkeyFailed: the connection could not be made, or broke.
    """
    channel = session_channel(link.address.prefix)
    client: Any = link.client

    async def listen() -> None:
        subscribed = client.pubsub(
            channels=[channel], ignore_subscribe_messages=True, retry_policy=NoRetryPolicy()
        )
        async with subscribed as messages:
            changed(None)
            async for message in messages:
                changed(message["data"])

    await link.ask(listen, extra_s=math.inf)
    raise ValkeyFailed(f"{link.address.name} ended a subscription")

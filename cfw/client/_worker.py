"""What a worker says of itself, without a capture."""

from __future__ import annotations

import ssl
from collections.abc import Mapping

import attrs
import trio

from cfw.client._capture import CAPTURE_PATH, MAX_MESSAGE_BYTES
from cfw.client._clock import ClockOffset, RigClock
from cfw.client._link import GRACE_S, Address, check_seconds, open_link, with_token
from schemas import WorkerLimits


@attrs.frozen
class Worker:
    """What a worker has said of itself; `ask_worker` asks it.

    Args:
        limits: of its captures; None when it tells none, as workers before 0.3 do, or when a
            proxy has taken them out.
        offset: this machine's clock minus the worker's, as an interval; None likewise.
    """

    limits: WorkerLimits | None
    offset: ClockOffset | None


async def ask_worker(
    url: str,
    *,
    token: str | None = None,
    ssl_context: ssl.SSLContext | None = None,
    headers: Mapping[str, str] | None = None,
    stream: trio.abc.Stream | None = None,
    connect_timeout: float = 10,
    clock: RigClock | None = None,
) -> Worker:
    """Connect to a worker, hear what it says of itself, and leave without a capture.

        worker = await ask_worker("ws://127.0.0.1:8765")
        if worker.limits is not None:
            print(worker.limits.max_width, worker.limits.max_height)

    Args:
        url: as for `open_capture`, and so are the other arguments.
        clock: what the worker's clock is compared with; None for this machine's.

    Raises:
        ValueError: the URL or the timeout is none.
        AccessDenied: the worker wants another token.
        ConnectionRefused: there was no WebSocket to be had.

    Cancellation: leaves at once; the socket is closed.
    """
    check_seconds("connect_timeout", connect_timeout)
    address = Address.parse(url, CAPTURE_PATH)
    if ssl_context is not None and not address.is_tls:
        raise ValueError("an ssl_context needs a wss:// URL")
    async with open_link(
        address,
        ssl_context=ssl_context,
        headers=with_token(headers, token),
        stream=stream,
        connect_timeout=connect_timeout,
        max_message_bytes=MAX_MESSAGE_BYTES,
        clock=clock,
    ) as link:
        worker = Worker(link.greeting.limits, link.offset)
        with trio.move_on_after(GRACE_S):
            await link.connection.aclose()
        return worker

"""What a worker says of itself, without a capture."""

from __future__ import annotations

from typing import Unpack

import attrs
import trio

from cfw.client._capture import CAPTURE_PATH, MAX_MESSAGE_BYTES
from cfw.client._clock import ClockOffset, RigClock
from cfw.client._link import GRACE_S, Address, open_link
from cfw.client._options import ConnectOptions, ConnectSettings
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
    stream: trio.abc.Stream | None = None,
    clock: RigClock | None = None,
    **options: Unpack[ConnectOptions],
) -> Worker:
    """Connect to a worker, hear what it says of itself, and leave without a capture.

        worker = await ask_worker("ws://127.0.0.1:8765")
        if worker.limits is not None:
            print(worker.limits.max_width, worker.limits.max_height)

    Args:
        url: as for `open_capture`, and so is the stream.
        clock: what the worker's clock is compared with; None for this machine's.
        options: see `ConnectOptions`.

    Raises:
        ValueError: the URL or the timeout is none.
        AccessDenied: the worker wants another token.
        ConnectionRefused: there was no WebSocket to be had.

    Cancellation: leaves at once; the socket is closed.
    """
    return await ask(url, ConnectSettings(**options), stream, clock)


async def ask(
    url: str,
    settings: ConnectSettings,
    stream: trio.abc.Stream | None,
    clock: RigClock | None,
) -> Worker:
    """See `ask_worker`."""
    async with open_link(
        Address.parse(url, CAPTURE_PATH),
        settings,
        stream=stream,
        max_message_bytes=MAX_MESSAGE_BYTES,
        clock=clock,
    ) as link:
        worker = Worker(link.greeting.limits, link.offset)
        with trio.move_on_after(GRACE_S):
            await link.connection.aclose()
        return worker

"""The worker's router with a sink that notes how long each stamped frame took to be taken.

Only delays are measured with it; everything else is measured on `cfw serve`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import structlog
import trio

from cfw.cli.bench.peers.checks import LIMITS, PATIENT, Consumer
from cfw.limits import Times
from cfw.registry import Registry
from cfw.routes import Router
from cfw.sessions import open_authority
from cfw.sinks import BatchSink, CaptureSink, Sink, open_sink
from cfw.state import Frame
from schemas import FeedOpened, Terminal


class _StampedCapture:
    def __init__(self, inner: CaptureSink, consumer: Consumer) -> None:
        self._inner = inner
        self._consumer = consumer

    async def send(self, frame: Frame) -> None:
        await self._inner.send(frame)
        self._consumer.take(frame.data)

    async def finish(self, terminal: Terminal) -> None:
        await self._inner.finish(terminal)


class _StampedBatches(_StampedCapture):
    """The same for a sink that takes several frames at once."""

    def __init__(self, inner: CaptureSink, batches: BatchSink, consumer: Consumer) -> None:
        super().__init__(inner, consumer)
        self._batches = batches

    async def send_many(self, frames: Sequence[Frame]) -> None:
        await self._batches.send_many(frames)
        for frame in frames:
            self._consumer.take(frame.data)


class _StampedSink:
    def __init__(self, inner: Sink, consumer: Consumer) -> None:
        self._inner = inner
        self._consumer = consumer

    def capture(self, opened: FeedOpened) -> AbstractAsyncContextManager[CaptureSink]:
        return self._capture(opened)

    @asynccontextmanager
    async def _capture(self, opened: FeedOpened) -> AsyncIterator[CaptureSink]:
        async with self._inner.capture(opened) as inner:
            if isinstance(inner, BatchSink):
                yield _StampedBatches(inner, inner, self._consumer)
            else:
                yield _StampedCapture(inner, self._consumer)


async def _main(sink_url: str, consumer: Consumer, announce: Callable[[int], None]) -> None:
    async with open_authority("allow:") as authority, open_sink(sink_url) as sink:
        router = Router(
            limits=LIMITS,
            times=Times(**PATIENT),
            sink=_StampedSink(sink, consumer),
            authority=authority,
            registry=Registry(LIMITS),
        )
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=1024)
        announce(listeners[0].socket.getsockname()[1])
        await trio.serve_listeners(router.handle, listeners)


def run(sink_url: str, consumer: Consumer, announce: Callable[[int], None]) -> None:
    """Serve for ever.

    Args:
        sink_url: the sink that frames go to before they are noted.
        consumer: notes them.
        announce: called with the port.
    """
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))  # errors
    trio.run(_main, sink_url, consumer, announce)

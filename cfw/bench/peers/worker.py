"""The worker's router with sinks that only a measurement wants.

One notes how long each stamped frame took to be taken, for delays; one takes no frame, for the
memory of a full forward buffer. Everything else is measured on `cfw serve`.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import attrs
import structlog
import trio

from cfw.api.memory import settle_memory
from cfw.bench.peers.checks import LIMITS, PATIENT, Consumer
from cfw.identity.tls import TlsFiles
from cfw.limits import Limits, Times
from cfw.routes import Router
from cfw.routes.registry import Registry
from cfw.sessions import open_authority
from cfw.sinks import BatchSink, CaptureSink, PromptSink, Sink, open_sink
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

    def __init__(self, inner: CaptureSink, consumer: Consumer) -> None:
        super().__init__(inner, consumer)
        # Once, for it takes a twentieth of what a frame costs with `valkey:`.
        assert isinstance(inner, BatchSink)
        self._send_many = inner.send_many

    async def send_many(self, frames: Sequence[Frame]) -> None:
        await self._send_many(frames)
        for frame in frames:
            self._consumer.take(frame.data)


class _StampedPrompt(_StampedCapture):
    """The same for a sink that can take them without waiting."""

    def __init__(self, inner: CaptureSink, consumer: Consumer) -> None:
        super().__init__(inner, consumer)
        assert isinstance(inner, PromptSink)
        self._send_nowait = inner.send_nowait

    def send_nowait(self, frames: Sequence[Frame]) -> bool:
        is_taken = self._send_nowait(frames)
        if is_taken:
            for frame in frames:
                self._consumer.take(frame.data)
        return is_taken


class _StampedBoth(_StampedPrompt, _StampedBatches):
    """The same for one that does both."""


#: By whether a sink takes several frames at once, and whether it can take them without waiting.
_STAMPED = {
    (False, False): _StampedCapture,
    (True, False): _StampedBatches,
    (False, True): _StampedPrompt,
    (True, True): _StampedBoth,
}


class _StampedSink:
    def __init__(self, inner: Sink, consumer: Consumer) -> None:
        self._inner = inner
        self._consumer = consumer

    def capture(self, opened: FeedOpened) -> AbstractAsyncContextManager[CaptureSink]:
        return self._capture(opened)

    @asynccontextmanager
    async def _capture(self, opened: FeedOpened) -> AsyncIterator[CaptureSink]:
        async with self._inner.capture(opened) as inner:
            stamped = _STAMPED[isinstance(inner, BatchSink), isinstance(inner, PromptSink)]
            yield stamped(inner, self._consumer)


class _StalledCapture:
    async def send(self, frame: Frame) -> None:
        await trio.sleep_forever()

    async def finish(self, terminal: Terminal) -> None: ...


class _StalledSink:
    @asynccontextmanager
    async def capture(self, opened: FeedOpened) -> AsyncIterator[CaptureSink]:
        yield _StalledCapture()


async def _stamped(
    sink_url: str, consumer: Consumer, announce: Callable[[int], None], tls: Path | None
) -> None:
    async with open_sink(sink_url) as sink:
        await _serve(_StampedSink(sink, consumer), LIMITS, announce, tls)


async def _serve(
    sink: Sink, limits: Limits, announce: Callable[[int], None], tls: Path | None = None
) -> None:
    async with open_authority("allow:") as authority:
        router = Router(
            limits=limits,
            times=Times(**PATIENT),
            sink=sink,
            authority=authority,
            registry=Registry(limits),
        )
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=1024)
        settle_memory()
        announce(listeners[0].socket.getsockname()[1])
        files = None if tls is None else TlsFiles(tls, tls)

        async def handle(stream: trio.SocketStream) -> None:
            await router.handle(stream if files is None else files.wrap(stream))

        await trio.serve_listeners(handle, listeners)


def run(
    sink_url: str, consumer: Consumer, announce: Callable[[int], None], tls: Path | None
) -> None:
    """Serve for ever.

    Args:
        sink_url: the sink that frames go to before they are noted.
        consumer: notes them.
        announce: called with the port.
        tls: certificate and key; None for none.
    """
    _run(_stamped, sink_url, consumer, announce, tls)


def run_stalled(buffer_bytes: int, announce: Callable[[int], None]) -> None:
    """Serve for ever, and forward nothing.

    Args:
        buffer_bytes: max_forward_buffer_bytes; frames are not limited in number.
        announce: called with the port.
    """
    limits = attrs.evolve(
        LIMITS, max_forward_buffer_bytes=buffer_bytes, max_forward_buffer_frames=10**9
    )
    with contextlib.suppress(OSError, AttributeError, TypeError):
        # What imports have freed must not hide what frames take; glibc gives it back.
        ctypes.CDLL(None).malloc_trim(0)
    _run(_serve, _StalledSink(), limits, announce)


def _run(main: Callable[..., Awaitable[None]], *args: object) -> None:
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(40),  # errors
        # What it prints on standard output is read when it was asked for something.
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    trio.run(main, *args)

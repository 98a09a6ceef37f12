"""`valkey://` and `valkeys://` - one stream per capture, on a server that a fleet shares.

VALKEY.md beside this file tells the keys, the options and what is guaranteed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import structlog
import trio

from cfw.errors import ProtocolViolation
from cfw.state import Frame
from cfw.tasks.background import running_beside
from cfw.valkey import (
    PARTITIONS,
    SOURCE,
    Address,
    CaptureStore,
    CaptureTaken,
    LostCapture,
    Run,
    ScriptStore,
    TailLost,
    Unreadable,
    ValkeyFailed,
    ValkeyRefused,
    abort_of,
    open_link,
    partition_of,
)
from schemas import (
    ErrorCode,
    FeedAbort,
    FeedClose,
    FeedOpened,
    Terminal,
    restate,
    to_json,
)

#: A lease is renewed, and others' are looked at, so many times while it lasts.
LOOKS_PER_LEASE = 4

_log: structlog.stdlib.BoundLogger = structlog.get_logger("cfw.sinks.valkey")


class ValkeySink:
    """Writes captures to the server that the fleet shares; each capture_id has one owner.

    Args:
        store: what the server can be asked.
        lease_s: seconds after which a capture whose worker is silent is lost.
    """

    def __init__(self, store: CaptureStore, lease_s: float) -> None:
        self._store = store
        self._lease_s = lease_s

    @property
    def unreadable(self) -> int:
        """See `cfw.sinks.CountingSink`."""
        return self._store.unreadable

    @asynccontextmanager
    async def capture(self, opened: FeedOpened) -> AsyncIterator[ValkeyCapture]:
        """Own the capture_id in the whole fleet and begin its stream; see `cfw.sinks.Sink`.

        Raises:
            ProtocolViolation: another connection owns it, on this worker or another.
            ValkeyFailed: the server is out of reach or refused.

        Cancellation: the capture may have begun; then its lease runs out, and a worker ends
        it with `worker_lost`.
        """
        run = Run(capture_id=opened.capture_id, opened_ns=opened.timestamp_ingest.ns)
        held_until = trio.current_time() + self._lease_s
        try:
            await self._begin(run, to_json(opened).encode())
        except CaptureTaken:
            raise ProtocolViolation(
                "capture_id is active on another connection; choose a new one per capture"
            ) from None
        yield ValkeyCapture(self._store, run, self._lease_s, held_until)

    async def _begin(self, run: Run, opened: bytes) -> None:
        try:
            await self._store.begin(run, opened)
        except CaptureTaken as exc:
            if not exc.is_expired:
                raise
            await self.seal_lost(partition_of(run.capture_id))
            await self._store.begin(run, opened)

    async def keep_looking(self) -> None:
        """End the captures that dead workers left behind, again and again; never returns."""
        while True:
            await trio.sleep(self._lease_s / LOOKS_PER_LEASE)
            failures: list[ValkeyFailed] = []
            # Side by side: a node that is silent costs the partitions of others no time.
            async with trio.open_nursery() as nursery:
                for partition in range(PARTITIONS):
                    nursery.start_soon(self._look, partition, failures)
            if failures:
                _log.warning(
                    "leases.unreachable", detail=str(failures[0]), partitions=len(failures)
                )

    async def _look(self, partition: int, failures: list[ValkeyFailed]) -> None:
        try:
            await self.seal_lost(partition)
        except ValkeyFailed as exc:
            failures.append(exc)

    async def seal_lost(self, partition: int) -> None:
        """Give each capture whose lease has run out its terminal, if no other worker does.

        Raises:
            ValkeyFailed: the server is out of reach or refused; if it only refused to end one
                of them, all others have been looked at.
        """
        refused: ValkeyRefused | None = None
        for capture in await self._store.lost(partition):
            try:
                await self._seal(capture)
            except ValkeyRefused as exc:
                refused = exc
        if refused is not None:
            raise refused

    async def _seal(self, capture: LostCapture) -> None:
        if await self._store.seal(capture, to_json(_worker_lost(capture)).encode()):
            _log.warning(
                "capture.worker_lost",
                capture_id=capture.capture_id,
                frames=capture.frames,
                bytes=capture.bytes,
            )


class ValkeyCapture:
    """One capture on its way to its stream."""

    def __init__(
        self, store: CaptureStore, run: Run, lease_s: float, held_until: float
    ) -> None:
        self._store = store
        self._run = run
        self._lease_s = lease_s
        self._held_until = held_until

    async def send(self, frame: Frame) -> None:
        """Write one frame; see `send_many`."""
        await self.send_many([frame])

    async def send_many(self, frames: Sequence[Frame]) -> None:
        """Write frames in one step; they are taken when the server has acknowledged them.

        Raises:
            ValkeyFailed: the server is out of reach or refused.
            LeaseLost: another worker has ended the capture.
            TailLost: a failover has lost frames that had been acknowledged.
            Unreadable: somebody else has written into the lease.

        Cancellation: they may have been written, or may be until the terminal is.
        """
        asked_at = trio.current_time()
        entries = [(to_json(frame.feed_message()).encode(), frame.data) for frame in frames]
        await self._store.append(self._run, frames[0].meta.seq, entries)
        self._held_until = asked_at + self._lease_s

    async def watch(self) -> None:
        """Renew the lease while the capture lasts, when frames have not done it.

        Raises:
            ValkeyFailed: the server was out of reach for so long that the lease has run out.
            LeaseLost: another worker has ended the capture.
        """
        pause_s = self._lease_s / LOOKS_PER_LEASE
        await trio.sleep(pause_s)
        while True:
            asked_at = trio.current_time()
            due_at = self._held_until - self._lease_s + pause_s
            if asked_at < due_at:
                await trio.sleep_until(due_at)
                continue
            try:
                await self._store.renew(self._run)
            except ValkeyFailed:
                if trio.current_time() >= self._held_until:
                    raise
            else:
                self._held_until = asked_at + self._lease_s
            await trio.sleep(pause_s)

    async def finish(self, terminal: Terminal) -> None:
        """Write the terminal, behind which the server takes nothing, and give the lease back.

        A `capture.close` is only written behind the last frame it counts.

        Raises:
            ValkeyFailed: the server is out of reach or refused.
            LeaseLost: another worker has ended the capture.
            TailLost: a failover has lost frames; the capture was ended as `forward_failed`.
        """
        last = terminal.frames_forwarded if isinstance(terminal, FeedClose) else None
        try:
            await self._store.finish(self._run, to_json(terminal).encode(), last)
        except TailLost as exc:
            abort = restate(
                terminal,
                FeedAbort,
                source=SOURCE,
                error_code=ErrorCode.FORWARD_FAILED,
                detail=str(exc),
            )
            await self._store.finish(self._run, to_json(abort).encode(), None)
            raise


def _worker_lost(capture: LostCapture) -> FeedAbort:
    return abort_of(
        capture.opened,
        ErrorCode.WORKER_LOST,
        "the worker of the capture fell silent and its lease ran out",
        frames=capture.frames,
        bytes=capture.bytes,
    )


def _unreadable(odd: Unreadable) -> None:
    _log.error("valkey.unreadable", key=odd.key, detail=odd.problem)


def open_valkey(url: str) -> AbstractAsyncContextManager[ValkeySink]:
    """The sink of `valkey://` and `valkeys://`.

    Raises:
        ValueError: the URL is none, or an option is not allowed.
    """
    return _open(Address.parse(url))


@asynccontextmanager
async def _open(address: Address) -> AsyncIterator[ValkeySink]:
    async with open_link(address) as link:
        sink = ValkeySink(ScriptStore(link, _unreadable), address.lease_s)
        async with running_beside("sinks.valkey.leases", sink.keep_looking):
            yield sink

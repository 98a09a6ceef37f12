"""A server in memory that the sink can be swept against: what the scripts do, without them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import attrs
import trio

from cfw.valkey import (
    LAST_ID,
    CaptureTaken,
    LeaseLost,
    LostCapture,
    Names,
    Run,
    TailLost,
    Unreadable,
    ValkeyFailed,
    partition_of,
)
from cfw.valkey._replies import lost_capture
from schemas import FeedOpened, Timestamp, restate, to_json
from tests.factories import START_NS, make_open
from tests.unit.valkey.fake_server import FakeServer

Entry = tuple[str, bytes, bytes | None]
Fields = dict[bytes, bytes]


@attrs.define
class Lease:
    """What the server knows of a running capture."""

    owner: str
    stream: str
    opened: bytes
    deadline: float
    last: int = 0
    bytes: int = 0

    def fields(self) -> Fields:
        """As the server has it."""
        return {
            b"owner": self.owner.encode(),
            b"stream": self.stream.encode(),
            b"opened": self.opened,
            b"last": b"%d" % self.last,
            b"bytes": b"%d" % self.bytes,
        }


@cache
def opened_as(capture_id: str) -> bytes:
    """The `capture.opened` of a capture, as workers write it; the same one each time."""
    message = make_open(capture_id=capture_id)
    ingest = Timestamp.from_ns(START_NS)
    return to_json(restate(message, FeedOpened, timestamp_ingest=ingest)).encode()


def key_of(run: Run) -> str:
    """Where a run's stream is."""
    return Names.of("fake", run.capture_id).frames(run.capture_id, run.opened_ns)


@attrs.define(kw_only=True)
class FakeStore(FakeServer):
    """What workers ask of it.

    Args:
        lease_s: how long a lease lasts.

    Attributes:
        streams: what was written.
        leases: who owns what.
        unreachable: partitions whose lost captures nobody can ask for.
        unreadable: leases that were put aside.
    """

    lease_s: float = 10
    streams: dict[str, list[Entry]] = attrs.Factory(dict)
    leases: dict[str, Lease] = attrs.Factory(dict)
    unreachable: set[int] = attrs.Factory(set)
    unreadable: int = 0

    # --- what the scripts do ------------------------------------------------------------------

    def _owned(self, run: Run) -> Lease:
        lease = self.leases.get(run.capture_id)
        if lease is None or lease.owner != run.owner:
            raise LeaseLost("planted")
        return lease

    def _end(self, capture_id: str, stream: str, terminal: bytes) -> None:
        self.streams[stream].append((LAST_ID, terminal, None))
        del self.leases[capture_id]

    async def begin(self, run: Run, opened: bytes) -> None:
        """See `CaptureStore`."""

        def effect() -> None:
            lease = self.leases.get(run.capture_id)
            if lease is not None:
                if lease.owner != run.owner:
                    raise CaptureTaken(is_expired=lease.deadline <= trio.current_time())
                return
            stream = key_of(run)
            assert stream not in self.streams
            self.streams[stream] = [("0-1", opened, None)]
            deadline = trio.current_time() + self.lease_s
            self.leases[run.capture_id] = Lease(run.owner, stream, opened, deadline)

        await self.ask(effect)

    async def append(
        self, run: Run, first_seq: int, frames: Sequence[tuple[bytes, bytes]]
    ) -> None:
        """See `CaptureStore`."""

        def effect() -> None:
            lease = self._owned(run)
            if lease.last == first_seq + len(frames) - 1:
                return
            if lease.last != first_seq - 1:
                raise TailLost("planted")
            for seq, (message, jpeg) in enumerate(frames, first_seq):
                self.streams[lease.stream].append((f"{seq}-0", message, jpeg))
                lease.last, lease.bytes = seq, lease.bytes + len(jpeg)
            lease.deadline = trio.current_time() + self.lease_s

        await self.ask(effect)

    async def renew(self, run: Run) -> None:
        """See `CaptureStore`."""

        def effect() -> None:
            self._owned(run).deadline = trio.current_time() + self.lease_s

        await self.ask(effect)

    async def finish(self, run: Run, terminal: bytes, last_seq: int | None) -> None:
        """See `CaptureStore`."""

        def effect() -> None:
            if any(
                entry[:2] == (LAST_ID, terminal) for s in self.streams.values() for entry in s
            ):
                return
            lease = self._owned(run)
            if last_seq is not None and lease.last != last_seq:
                raise TailLost("planted")
            self._end(run.capture_id, lease.stream, terminal)

        await self.ask(effect)

    async def lost(self, partition: int) -> list[LostCapture]:
        """See `CaptureStore`."""

        def effect() -> list[LostCapture]:
            names, found = Names("fake", partition), []
            for name, lease in [*self.leases.items()]:
                if partition_of(name) == partition and lease.deadline <= trio.current_time():
                    try:
                        found.append(lost_capture(names, name, lease.fields()))
                    except Unreadable:
                        self.unreadable += 1
                        del self.leases[name]
            return found

        if partition in self.unreachable:
            raise ValkeyFailed("planted: the node of the partition is down")
        found: list[LostCapture] = await self.ask(effect)
        return found

    async def seal(self, capture: LostCapture, terminal: bytes) -> bool:
        """See `CaptureStore`."""

        def effect() -> bool:
            lease = self.leases.get(capture.capture_id)
            if lease is None or lease.owner != capture.owner:
                return False
            if lease.last != capture.frames or lease.deadline > trio.current_time():
                return False
            self._end(capture.capture_id, lease.stream, terminal)
            return True

        return bool(await self.ask(effect))

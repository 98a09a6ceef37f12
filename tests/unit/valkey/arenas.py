"""A place for captures, real or in memory, with what a test asks of both."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import trio

from cfw.valkey import Address, CaptureStore, Names, Run, ScriptStore, open_link
from tests.unit.valkey.fake_store import Entry, FakeStore, key_of
from tests.unit.valkey.servers import Servers

LEASE_S = 120


@attrs.define
class Arena:
    """Two workers' stores that lead to one place.

    Args:
        one: a worker's store.
        other: another worker's.
    """

    one: CaptureStore
    other: CaptureStore
    _servers: Servers | None
    _prefix: str

    def entries(self, run: Run) -> list[Entry]:
        """What a run's stream holds."""
        if isinstance(self.one, FakeStore):
            return self.one.streams[key_of(run)]
        assert self._servers is not None
        key = Names.of(self._prefix, run.capture_id).frames(run.capture_id, run.opened_ns)
        return [
            (entry_id.decode(), fields[b"message"], fields.get(b"jpeg"))
            for entry_id, fields in self._servers.client().xrange(key)
        ]

    def expire(self, capture_id: str) -> None:
        """Let the lease of a capture run out, without waiting for a clock."""
        if isinstance(self.one, FakeStore):
            self.one.leases[capture_id].deadline = trio.current_time()
            return
        assert self._servers is not None
        self._servers.expire(self._prefix, capture_id)


@asynccontextmanager
async def arena(servers: Servers | None, prefix: str) -> AsyncIterator[Arena]:
    """A place of its own for a test; None for the fake. Leases last as long as any test."""
    if servers is None:
        fake = FakeStore(lease_s=LEASE_S)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fake.serve)
            yield Arena(fake, fake, None, prefix)
            nursery.cancel_scope.cancel()
        return
    address = Address.parse(servers.url(prefix=prefix, lease_s=LEASE_S))
    async with open_link(address) as one, open_link(address) as other:
        yield Arena(ScriptStore(one), ScriptStore(other), servers, prefix)

"""A place for captures, real or in memory, with what a test asks of both."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import trio

from cfw.valkey import Address, CaptureStore, Names, Run, ScriptStore, open_link
from tests.valkey.fake_store import Entry, FakeStore
from tests.valkey.servers import Servers


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
            return self.one.streams[f"{run.capture_id}:{run.opened_ns}"]
        assert self._servers is not None
        key = Names.of(self._prefix, run.capture_id).frames(run.capture_id, run.opened_ns)
        return [
            (entry_id.decode(), fields[b"message"], fields.get(b"jpeg"))
            for entry_id, fields in self._servers.client().xrange(key)
        ]


@asynccontextmanager
async def arena(
    servers: Servers | None, prefix: str, lease_s: float = 10
) -> AsyncIterator[Arena]:
    """A place of its own for a test; None for the fake."""
    if servers is None:
        fake = FakeStore(lease_s=lease_s)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fake.serve)
            yield Arena(fake, fake, None, prefix)
            nursery.cancel_scope.cancel()
        return
    address = Address.parse(servers.url(prefix=prefix, lease_s=lease_s, keep_s=60))
    async with open_link(address) as one, open_link(address) as other:
        yield Arena(ScriptStore(one), ScriptStore(other), servers, prefix)

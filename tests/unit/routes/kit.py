"""A router on memory streams and a virtual clock, and raw rigs that speak to it.

Nothing stands between router and sink here. A test that needs none of this takes
`cfw.testing.rigs.running_worker`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio

from cfw.limits import Limits, Times
from cfw.routes import Router
from cfw.routes.registry import Registry
from cfw.testing.fakes import RecordingSink, ScriptedAuthority
from tests.factories import START_NS, open_fields
from tests.raw import Ending, Rig, encode, ending_of
from tests.unit.wire.peer import REQUEST, close, pair

__all__ = ["Bench", "Ending", "Rig", "bench", "encode", "ending_of"]


@attrs.define
class Bench:
    """A router under test with its fakes."""

    nursery: trio.Nursery
    router: Router
    sink: RecordingSink
    authority: ScriptedAuthority
    registry: Registry

    async def connect(self) -> Rig:
        """Open a WebSocket."""
        ours, peer = pair()
        self.nursery.start_soon(self.router.handle, ours)
        await peer.open()
        return Rig(peer)

    async def capture(self, **fields: Any) -> Rig:
        """Open a WebSocket and a capture."""
        rig = await self.connect()
        await rig.say(open_fields(**fields))
        return rig

    async def in_one_write(self, *messages: dict[str, Any] | bytes, then_close: bool) -> Ending:
        """Handshake and messages in one write, as a client that waits for nothing."""
        ours, peer = pair()
        self.nursery.start_soon(self.router.handle, ours)
        parts = [REQUEST, *map(encode, messages), *([close(1000)] if then_close else [])]
        await peer.send(b"".join(parts))
        answer = await peer.read_rest()
        head, _, rest = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        return Ending.parse(rest)

    def check_clean(self) -> None:
        """Nothing is left: no connection, no registry entry."""
        assert not self.router._connections
        assert len(self.registry) == 0


@asynccontextmanager
async def bench(
    sink: RecordingSink | None = None,
    authority: ScriptedAuthority | None = None,
    *,
    limits: dict[str, Any] | None = None,
    times: dict[str, Any] | None = None,
) -> AsyncIterator[Bench]:
    """A router whose wall clock starts at START_NS; checked to be clean at the end."""
    sink, authority = sink or RecordingSink(), authority or ScriptedAuthority()
    made_limits = Limits(**(limits or {}))
    registry = Registry(made_limits)
    router = Router(
        limits=made_limits,
        times=Times(**(times or {})),
        sink=sink,
        authority=authority,
        registry=registry,
        wall_clock=lambda: START_NS + round(trio.current_time() * 1e9),
    )
    async with trio.open_nursery() as nursery:
        made = Bench(nursery, router, sink, authority, registry)
        yield made
        with trio.fail_after(60):
            await router.wait_gone()
        made.check_clean()
    sink.check()

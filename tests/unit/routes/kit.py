"""A router on memory streams and a virtual clock, and a rig that speaks to it by hand.

For the router's own tests, so it does without `cfw.testing.rigs`, which is for those who test
something else against a worker: nothing stands between router and sink here, frames are built
and read by the definition in `tests.unit.wire.peer`, and `ending_of` takes what came over any
stream, sockets included. What both had in common would be wrong in the router's tests and in
the toolkit at once. A test that needs none of this takes `running_worker`.
"""

from __future__ import annotations

import json
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio

from cfw.limits import Limits, Times
from cfw.routes import Router
from cfw.routes.registry import Registry
from cfw.testing.fakes import RecordingSink, ScriptedAuthority
from schemas import CaptureAbort, parse_output
from tests.factories import START_NS, jpeg, meta_fields, open_fields
from tests.unit.wire.peer import REQUEST, Peer, binary, close, pair, parse_frames, text


@attrs.define
class Ending:
    """What a rig was told at the end: the abort if any, and the close frame."""

    aborts: list[CaptureAbort]
    code: int | None
    reason: str

    @property
    def receipt(self) -> dict[str, int]:
        assert self.code == 1000, self
        receipt: dict[str, int] = json.loads(self.reason)
        return receipt


@attrs.define
class Rig:
    """One connection to the router under test."""

    peer: Peer

    async def say(self, *messages: dict[str, Any] | bytes | str) -> None:
        """Send messages in one write: dicts as JSON text, bytes as binary."""
        await self.peer.send(*(encode(message) for message in messages))

    async def frame(self, seq: int, data: bytes | None = None, **fields: Any) -> None:
        data = jpeg() if data is None else data
        await self.say(meta_fields(seq, len(data), **fields), data)

    async def ending(self) -> Ending:
        """Read to the end of what the worker says; nothing may follow its close frame."""
        return ending_of(await self.peer.read_frames())


def encode(message: dict[str, Any] | bytes | str) -> bytes:
    if isinstance(message, bytes):
        return binary(message)
    return text(message if isinstance(message, str) else json.dumps(message))


def ending_of(frames: list[tuple[int, bytes]]) -> Ending:
    aborts, code, reason = [], None, ""
    for first, payload in frames:
        assert code is None, "something follows the close frame"
        if first == 0x88:
            code = struct.unpack("!H", payload[:2])[0]
            reason = payload[2:].decode()
        elif first == 0x81:
            aborts.append(parse_output(payload))
    return Ending(aborts, code, reason)


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
        return ending_of(parse_frames(rest))

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

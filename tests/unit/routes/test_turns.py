"""Hundreds of rigs that flood a worker whose sink is dear: nobody pays for waiting its turn.

Over real sockets, for only those take turns; on a clock that the sink moves.
"""

from __future__ import annotations

import select
from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock

from cfw.bench.peers.checks import LIMITS
from cfw.limits import Times
from cfw.routes import Router
from cfw.routes.registry import Registry
from cfw.sinks.null import NullSink
from cfw.state import Frame
from cfw.testing.fakes import ScriptedAuthority
from tests.factories import START_NS, close_fields, jpeg, meta_fields, open_fields
from tests.raw import encode
from tests.unit.wire.peer import REQUEST, close

RIGS = 200
FRAMES = 8
FRAME = jpeg(30_000)
#: Of the sink for a frame, on the event loop: a round of all that the sockets hold takes
#: several times as long as a rig has for the bytes of a frame, and for the next metadata.
DEAR_S = 0.02


class DearSink(NullSink):
    """Takes frames at once, and the time of everybody with them."""

    def __init__(self, clock: MockClock) -> None:
        super().__init__()
        self._clock = clock

    def send_nowait(self, frames: Sequence[Frame]) -> bool:
        self._clock.jump(DEAR_S * len(frames))
        return super().send_nowait(frames)


def words(number: int) -> bytes:
    """All that a rig says; its last word is a close frame."""
    ids = {"capture_id": f"cap-{number}"}
    said = [REQUEST, encode(open_fields(**ids))]
    for seq in range(1, FRAMES + 1):
        said += [encode(meta_fields(seq, len(FRAME), **ids)), encode(FRAME)]
    return b"".join([*said, encode(close_fields(**ids)), close(1000)])


async def flood(port: int, number: int, heard: dict[int, bytes]) -> None:
    """Say it as fast as it is taken, and listen until the worker has closed."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream, trio.open_nursery() as nursery:
        nursery.start_soon(stream.send_all, words(number))
        heard[number] = b"".join([part async for part in stream])


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(select, "epoll"), reason="no turns are taken without epoll")
async def test_hundreds_that_flood_a_dear_sink_are_not_blamed_for_their_turns(
    mock_clock: MockClock,
) -> None:
    """Each round lasts longer than `meta_to_bytes_s` and `idle_s`; all captures end well."""
    # It goes on by itself only where nobody has had anything to do for as long.
    mock_clock.autojump_threshold = 0.1
    heard: dict[int, bytes] = {}
    sink = DearSink(mock_clock)
    router = Router(
        limits=LIMITS,
        times=Times(session_recheck_s=3600, handshake_s=3600, open_s=3600, keepalive_s=3600),
        sink=sink,
        authority=ScriptedAuthority(),
        registry=Registry(LIMITS),
        wall_clock=lambda: START_NS,
    )
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=RIGS)
        nursery.start_soon(trio.serve_listeners, router.handle, listeners)
        async with trio.open_nursery() as rigs:
            for number in range(RIGS):
                rigs.start_soon(flood, listeners[0].socket.getsockname()[1], number, heard)
        nursery.cancel_scope.cancel()
    assert trio.current_time() > RIGS * FRAMES * DEAR_S * 0.99
    receipt = b'{"frames":%d,' % FRAMES
    refused = {
        answer.rpartition(b"\x88")[2] for answer in heard.values() if receipt not in answer
    }
    assert not refused
    assert sink.frames == RIGS * FRAMES

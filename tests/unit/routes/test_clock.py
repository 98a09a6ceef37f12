"""What is found of a rig's clock while it sends, on the virtual clock."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from cfw.sessions import SessionStatus
from cfw.testing.fakes import ScriptedAuthority
from schemas import ErrorCode, FeedAbort, FeedClose, Terminal
from tests.factories import at, close_fields, jpeg, meta_fields, open_fields
from tests.unit.routes.kit import Bench, Ending, bench, encode, ending_of
from tests.unit.wire.peer import Peer, frame, parse_frames

PONG = 0x8A


@attrs.define
class FarRig:
    """A rig behind a line that takes a while each way, with a clock of its own.

    Args:
        ahead_s: its clock minus the worker's.
        delay_s: seconds on the way, each way.
        pongs: how many pings it answers.
    """

    peer: Peer
    ahead_s: float = 3.0
    delay_s: float = 0.01
    pongs: float = float("inf")
    line: trio.Lock = attrs.Factory(trio.Lock)

    def now(self) -> str:
        return at(trio.current_time() + self.ahead_s)

    async def say(self, message: dict[str, Any], *rest: bytes) -> None:
        data = encode(message | {"timestamp": self.now()}) + b"".join(map(encode, rest))
        await self._carry(self.delay_s, data)

    async def _carry(self, seconds: float, data: bytes) -> None:
        await trio.sleep(seconds)
        async with self.line:
            await self.peer.send(data)

    async def listen(self) -> Ending:
        """Answer pings until the worker ends the connection."""
        heard = []
        while data := bytes(self.peer.received) or await self.peer.stream.receive_some():
            self.peer.received.clear()
            for first, payload in parse_frames(bytes(data)):
                heard.append((first, payload))
                if first == 0x89 and self.pongs > 0:
                    self.pongs -= 1
                    there_and_back_s = 2 * self.delay_s
                    await self._carry(there_and_back_s, frame(PONG, payload))
        return ending_of(heard)


@asynccontextmanager
async def far_rig(b: Bench, **settings: Any) -> AsyncIterator[FarRig]:
    """A rig with a capture open, whose pings are answered beside the block."""
    rig = FarRig((await b.connect()).peer, **settings)
    await rig.say(open_fields(timestamp_start=rig.now()))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.listen)
        yield rig


async def send_frames(rig: FarRig, count: int) -> None:
    for seq in range(1, count + 1):
        meta = meta_fields(seq, 200, timestamp_frame=rig.now())
        await rig.say(meta, jpeg(200))
        await trio.sleep(0.05)


def offset(found: Terminal | Any) -> tuple[float | None, float | None]:
    return found.clock_offset_min_ms, found.clock_offset_max_ms


async def test_a_rig_whose_clock_is_3_s_ahead(autojump_clock: MockClock) -> None:
    """Delay 10 ms each way: while it runs, in the terminal and afterwards."""
    async with bench() as b:
        async with far_rig(b) as rig:
            await trio.sleep(0.001)
            (before,) = b.registry.statuses()
            await send_frames(rig, 3)
            (running,) = b.registry.statuses()
            await rig.say(close_fields(timestamp_end=rig.now()))
        (terminal,) = b.sink.only.terminals
        (ended,) = b.registry.ended
    assert offset(before) == (2990.0, None)
    # A nanosecond is a step of the text; it is rounded outwards to a microsecond.
    assert offset(running) == offset(terminal) == offset(ended) == (2990.0, 3010.001)
    assert isinstance(terminal, FeedClose)
    assert isinstance(terminal.clock_offset_min_ms, float)


async def test_no_time_is_changed_and_nothing_aborted(autojump_clock: MockClock) -> None:
    """A clock that is off by three hours costs nothing; what the rig wrote is forwarded."""
    async with bench() as b:
        async with far_rig(b, ahead_s=-10_800) as rig:
            stamp = rig.now()
            await rig.say(meta_fields(1, 200, timestamp_frame=stamp), jpeg(200))
            await trio.sleep(0.05)  # until the pong is there
            await rig.say(close_fields(timestamp_end=rig.now()))
        (terminal,) = b.sink.only.terminals
    assert isinstance(terminal, FeedClose)
    assert offset(terminal) == (-10_800_010.0, -10_799_989.999)
    assert b.sink.only.frames[0].meta.timestamp_frame.text == stamp


async def test_a_rig_that_answers_no_ping_has_no_upper_end(autojump_clock: MockClock) -> None:
    """It is served as ever; the lower end is known all the same."""
    async with bench() as b:
        async with far_rig(b, pongs=0) as rig:
            await send_frames(rig, 2)
            await rig.say(close_fields(timestamp_end=rig.now()))
        (terminal,) = b.sink.only.terminals
    assert isinstance(terminal, FeedClose)
    assert offset(terminal) == (2990.0, None)


async def test_an_abort_carries_the_figures(autojump_clock: MockClock) -> None:
    """The terminal of a capture that went idle has them, as that of a clean one."""
    async with bench() as b:
        async with far_rig(b, ahead_s=-0.5):
            pass
        (terminal,) = b.sink.only.terminals
    assert isinstance(terminal, FeedAbort)
    assert "idle_s" in (terminal.detail or "")
    assert offset(terminal) == (-510.0, -489.999)


async def test_a_capture_refused_at_open_has_the_lower_end(autojump_clock: MockClock) -> None:
    """A clock beyond the allowed skew is refused for its event time, and its offset is seen."""
    async with bench(limits={"max_clock_skew_s": 60}) as b:
        rig = await b.capture(timestamp=at(3600), timestamp_start=at(3600))
        ending = await rig.ending()
        (ended,) = b.registry.ended
    assert ending.aborts[0].error_code is ErrorCode.PROTOCOL_VIOLATION
    assert "max_clock_skew_s" in (ending.aborts[0].detail or "")
    assert offset(ended) == (3_600_000.0, None)


async def test_a_slow_session_check_is_in_no_round_trip(autojump_clock: MockClock) -> None:
    """Nothing is read while the authority is asked; the ping is sent when that is over."""
    authority = ScriptedAuthority([SessionStatus.ACTIVE], delay_s=1)
    async with bench(authority=authority) as b:
        async with far_rig(b) as rig:
            await trio.sleep(1)
            await send_frames(rig, 2)
            await rig.say(close_fields(timestamp_end=rig.now()))
        (terminal,) = b.sink.only.terminals
    assert offset(terminal) == (2990.0, 3010.001)


@pytest.mark.parametrize("payload", [b"", b"\0\0\0\0", b"unasked"])
async def test_a_pong_that_nobody_asked_for_is_no_round_trip(
    autojump_clock: MockClock, payload: bytes
) -> None:
    """Before the ping and after it, with a payload that is not that of the ping."""
    async with bench() as b:
        rig = await b.connect()
        await rig.peer.send(frame(PONG, payload), encode(open_fields()))
        await trio.sleep(0.001)
        await rig.peer.send(frame(PONG, payload))
        await trio.sleep(0.001)
        (running,) = b.registry.statuses()
        await rig.say(close_fields(timestamp_end=at(1)))
        await rig.ending()
    assert offset(running) == (0.0, None)


async def test_a_capture_in_one_write_has_the_lower_end(autojump_clock: MockClock) -> None:
    """It is over before a pong could come: open, frame and close as one read."""
    late = at(-2)
    frame_sent = meta_fields(1, 200, timestamp=late), jpeg(200)
    first, last = open_fields(timestamp=late), close_fields(timestamp=late)
    async with bench() as b:
        ending = await b.in_one_write(first, *frame_sent, last, then_close=True)
        (terminal,) = b.sink.only.terminals
    assert ending.receipt["frames"] == 1
    assert offset(terminal) == (-2000.0, None)

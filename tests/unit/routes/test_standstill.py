"""A clock that jumps: what came while the worker stood still is taken before a time counts.

`MockClock.jump` is a process that was stopped: the time of all waits is over at once, and what
a rig has sent meanwhile lies in the stream. Over a real process:
tests/whole/hostile/test_standstill.py.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock, wait_all_tasks_blocked

from cfw.sessions import SessionStatus
from cfw.testing.fakes import ScriptedAuthority
from cfw.wire import HandshakeRejected, KeepaliveTimeout, MessageTimeout
from cfw.wire.patience import (
    LATE_S,
    OVERDUE_BYTES,
    OVERDUE_S,
    Patience,
    _holds,
    hold_after,
)
from cfw.wire.receiver import MIN_READ_BYTES, Receiver
from schemas import ErrorCode
from tests.factories import close_fields, jpeg, meta_fields, open_fields
from tests.unit.routes.kit import bench
from tests.unit.wire.peer import REQUEST, binary, frame, pair, parse_frames, ping, serve, text

#: What is said before the worker stands still and while it does, the time that is over then.
CUTS: dict[str, tuple[list[Any], list[Any], dict[str, float]]] = {
    "meta_to_bytes_s": ([open_fields(), meta_fields()], [jpeg()], {}),
    "idle_s": ([open_fields()], [meta_fields(), jpeg()], {}),
    "open_s": ([], [open_fields(), meta_fields(), jpeg()], {"open_s": 2}),
    "session_check_s": ([open_fields()], [meta_fields(), jpeg()], {"idle_s": 60}),
}


@pytest.mark.parametrize("late_s", [LATE_S * 1.5, 5.5, 300])
@pytest.mark.parametrize("what", CUTS)
async def test_a_rig_is_not_blamed_for_the_worker_standing_still(
    what: str, late_s: float, autojump_clock: MockClock
) -> None:
    """All was sent in time, so it is taken, and the times begin anew with it."""
    before, meanwhile, times = CUTS[what]
    authority = ScriptedAuthority(delay_s=0.5 if what == "session_check_s" else 0)
    limits = {"max_duration_s": 900, "max_clock_skew_s": 86_400}
    times = {"session_recheck_s": 800, **times}
    async with bench(authority=authority, limits=limits, times=times) as b:
        rig = await b.connect()
        if before:
            await rig.say(*before)
        await wait_all_tasks_blocked()
        await rig.say(*meanwhile, close_fields())
        autojump_clock.jump({"meta_to_bytes_s": 2, "idle_s": 5}.get(what, 2) + late_s)
        assert (await rig.ending()).receipt["frames"] == 1
    assert len(b.sink.only.frames) == 1


async def test_whoever_sent_nothing_has_a_moment_and_no_more(autojump_clock: MockClock) -> None:
    """Its bytes may be on the way, as its kernel was told to wait; they come or they do not."""
    for comes in (False, True):
        async with bench(limits={"max_duration_s": 900}, times={"session_recheck_s": 800}) as b:
            rig = await b.capture()
            await rig.say(meta_fields())
            await wait_all_tasks_blocked()
            autojump_clock.jump(30)
            began = trio.current_time()
            await trio.sleep(OVERDUE_S * 0.9)
            if comes:
                await rig.say(jpeg(), close_fields())
            ending = await rig.ending()
            if comes:
                assert ending.receipt["frames"] == 1
            else:
                assert trio.current_time() == began + OVERDUE_S
                assert "meta_to_bytes_s" in ending.reason


async def test_a_session_that_closed_meanwhile_is_told(autojump_clock: MockClock) -> None:
    """The re-check that was due as well is made first, and waited for."""
    answers: list[Any] = [SessionStatus.ACTIVE, SessionStatus.CLOSED]
    async with bench(authority=ScriptedAuthority(answers)) as b:
        rig = await b.capture()
        await wait_all_tasks_blocked()
        autojump_clock.jump(60)
        ending = await rig.ending()
    assert ending.aborts[0].error_code is ErrorCode.SESSION_CLOSED


async def test_bytes_that_follow_are_told_in_the_abort(autojump_clock: MockClock) -> None:
    """Nobody reads that they did not follow when they were following."""
    async with bench() as b:
        rig = await b.capture()
        await rig.say(meta_fields(1, 290_000))
        await rig.peer.send(binary(bytes(290_000))[:100_010])
        ending = await rig.ending()
    (abort,) = ending.aborts
    # What a frame has in front of its payload: 2 bytes, a length of 8, a mask of 4.
    assert "99996 of the 290000 bytes of the frame came within 2 s" in (abort.detail or "")
    assert (abort.observed, abort.limit) == (99_996, 290_000)


@pytest.mark.parametrize("what", ["meta_to_bytes_s", "idle_s"])
async def test_waiting_for_a_turn_is_no_time_of_the_rig(
    what: str, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each read comes 4 s late behind others that flood; a frame in many reads is taken."""
    times = {"session_recheck_s": 800, "keepalive_s": 1e6}
    async with bench(limits={"max_duration_s": 900}, times=times) as b:
        rig = await b.capture()
        await rig.say(*([meta_fields()] if what == "meta_to_bytes_s" else []))
        await wait_all_tasks_blocked()
        receive = Receiver.receive

        async def in_turn(receiver: Receiver, deadline: float) -> Any:
            began = trio.current_time()
            with trio.move_on_at(max(deadline, began)):
                await trio.sleep(4)
            now = trio.current_time()
            receiver.held_s += now - began
            # As from a socket, what is there is received then.
            return await receive(receiver, max(deadline, now + 0.001))

        monkeypatch.setattr(Receiver, "receive", in_turn)
        rest = binary(jpeg())
        if what == "idle_s":
            rest = text(json.dumps(meta_fields())) + rest
        for at in range(0, len(rest), 40):
            await rig.peer.send(rest[at : at + 40])
            await trio.sleep(3.9)
        await rig.say(close_fields())
        assert (await rig.ending()).receipt["frames"] == 1
        monkeypatch.undo()


# --- the wire alone -------------------------------------------------------------------------


@asynccontextmanager
async def connected(**settings: Any) -> AsyncIterator[tuple[Any, Any]]:
    transport, peer = pair()
    await peer.send(REQUEST)
    async with serve(transport, **settings) as socket:
        await peer.read_until(b"\r\n\r\n")
        yield socket, peer
        await peer.stream.aclose()


async def test_a_message_that_lies_there_is_no_slow_one(autojump_clock: MockClock) -> None:
    """`message_s` is over when it is read, and it is whole."""
    async with connected(message_s=5, keepalive_s=1e6) as (socket, peer):
        await peer.send(text("slow")[:5])
        async with trio.open_nursery() as nursery:
            got: list[Any] = []

            async def read() -> None:
                got.extend(await socket.receive_batch())

            nursery.start_soon(read)
            await wait_all_tasks_blocked()
            await peer.send(text("slow")[5:], text("next")[:4])
            autojump_clock.jump(9)
        assert got == ["slow"]
        # The next one has begun, and has a time of its own: nothing is carried over.
        began = trio.current_time()
        with pytest.raises(MessageTimeout):
            await socket.receive_batch()
        assert trio.current_time() == began + 5


async def test_the_time_of_a_message_is_not_carried_to_the_next(
    autojump_clock: MockClock,
) -> None:
    """Each has message_s, however long the one before it took, within one call too."""
    async with connected(message_s=5, keepalive_s=1e6) as (socket, peer):

        async def send() -> None:
            await peer.send(text("one")[:5])
            await trio.sleep(4)
            await peer.send(text("one")[5:] + text("two")[:5])
            await trio.sleep(4)
            await peer.send(text("two")[5:] + ping(b"1")[:4])
            await trio.sleep(4)
            await peer.send(ping(b"1")[4:] + text("three")[:5])
            await trio.sleep(0.5)
            await peer.send(text("three")[5:])
            four, five = text("four"), text("five")
            for part in (four[:5], four[5:] + five[:5], five[5:]):
                await trio.sleep(4)
                await peer.send(part)
            await trio.sleep(0.5)
            await peer.send(text("six")[:5])
            await trio.sleep(4)
            await peer.send(text("six")[5:])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            got = [await socket.receive_batch() for _ in range(6)]
        assert got == [["one"], ["two"], ["three"], ["four"], ["five"], ["six"]]


async def test_waiting_for_a_turn_is_no_time_of_the_peer(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind many that flood each read waits; the message has its message_s all the same."""
    async with connected(message_s=5, keepalive_s=1e6) as (socket, peer):
        receiver = socket._receiver
        receive = receiver.receive

        async def in_turn(deadline: float) -> Any:
            await trio.sleep(4)
            receiver.held_s += 4
            return await receive(deadline)

        monkeypatch.setattr(receiver, "receive", in_turn)

        async def send() -> None:
            for byte in text("slow"):
                await peer.send(bytes([byte]))
                await trio.sleep(4.1)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            assert await socket.receive_batch() == ["slow"]
        monkeypatch.undo()


@pytest.mark.parametrize("begun", [False, True], ids=["nothing", "half a message"])
async def test_until_holds_when_a_message_has_begun(
    begun: bool, autojump_clock: MockClock
) -> None:
    """Whoever waits until an instant is back then, whatever is half there."""
    async with connected(message_s=60, keepalive_s=1e6) as (socket, peer):

        async def send() -> None:
            await trio.sleep(1)
            if begun:
                await peer.send(text("half")[:5])
                await trio.sleep(1)
                await peer.send(text("half")[5:6])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            began = trio.current_time()
            assert await socket.receive_batch(until=began + 3) == []
            assert trio.current_time() == began + 3
        assert await socket.receive_batch(until=began + 4) == []
        assert trio.current_time() == began + 4


async def test_a_pong_that_lies_there_is_no_missing_one(autojump_clock: MockClock) -> None:
    """It is read, and whoever waits for it has it, before the connection counts as dead."""
    async with connected(keepalive_s=20, keepalive_timeout_s=15) as (socket, peer):
        async with trio.open_nursery() as nursery:
            got: list[Any] = []

            async def read() -> None:
                got.extend(await socket.receive_batch())

            nursery.start_soon(read)
            await wait_all_tasks_blocked()
            autojump_clock.jump(20)
            await wait_all_tasks_blocked()
            (asked,) = parse_frames(bytes(await peer.stream.receive_some()))
            assert asked[0] == 0x89
            await peer.send(frame(0x8A, asked[1]))
            autojump_clock.jump(100)
            await wait_all_tasks_blocked()
            await peer.send(text("alive"))
        assert got == ["alive"]
        with pytest.raises(KeepaliveTimeout):
            await socket.receive_batch()


async def test_a_request_that_lies_there_is_answered(autojump_clock: MockClock) -> None:
    """It came in time; the handshake is not refused for the worker's own pause."""
    transport, peer = pair()
    await peer.send(REQUEST[:30])

    async def serve_one() -> None:
        async with serve(transport, handshake_s=10) as socket:
            assert await socket.receive_batch() == ["hello"]
            await socket.close(1000, "", linger_s=1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_one)
        await wait_all_tasks_blocked()
        await peer.send(REQUEST[30:], text("hello"))
        autojump_clock.jump(60)
        assert (await peer.read_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        await peer.stream.aclose()


async def test_a_request_that_does_not_come_is_refused_a_moment_later(
    autojump_clock: MockClock,
) -> None:
    """A pause of the worker is no way to stay."""
    transport, peer = pair()
    await peer.send(REQUEST[:30])

    async def serve_one() -> None:
        with pytest.raises(HandshakeRejected, match="handshake took longer"):
            async with serve(transport, handshake_s=10):
                pass
        assert trio.current_time() == 60 + OVERDUE_S

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_one)
        await wait_all_tasks_blocked()
        autojump_clock.jump(60)
        assert (await peer.read_answer())[0] == 408
        await peer.stream.aclose()


@pytest.mark.parametrize("late_s", [0.0, 30.0], ids=["in time", "late"])
async def test_whole_messages_put_no_time_off_either(
    late_s: float, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many bytes of them are taken when the time is over, and then it is."""
    monkeypatch.setattr("cfw.wire.patience.OVERDUE_BYTES", 200_000)
    async with connected(message_s=5, keepalive_s=1e6) as (socket, peer):
        await peer.send(binary(bytes(94)) * 10_000)
        autojump_clock.jump(5 + late_s)
        taken = 0
        while batch := await socket.receive_batch(until=5):
            taken += 100 * len(batch)
        assert 200_000 <= taken < 200_000 + 2 * MIN_READ_BYTES
        assert await socket.receive_batch(until=4) == []
        assert await socket.receive_batch(until=trio.current_time() + 1) != []


# --- how long one is patient ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("late_s", "is_patient"), [(0.0, False), (LATE_S, False), (LATE_S * 1.01, True)]
)
def test_only_who_was_away_is_patient(late_s: float, is_patient: bool) -> None:
    """A time found to be over in time is held against the peer when nothing is there."""
    patience, now = Patience(), 100 + late_s
    assert patience.is_over(100, now, None, was_held=False) is not is_patient
    if is_patient:
        assert patience.wait_until(100, now) == now + OVERDUE_S
        assert patience.is_over(100, now + OVERDUE_S, None, was_held=False)


def test_who_was_not_read_has_the_same_moment() -> None:
    """Its turn had not come, so its kernel may have been told to wait."""
    patience = Patience()
    assert not patience.is_over(100, 100, None, was_held=True)
    assert patience.wait_until(100, 100) == 100 + OVERDUE_S
    assert patience.is_over(100, 100 + OVERDUE_S, None, was_held=False)


@pytest.mark.parametrize("late_s", [0, 5])
def test_nobody_puts_a_time_off_by_sending(late_s: float) -> None:
    """Bytes are taken as long as they are there, up to a bound and for a moment at most."""
    patience, now = Patience(), 100 + late_s
    half = OVERDUE_BYTES // 2
    assert not patience.is_over(100, now, half - 1, was_held=False)
    assert not patience.is_over(100, now, half, was_held=False)
    assert patience.is_over(100, now, 1, was_held=False)
    slow = Patience()
    assert not slow.is_over(100, now, 1, was_held=False)
    assert not slow.is_over(100, now + OVERDUE_S * 0.99, 1, was_held=False)
    # Another time that was over as well has no moment of its own; a later one has.
    assert slow.is_over(now - 0.001, now + OVERDUE_S, 1, was_held=False)
    assert not slow.is_over(now + 1, now + 1, 1, was_held=False)


# --- whoever waits in several places --------------------------------------------------------


async def test_a_hold_ends_on_its_instant(autojump_clock: MockClock) -> None:
    """As `move_on_after` does, one within another too, and when it is cancelled before."""
    with hold_after(9) as outer:
        with hold_after(5) as scope:
            await trio.sleep_forever()
        assert scope.cancelled_caught
        assert trio.current_time() == 5
        with hold_after(3) as scope:
            scope.cancel()
            await trio.sleep_forever()
        assert trio.current_time() == 5
        await trio.sleep_forever()
    assert outer.cancelled_caught
    assert trio.current_time() == 9


@pytest.mark.parametrize("pauses", [1, 3])
async def test_a_hold_that_was_missed_gives_a_moment_more(
    pauses: int, autojump_clock: MockClock
) -> None:
    """Each pause of the worker gives one, and no other hold is touched by it."""
    with hold_after(1000) as other, hold_after(5) as scope:
        for _ in range(pauses):
            await trio.lowlevel.checkpoint()
            autojump_clock.jump(60)
        await trio.sleep_forever()
    assert scope.cancelled_caught
    assert trio.current_time() == 60 * pauses + OVERDUE_S
    assert not other.cancel_called


async def test_what_is_held_costs_nothing_when_nothing_is(autojump_clock: MockClock) -> None:
    """Trio is asked to look only while somebody waits, however that ended."""
    holds = _holds()
    with hold_after(5):
        trio.lowlevel.remove_instrument(holds)  # it is there
        trio.lowlevel.add_instrument(holds)
    with pytest.raises(ValueError, match="ours"), hold_after(5), hold_after(6):
        raise ValueError("ours")
    with pytest.raises(KeyError):
        trio.lowlevel.remove_instrument(holds)

"""Receiving: how much at once, from what, until when."""

import contextlib
import math
import random
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from cfw.wire import arming, moderation
from cfw.wire._pure import Bytes
from cfw.wire.receiver import MAX_READ_BYTES, MIN_READ_BYTES, ROUND_S, TURNS, Receiver


@pytest.fixture(autouse=True, params=["armed once", "armed each time", "gathered"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How Trio is woken, where it can be had and where it cannot; and behind naps."""
    if request.param == "armed each time":
        monkeypatch.setattr(arming, "_is_tolerated", lambda: False)
    if request.param == "gathered":
        for name, value in {"SAMPLE": 1, "RATE": 0, "FULL": math.inf, "MANY": 1}.items():
            monkeypatch.setattr(moderation, name, value)


@contextmanager
def connected() -> Iterator[tuple[Receiver, socket.socket]]:
    """A receiver on a socket, and its peer."""
    ours, peer = socket.socketpair()
    with ours, peer:
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
        yield Receiver(stream), peer


@pytest.mark.parametrize("short", [0, 1])
async def test_a_read_that_was_full_makes_the_next_one_larger(
    monkeypatch: pytest.MonkeyPatch, short: int
) -> None:
    """Twice as large up to the largest; one byte fewer, and it stays as it is."""
    asked: list[int] = []

    def readv(_: int, spaces: tuple[memoryview]) -> int:
        asked.append(len(spaces[0]))
        peer.send(b"more")
        return len(spaces[0]) - short

    monkeypatch.setattr("os.readv", readv)
    with connected() as (receiver, peer):
        for _ in range(6):
            assert len(await receiver.receive() or b"") == asked[-1] - short
        if short:
            assert asked == [MIN_READ_BYTES] * 6
        else:
            assert asked[:5] == [MIN_READ_BYTES << step for step in range(5)]
            assert asked[4:] == [MAX_READ_BYTES] * 2
        receiver.slow_down()
        await receiver.receive()
        assert asked[-1] == MIN_READ_BYTES


async def test_bytes_come_in_order_and_then_the_end() -> None:
    """Received in one space, each read is what the peer sent next."""
    sent = bytes(range(256)) * 2048
    got = b""

    def send() -> None:
        peer.sendall(sent)
        peer.shutdown(socket.SHUT_WR)

    with connected() as (receiver, peer):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, send)
            while data := await receiver.receive():
                got += data
    assert got == sent
    assert data is not None


async def test_threads_do_not_share_a_space() -> None:
    """What one thread has received stays as it is while another one receives."""
    received = []

    async def main() -> None:
        with connected() as (receiver, peer):
            peer.sendall(b"elsewhere")
            received.append(bytes(await receiver.receive() or b""))

    with connected() as (receiver, peer):
        peer.sendall(b"here")
        here = await receiver.receive()
        await trio.to_thread.run_sync(trio.run, main)
    assert here is not None
    assert bytes(here) == b"here"
    assert received == [b"elsewhere"]


@pytest.fixture(params=["socket", "stream"])
def silent(request: pytest.FixtureRequest) -> Iterator[Receiver]:
    """A receiver whose peer sends nothing."""
    if request.param == "stream":
        yield Receiver(memory_stream_pair()[0])
        return
    with connected() as (receiver, _):
        yield receiver


async def test_a_wait_ends_at_its_instant(silent: Receiver, autojump_clock: MockClock) -> None:
    """Not before and not after it, also when it has passed."""
    assert await silent.receive(5.0) is None
    assert trio.current_time() == 5.0
    assert await silent.receive(4.0) is None
    assert trio.current_time() == 5.0


async def test_a_wait_ends_when_woken(silent: Receiver, autojump_clock: MockClock) -> None:
    """Woken while it waits, or before it begins to."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(silent.receive, math.inf)
        await wait_all_tasks_blocked()
        silent.wake()
    assert silent.is_woken
    assert await silent.receive(math.inf) is None
    silent.is_woken = False
    assert await silent.receive(7.0) is None
    assert trio.current_time() == 7.0


async def test_a_cancelled_wait_loses_no_byte() -> None:
    """Cancelled at its checkpoint although bytes are there, the next read has them."""
    with connected() as (receiver, peer):
        peer.sendall(b"bytes")
        with trio.CancelScope() as scope:
            scope.cancel()
            await receiver.receive()
        assert scope.cancelled_caught
        assert bytes(await receiver.receive() or b"") == b"bytes"


@pytest.mark.parametrize("seed", range(3))
async def test_no_byte_is_waited_for_that_has_come(seed: int) -> None:
    """The kernel's own events: writers in threads, in pieces and with pauses of any length,
    against reads that are cancelled, woken and late at any time. What is lost would be waited
    for until the test is ended."""

    def write(peer: socket.socket, dice: random.Random) -> None:
        for at in range(0, len(sent), 1_000):
            peer.sendall(sent[at : at + 1_000])
            if dice.random() < 0.3:
                time.sleep(dice.random() * 0.002)
        peer.shutdown(socket.SHUT_WR)

    async def read(receiver: Receiver, dice: random.Random) -> None:
        got = bytearray()
        data: Bytes | None = None
        while data is None or data:
            data = None
            with trio.move_on_after(dice.choice([0, 0.0005, math.inf])):
                until = trio.current_time() + dice.choice([0, 0.0005, math.inf])
                data = await receiver.receive(until)
                got += data or b""
            receiver.is_woken = receiver.is_called = False
        receiver.release()
        assert got == sent

    sent = random.Random(seed).randbytes(100_000)
    with contextlib.ExitStack() as stack:
        async with trio.open_nursery() as nursery:
            for number in range(8):
                receiver, peer = stack.enter_context(connected())
                dice = random.Random(seed * 100 + number)
                nursery.start_soon(trio.to_thread.run_sync, write, peer, dice)
                nursery.start_soon(read, receiver, random.Random(number))


async def test_a_socket_that_is_closed_ends_the_wait_for_it() -> None:
    """Nobody else would wake who waits: the kernel forgets what is closed."""
    with connected() as (receiver, _):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receiver_is_released, receiver)
            await wait_all_tasks_blocked()
            receiver.release()


async def receiver_is_released(receiver: Receiver) -> None:
    with pytest.raises(trio.ClosedResourceError):
        await receiver.receive()


async def test_a_socket_is_not_taken_for_one_that_had_its_number() -> None:
    """A new connection gets the lowest number that is free; what is told of the old one, and
    who lets go of it late, does not touch it."""
    with connected() as (old, peer):
        assert await old.receive(trio.current_time()) is None
        peer.send(b"old")
        assert old._socket is not None
        number = old._socket.fileno()
        old._socket.close()
        with connected() as (new, new_peer):
            assert new._socket is not None
            if new._socket.fileno() != number:
                pytest.skip("this system gives another number")
            assert await new.receive(trio.current_time()) is None
            old.release()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(receives, new, b"new")
                await wait_all_tasks_blocked()
                new_peer.send(b"new")
            new.release()


async def receives(receiver: Receiver, data: bytes) -> None:
    assert bytes(await receiver.receive() or b"") == data


async def test_what_watches_sockets_ends_with_the_last_of_them() -> None:
    """No task and no descriptor is left behind, and the next one is watched again."""
    before = trio.lowlevel.current_statistics().tasks_living
    for _ in range(2):
        with connected() as (one, _), connected() as (other, _):
            for receiver in (one, other):
                assert await receiver.receive(trio.current_time()) is None
            one.release()
            assert trio.lowlevel.current_statistics().tasks_living > before
            other.release()
            await wait_all_tasks_blocked()
            assert trio.lowlevel.current_statistics().tasks_living == before


async def test_deadlines_that_moved_on_leave_nothing(autojump_clock: MockClock) -> None:
    """Of thousands of alarms that are not wanted any more, few are kept; the last one rings."""
    with connected() as (receiver, _):
        assert await receiver.receive(trio.current_time()) is None
        for late in range(2_000):
            # Each is sooner than the one before, so each is an alarm of its own.
            with trio.move_on_after(0):
                await receiver.receive(trio.current_time() + 10_000 - late)
        watch = receiver._readiness._watch
        assert watch is not None
        assert len(watch.alarms._heap) < 500
        assert await receiver.receive(trio.current_time() + 5) is None
        receiver.release()


class Passes(trio.abc.Instrument):
    """Counts the passes of the event loop."""

    number = 0

    def before_io_wait(self, timeout: float) -> None:
        self.number += 1


@pytest.mark.parametrize("rigs", [1, TURNS, TURNS + 1, 5 * TURNS])
async def test_a_few_of_those_that_flood_are_read_in_one_pass(
    monkeypatch: pytest.MonkeyPatch, rigs: int
) -> None:
    """As many as there are turns, each as often as another; one that does not never waits."""
    passes = Passes()
    read_in: dict[int, list[int]] = {}

    def readv(number: int, spaces: tuple[memoryview]) -> int:
        read_in.setdefault(number, []).append(passes.number)
        # The first socket is that of a rig which never fills a read.
        if number == slow:
            slow_peer.send(b"more")
        return len(spaces[0]) - (number == slow)

    async def read(receiver: Receiver) -> None:
        while True:
            assert await receiver.receive()

    with contextlib.ExitStack() as stack:
        pairs = [stack.enter_context(connected()) for _ in range(rigs + 1)]
        receivers, slow_peer = [receiver for receiver, _ in pairs], pairs[0][1]
        assert receivers[0]._socket is not None
        slow = receivers[0]._socket.fileno()
        monkeypatch.setattr("os.readv", readv)
        trio.lowlevel.add_instrument(passes)
        async with trio.open_nursery() as nursery:
            for receiver in receivers:
                nursery.start_soon(read, receiver)
            while passes.number < 200:
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        trio.lowlevel.remove_instrument(passes)
        monkeypatch.undo()
    unhurried = read_in.pop(slow)
    assert len(unhurried) > 190
    counts = [len(reads) for reads in read_in.values()]
    assert max(counts) < 1.5 * min(counts)
    # The first read of each says that it floods.
    by_pass = Counter(each for reads in read_in.values() for each in reads[1:])
    assert max(by_pass.values()) == min(rigs, TURNS)


RIGS = 40


@pytest.mark.parametrize("turn_bytes", [MIN_READ_BYTES, 2 * MIN_READ_BYTES, MAX_READ_BYTES])
async def test_a_round_of_turns_takes_no_longer_the_dearer_the_sink(
    monkeypatch: pytest.MonkeyPatch, mock_clock: MockClock, turn_bytes: int
) -> None:
    """Each gets as much in its turn as lets the others have theirs in a second, and no less."""
    #: What the sink takes a second: a round of such turns.
    rate = (RIGS - TURNS) * turn_bytes / ROUND_S
    asked: dict[int, list[int]] = {}
    held_s: list[float] = []

    def readv(number: int, spaces: tuple[memoryview]) -> int:
        size = len(spaces[0])
        asked.setdefault(number, []).append(size)
        mock_clock.jump(size / rate)
        return size

    async def read(receiver: Receiver) -> None:
        for _ in range(30):
            receiver.held_s = 0.0
            await receiver.receive()
            held_s.append(receiver.held_s)

    with contextlib.ExitStack() as stack:
        receivers = [stack.enter_context(connected())[0] for _ in range(RIGS)]
        monkeypatch.setattr("os.readv", readv)
        async with trio.open_nursery() as nursery:
            for receiver in receivers:
                nursery.start_soon(read, receiver)
        monkeypatch.undo()
    settled = {size for sizes in asked.values() for size in sizes[15:25]}
    assert 0.85 * turn_bytes <= min(settled) <= max(settled) <= 1.3 * turn_bytes
    assert max(held_s[15 * RIGS : 25 * RIGS]) < 1.3 * ROUND_S


async def test_one_that_floods_alone_is_read_all_it_can_take(
    monkeypatch: pytest.MonkeyPatch, mock_clock: MockClock
) -> None:
    """Where as much is taken within a second."""
    asked: list[int] = []

    def readv(_: int, spaces: tuple[memoryview]) -> int:
        asked.append(len(spaces[0]))
        mock_clock.jump(len(spaces[0]) / (MAX_READ_BYTES / ROUND_S))
        return asked[-1]

    with connected() as (receiver, _):
        monkeypatch.setattr("os.readv", readv)
        for _ in range(10):
            await receiver.receive()
        monkeypatch.undo()
    assert asked[-1] == MAX_READ_BYTES


@pytest.mark.parametrize("how", ["woken", "late"])
async def test_who_waits_for_a_turn_is_woken_at_once(
    monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """A verdict or a deadline does not wait until all others that flood were read."""
    passes = Passes()

    async def read(receiver: Receiver) -> None:
        while True:
            assert await receiver.receive()

    with contextlib.ExitStack() as stack:
        receivers = [stack.enter_context(connected())[0] for _ in range(50 * TURNS)]
        monkeypatch.setattr("os.readv", lambda _, spaces: len(spaces[0]))
        trio.lowlevel.add_instrument(passes)
        async with trio.open_nursery() as nursery:
            for receiver in receivers[1:]:
                nursery.start_soon(read, receiver)
            await receivers[0].receive()  # from now on it floods
            await some_passes()  # and the others wait before it
            if how == "woken":
                nursery.start_soon(wake_when_parked, receivers[0])
                deadline = math.inf
            else:
                deadline = trio.current_time()
            began = passes.number
            assert await receivers[0].receive(deadline)  # what has come is not lost on it
            assert receivers[0].is_woken is (how == "woken")
            assert receivers[0].held_s > 0
            assert passes.number - began < 10
            nursery.cancel_scope.cancel()
        trio.lowlevel.remove_instrument(passes)


async def some_passes() -> None:
    for _ in range(3):
        await trio.lowlevel.checkpoint()


async def wake_when_parked(receiver: Receiver) -> None:
    await some_passes()
    receiver.wake()


async def test_a_rig_that_was_waited_for_does_not_flood(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever has sent no more than was read is read little of next time, and out of turn."""
    asked: list[int] = []
    is_empty = False

    def readv(_: int, spaces: tuple[memoryview]) -> int:
        nonlocal is_empty
        if is_empty:
            is_empty = False
            raise BlockingIOError
        asked.append(len(spaces[0]))
        return len(spaces[0])

    monkeypatch.setattr("os.readv", readv)
    with connected() as (receiver, peer):
        peer.sendall(b"readable")
        for _ in range(3):
            await receiver.receive()
        is_empty = True
        await receiver.receive()
    assert asked == [MIN_READ_BYTES, 2 * MIN_READ_BYTES, 4 * MIN_READ_BYTES, MIN_READ_BYTES]


@pytest.mark.parametrize("waits", [0, 1])
def test_a_run_may_end_while_a_socket_is_watched(
    caplog: pytest.LogCaptureFixture, waits: int
) -> None:
    """Nobody looks any more at what is closed by then, before and behind its first bytes."""

    async def leave() -> None:
        with connected() as (receiver, peer):
            await receiver.receive(trio.current_time())
            for _ in range(waits):
                peer.send(b".")
                assert await receiver.receive() == b"."
                await receiver.receive(trio.current_time() + 0.01)

    trio.run(leave)
    assert caplog.text == ""

"""When wake-ups are gathered, and that nothing waits for it longer than it says."""

from __future__ import annotations

import contextlib
import math
import socket
from collections.abc import AsyncIterator

import pytest
import trio

from cfw.wire import moderation
from cfw.wire.moderation import FULL, HOLD_S, MANY, RATE, SAMPLE, WINDOW_S, Moderation
from cfw.wire.receiver import Receiver


class Machine:
    """Time that passes when it is told to, and whoever naps in it."""

    def __init__(self) -> None:
        self.now_s = 5.0
        self.used_s = 1.0
        self.sockets = MANY
        self.naps: list[float] = []
        self.moderation = Moderation(lambda: self.now_s, lambda: self.used_s, self.sleep)

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.now_s += seconds

    def wake(self, times: int, per_s: float, *, busy: float = 0.2) -> None:
        """Be woken so often by bytes, one after the other."""
        for _ in range(times):
            self.now_s += 1 / per_s
            self.used_s += busy / per_s
            self.moderation.note(self.sockets)


@pytest.fixture
async def machine() -> AsyncIterator[Machine]:
    machine = Machine()
    yield machine
    machine.moderation.stop()


@pytest.mark.parametrize("per_s", [RATE * 0.99, RATE * 1.01])
async def test_it_begins_above_the_rate(machine: Machine, per_s: float) -> None:
    """With the last wake-up of a sample, and not before."""
    machine.wake(SAMPLE - 1, per_s)
    assert not machine.moderation.is_on
    machine.wake(1, per_s)
    assert machine.moderation.is_on is (per_s > RATE)
    for _ in range(0 if per_s > RATE else 10 * SAMPLE):
        machine.wake(1, per_s)
        assert not machine.moderation.is_on


@pytest.mark.parametrize("busy", [FULL * 0.99, FULL * 1.01])
async def test_a_core_that_is_full_does_not_begin(machine: Machine, busy: float) -> None:
    """What it naps is not there: it would take fewer frames than it can."""
    machine.wake(SAMPLE, 2 * RATE, busy=busy)
    assert machine.moderation.is_on is (busy < FULL)


@pytest.mark.parametrize("sockets", [MANY - 1, MANY])
async def test_few_sockets_are_not_gathered(machine: Machine, sockets: int) -> None:
    """They are read as fast as they send: nobody else is held up by their wake-ups."""
    machine.sockets = sockets
    machine.wake(SAMPLE, 2 * RATE)
    assert machine.moderation.is_on is (sockets == MANY)


async def test_it_stops_below_the_rate(machine: Machine) -> None:
    """Whatever the naps have made of the rate, a sample without them says so in time."""
    machine.wake(SAMPLE, 2 * RATE)
    began = machine.now_s
    while machine.moderation.is_on:
        machine.wake(1, RATE / 10)
    assert machine.now_s - began <= HOLD_S + 10 / RATE
    machine.wake(10 * SAMPLE, RATE / 10)
    assert not machine.moderation.is_on


async def test_it_goes_on_for_as_long_as_it_is_worth_it(machine: Machine) -> None:
    """Measured again and again, for less than a tenth of the time."""
    machine.wake(SAMPLE, 2 * RATE)
    gathered = 0
    for _ in range(100 * SAMPLE):
        machine.wake(1, 2 * RATE)
        gathered += machine.moderation.is_on
    assert gathered > 0.9 * 100 * SAMPLE


@pytest.mark.parametrize("took_s", [0.0, 0.25 * WINDOW_S, WINDOW_S, 3 * WINDOW_S])
async def test_a_nap_ends_with_the_window(machine: Machine, took_s: float) -> None:
    """It counts from the wake-up: what the frames took is no part of the nap."""
    machine.wake(SAMPLE, 2 * RATE)
    woken_at = machine.now_s
    machine.now_s += took_s
    machine.moderation.before_io_wait(math.inf)
    assert machine.now_s == pytest.approx(max(woken_at + WINDOW_S, woken_at + took_s))


@pytest.mark.parametrize("timeout", [0.0, 0.3 * WINDOW_S, WINDOW_S, 60.0])
async def test_no_deadline_comes_late(machine: Machine, timeout: float) -> None:
    """A task that is to run, or the next deadline, is not slept over."""
    machine.wake(SAMPLE, 2 * RATE)
    machine.moderation.before_io_wait(timeout)
    assert sum(machine.naps) == pytest.approx(min(timeout, WINDOW_S))


async def test_trio_asks_it_only_while_it_gathers(
    machine: Machine, autojump_clock: trio.testing.MockClock
) -> None:
    """A worker with few rigs pays nothing for it; and no time but the machine's is napped."""
    machine.wake(SAMPLE, 2 * RATE)
    for _ in range(20):
        await trio.sleep(1)
    assert machine.naps == []
    autojump_clock.autojump_threshold = math.inf
    autojump_clock.rate = 1000.0
    await trio.sleep(5)
    assert machine.naps
    machine.moderation.stop()
    machine.naps.clear()
    await trio.sleep(5)
    assert machine.naps == []


async def test_what_watches_sockets_tells_of_its_wake_ups(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Over real ones; and with the last of them nothing is gathered any more."""
    for name, value in {"SAMPLE": 1, "RATE": 0, "FULL": math.inf, "MANY": 2}.items():
        monkeypatch.setattr(moderation, name, value)
    with contextlib.ExitStack() as stack:
        pairs = [socket.socketpair() for _ in range(2)]
        for sock in (end for pair in pairs for end in pair):
            stack.enter_context(sock)
        receivers = [
            Receiver(trio.SocketStream(trio.socket.from_stdlib_socket(ours)))
            for ours, _ in pairs
        ]
        gathered = []
        for receiver, (_, peer) in zip(receivers, pairs, strict=True):
            assert await receiver.receive(trio.current_time()) is None
            peer.send(b".")
            with trio.fail_after(40):
                assert await receiver.receive()
            watch = receiver._readiness._watch
            assert watch is not None
            watching = watch._moderation
            gathered.append(watching.is_on)
        assert gathered == [False, True]
        for receiver in receivers:
            receiver.release()
        assert not watching.is_on

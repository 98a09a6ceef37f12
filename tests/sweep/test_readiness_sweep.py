"""Waiting for sockets, swept: no wake-up is lost, whoever is cut or woken and whenever."""

from __future__ import annotations

import trio
from trio.testing import wait_all_tasks_blocked

from cfw.testing.sweep import World, grid, sweep
from cfw.wire.receiver import Receiver
from tests.sweep.kernel import Kernel

#: When the peer of each of two sockets sends, in seconds; the last time it ends as well.
SENT_AT = ((0.01, 0.02, 0.02, 0.05), (0.02, 0.03, 0.05, 0.05))
#: An alarm comes beside bytes, between them, or in the middle of a frame.
DEADLINES = (0.004, 0.01, 1.0)


class Talk:
    """One socket, what comes on it, and who reads it."""

    def __init__(self, kernel: Kernel, number: int) -> None:
        self.kernel = kernel
        self.stream = kernel.socket()
        self.receiver = Receiver(self.stream)
        self.sent_at = SENT_AT[number]
        self.received = bytearray()
        self.late: list[float] = []
        self.came_at = 0.0

    async def send(self) -> None:
        for number, at in enumerate(self.sent_at):
            await trio.sleep_until(at)
            self.came_at = at
            is_last = number == len(self.sent_at) - 1
            self.kernel.come(self.stream, bytes([number]) * 10, ended=is_last)

    async def read(self, world: World, name: str, deadline_s: float) -> None:
        """Read to the end, again and again where it is cut."""
        while True:
            with trio.CancelScope() as scope:
                world.expose(name, scope)
                began = trio.current_time()
                data = await self.receiver.receive(began + deadline_s)
                now = trio.current_time()
                self.late.append(now - max(began, self.came_at if data else began + deadline_s))
                self.receiver.is_woken = self.receiver.is_called = False
                if data is not None:
                    self.received += data
                    if not data:
                        break
        self.receiver.release()


@sweep(
    at=["first", "second", "wake", "look up"],
    schedules=["fifo", "lifo"],
    params=grid(deadline_s=list(DEADLINES), arms_once=[False, True]),
    jobs=1,
    fork=False,
)
async def test_no_wake_up_is_lost(world: World, deadline_s: float, arms_once: bool) -> None:
    """Two sockets that speak, at one time and at others, under deadlines that move on: each
    byte is read in its order and at the instant at which it came, and so is the end."""
    kernel = Kernel()
    with kernel.used(arms_once=arms_once):
        first, second = (Talk(kernel, number) for number in range(2))
        world.expose("wake", first.receiver.wake)
        world.expose("look up", first.receiver.look_up)
        async with trio.open_nursery() as nursery:
            for talk, name in ((first, "first"), (second, "second")):
                nursery.start_soon(talk.send)
                nursery.start_soon(talk.read, world, name, deadline_s)
        await wait_all_tasks_blocked()  # what watched them ends behind the last of them

    def all_came() -> None:
        for talk in (first, second):
            assert talk.received == b"".join(bytes([n]) * 10 for n in range(4))
            assert max(talk.late) <= 0

    world.check(all_came, "no_wake_up_is_lost")

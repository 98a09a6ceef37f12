"""A complete sweep: a pump between two channels, cancelled wherever it can be.

`pump` owns a slot of a limiter and both ends of a pipe. Whenever it is cancelled, the slot
must be given back, both ends closed, and no item lost without being counted.
"""

from collections.abc import Iterable

import trio

from cfw.testing.sweep import World, grid, sweep


class Pump:
    """Moves items from a source to a slow sink through a buffer of two."""

    def __init__(self, limiter: trio.CapacityLimiter, sink_delay: float) -> None:
        self.limiter = limiter
        self.sink_delay = sink_delay
        self.accepted = 0
        self.delivered = 0
        self.dropped = 0

    async def run(self, items: Iterable[int]) -> None:
        async with self.limiter:
            send, receive = trio.open_memory_channel[int](2)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.forward, receive)
                async with send:
                    for item in items:
                        await send.send(item)
                        self.accepted += 1

    async def forward(self, receive: trio.MemoryReceiveChannel[int]) -> None:
        with receive:
            try:
                async for _ in receive:
                    # Handed over before the pause: a cancellation cannot fall between.
                    self.delivered += 1
                    await trio.sleep(self.sink_delay)
            finally:
                # Closing throws away what is queued, so it is counted first.
                self.dropped = receive.statistics().current_buffer_used


@sweep(
    at=["pump", "nurseries"],
    schedules=["fifo", "lifo", *range(4)],
    params=grid(sink_delay=[0, 0.05]),
    sometimes=["cut with items queued"],
)
async def test_pump(world: World, sink_delay: float) -> None:
    limiter = world.track("slot given back", trio.CapacityLimiter(1))
    pump = Pump(limiter, sink_delay)

    with trio.CancelScope() as scope:
        world.expose("pump", scope)
        await pump.run(range(5))

    def nothing_lost() -> None:
        assert pump.accepted == pump.delivered + pump.dropped, vars(pump)

    def all_delivered_if_left_alone() -> None:
        assert world.injected or pump.delivered == 5

    world.check(nothing_lost)
    world.check(all_delivered_if_left_alone)
    world.sometimes("cut with items queued", pump.dropped > 0)

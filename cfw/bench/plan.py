"""How much is measured: sizes of frames, numbers of rigs, seconds and rounds."""

from __future__ import annotations

import attrs

FPS = 15.0
FRAME_BYTES = 30_000
#: A size and a number of rigs are left out together when a server would have to hold more.
MOST_BYTES = 500_000_000


@attrs.frozen
class Plan:
    """How much is measured.

    Args:
        sizes: bytes per frame.
        connections: rigs at a time, for all sizes.
        more_connections: further numbers of rigs, for 30 kB only.
        seconds: of one run at full speed.
        rounds: runs of each server; the median counts.
        fps: frames a second of a rig that sends at a pace.
        paced_s: seconds of one run at a pace.
        paced_rounds: rounds of those runs.
        paced_rigs: rigs that send at a pace, for all sizes of `paced_sizes`.
        paced_sizes: bytes of their frames.
        aborts: violations in one run.
        idle: idle connections.
    """

    sizes: tuple[int, ...] = (1_000, FRAME_BYTES, 300_000, 2_000_000)
    connections: tuple[int, ...] = (10,)
    more_connections: tuple[int, ...] = (1, 100)
    seconds: float = 1.0
    rounds: int = 3
    fps: float = FPS
    paced_s: float = 5.0
    paced_rounds: int = 3
    paced_rigs: tuple[int, ...] = (20, 100, 300)
    paced_sizes: tuple[int, ...] = (FRAME_BYTES,)
    aborts: int = 200
    idle: int = 2_000

    def loads(self) -> list[tuple[int, int]]:
        """Sizes and numbers of rigs that are measured together."""
        loads = [(size, number) for size in self.sizes for number in self.connections]
        if FRAME_BYTES in self.sizes:
            extra = set(self.more_connections) - set(self.connections)
            loads += [(FRAME_BYTES, number) for number in sorted(extra)]
        return [(size, number) for size, number in loads if size * number <= MOST_BYTES]


SHORT = Plan(
    more_connections=(100,),
    seconds=0.2,
    paced_s=1.0,
    paced_rounds=1,
    paced_rigs=(100,),
    aborts=50,
    idle=300,
)
USUAL = Plan(more_connections=(1, 100, 1_000))
FULL = Plan(
    connections=(1, 10, 100, 1_000),
    seconds=2.0,
    rounds=5,
    paced_s=10.0,
    paced_rounds=5,
    paced_rigs=(20, 100, 300, 500),
)


def size_text(size: int) -> str:
    """Bytes as people read them."""
    return f"{size / 1e6:g} MB" if size >= 1_000_000 else f"{size / 1e3:g} kB"

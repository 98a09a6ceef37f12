"""What a connection weighs that waits, and a capture whose sink takes nothing."""

from __future__ import annotations

from functools import partial

from cfw.bench.load import open_rigs
from cfw.bench.plan import FRAME_BYTES, size_text
from cfw.bench.rig import BenchError, Rig
from cfw.bench.rounds import Rounds
from cfw.bench.servers import STALLED, Server
from cfw.bench.tables import Column, Sample, Table

#: The forward buffers that are filled, and the frames that fill them.
BUFFER_BYTES = (16_000_000, 64_000_000)
_FILLED_WITH = (FRAME_BYTES, 300_000, 2_000_000)
IDLE = (Column("kilobytes", "kB a connection", 1, is_ratio=True),)
MEMORY = (
    Column("ratio", "peak / buffer", 3),
    Column("peak_mb", "peak MB", 2),
    Column("kept_mb", "MB kept behind it", 2),
)


def idle_tables(rounds: Rounds) -> list[Table]:
    """Measure once: what is freed would hide what the next ones take."""
    number = rounds.plan.idle
    title = f"memory of a connection with an open capture, {number} of them"
    return rounds.tables("idle", title, IDLE, partial(idle, number=number), rounds.names, 1)


def memory_tables(rounds: Rounds) -> list[Table]:
    """Fill each buffer with each size of frames, in a process each, for the same reason."""
    found = []
    for buffer_bytes in BUFFER_BYTES:
        for size in _FILLED_WITH:
            with rounds.stalled(buffer_bytes):
                measure = partial(memory, size=size, buffer_bytes=buffer_bytes)
                title = (
                    "peak memory of a capture that fills its forward buffer of "
                    f"{size_text(buffer_bytes)} with frames of {size_text(size)}"
                )
                found += rounds.tables("memory", title, MEMORY, measure, [STALLED], 1)
    return found


def idle(server: Server, *, number: int) -> Sample:
    """Open captures that send nothing, and see what they weigh."""
    for rig in open_rigs(server.port, 20, FRAME_BYTES, server.trust):
        rig.close()  # what is loaded by the first connections is not theirs
    server.wait_quiet()
    before = server.resident_bytes()
    rigs = open_rigs(server.port, number, 100, server.trust)
    try:
        server.wait_quiet()
        after = server.resident_bytes()
    finally:
        for rig in rigs:
            rig.close()
    if before is None or after is None:
        return {"kilobytes": None}
    return {"kilobytes": (after - before) / number / 1e3}


def memory(server: Server, *, size: int, buffer_bytes: int) -> Sample:
    """Fill the forward buffer of one capture until it is aborted, and see what that takes.

    The ratio is the most memory that the process had meanwhile, less what it had without a
    capture, to the configured `max_forward_buffer_bytes`. So it counts all that a capture
    whose sink takes nothing can cost the machine: the frames that wait, the one that finds no
    room, what was read and is not decoded yet, and what the allocator wastes; not what the
    kernel holds in its sockets.
    """
    warm = Rig(server.port, 0, 100)
    warm.open()
    warm.say(warm.meta(seq=7))
    warm.wait_end()  # what is loaded by the first capture is not part of the next one
    warm.close()
    server.wait_quiet()
    before = server.resident_bytes()
    server.reset_peak()
    rig = Rig(server.port, 1, size)
    try:
        rig.open()
        for _ in range(buffer_bytes // size + 1):
            rig.sock.sendall(rig.next_meta() + rig.data)
        end = rig.wait_end()
    finally:
        rig.close()
    if not end.reason.startswith("limit_forward_buffer_exceeded"):
        raise BenchError(f"a full buffer was answered with {end.code} {end.reason}")
    peak = server.peak_bytes()
    server.wait_quiet()
    after = server.resident_bytes()
    if before is None or peak is None or after is None:
        return {"ratio": None, "peak_mb": None, "kept_mb": None}
    return {
        "ratio": (peak - before) / buffer_bytes,
        "peak_mb": (peak - before) / 1e6,
        "kept_mb": (after - before) / 1e6,
    }

"""What live viewers of a capture cost it."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

from cfw.bench.load import drive, open_rigs
from cfw.bench.plan import FPS, FRAME_BYTES, size_text
from cfw.bench.rig import dial, upgrade
from cfw.bench.rounds import Rounds
from cfw.bench.servers import Server
from cfw.bench.tables import Column, Sample, Table

VIEWERS = 20
WATCHED = (
    Column("kept", "rate kept", 3),
    Column("watched_per_s", "frames/s watched"),
    Column("alone_per_s", "frames/s alone"),
    Column("paced_kept", "rate kept at 15 fps", 3),
    Column("paced_busy", "busy at 15 fps", 3),
)


def tables(rounds: Rounds) -> list[Table]:
    """Measure the worker that can be watched, if it is among the servers."""
    measure = partial(viewers, seconds=max(rounds.plan.seconds, 0.5))
    title = f"one rig of {size_text(FRAME_BYTES)}, watched by {VIEWERS} live viewers"
    hubs = [name for name in rounds.names if name == "cfw hub:"]
    return rounds.tables("viewers", title, WATCHED, measure, hubs) if hubs else []


def viewers(server: Server, *, seconds: float) -> Sample:
    """See what live viewers of a capture cost it, at full speed and at 15 frames a second."""
    alone_per_s, _ = _watched(server, 0, seconds, None)
    watched_per_s, _ = _watched(server, VIEWERS, seconds, None)
    paced_alone_per_s, _ = _watched(server, 0, seconds, FPS)
    paced_per_s, paced_busy = _watched(server, VIEWERS, seconds, FPS)
    return {
        "alone_per_s": alone_per_s,
        "watched_per_s": watched_per_s,
        "kept": watched_per_s / alone_per_s,
        "paced_kept": paced_per_s / paced_alone_per_s,
        "paced_busy": paced_busy,
    }


def _watched(
    server: Server, number: int, seconds: float, fps: float | None
) -> tuple[float, float | None]:
    assert server.admin is not None
    port = int(server.admin.rpartition(":")[2])
    (rig,) = open_rigs(server.port, 1, FRAME_BYTES, server.trust)
    path = f"/feed?mode=live&capture_id={rig.capture_id}"
    with ExitStack() as stack:
        readers = [stack.enter_context(dial(port)) for _ in range(number)]
        for reader in readers:
            upgrade(reader, path)
        before = server.cpu_s()
        sent = drive([rig], seconds, fps=fps, readers=readers)
        used = server.cpu_since(before)
    busy = None if used is None else used / sent.seconds
    # A rig that had to wait at 15 frames a second has left frames out.
    over = seconds if fps is not None else sent.seconds
    return sum(sent.frames) / over, busy

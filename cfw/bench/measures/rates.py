"""How many frames a server takes at full speed, and what each costs."""

from __future__ import annotations

from functools import partial

from cfw.bench.load import Sent, drive, open_rigs
from cfw.bench.plan import size_text
from cfw.bench.rounds import Rounds
from cfw.bench.servers import Server
from cfw.bench.tables import Column, Sample, Table

RATES = (
    Column("frames_per_s", "frames/s", is_ratio=True),
    Column("cpu_us", "CPU µs", 1, is_ratio=True),
    Column("megabytes_per_s", "MB/s"),
    Column("peak_mb", "peak MB"),
    Column("busy", "busy", 2),
    Column("load_busy", "load busy", 2),
)


def tables(rounds: Rounds) -> list[Table]:
    """Measure the sizes and numbers of rigs of the plan."""
    plan = rounds.plan
    found = []
    for size, number in plan.loads():
        measure = partial(rate, size=size, number=number, seconds=plan.seconds)
        rigs = "1 rig" if number == 1 else f"{number} rigs"
        title = f"{size_text(size)} a frame, {rigs} at full speed"
        found += rounds.tables("rates", title, RATES, measure, rounds.names)
    return found


def rate(server: Server, *, size: int, number: int, seconds: float) -> Sample:
    """Send as fast as the server takes it.

    The CPU of a frame is what the run used, less what as many captures without a frame use to
    end: with 1 000 rigs their ends alone are a fifth of a run of one second.
    """
    server.reset_peak()
    _, ends_s = _driven(server, size, number, 0)
    sent, used = _driven(server, size, number, seconds)
    frames = sum(sent.frames)
    peak = server.peak_bytes()
    cpu_s = None if used is None or ends_s is None else used - ends_s
    return {
        "frames_per_s": frames / sent.seconds,
        "megabytes_per_s": frames * size / sent.seconds / 1e6,
        "cpu_us": None if cpu_s is None else cpu_s / frames * 1e6,
        "peak_mb": None if peak is None else peak / 1e6,
        "busy": None if used is None else used / sent.seconds,
        "load_busy": sent.load_busy,
    }


def _driven(
    server: Server, size: int, number: int, seconds: float
) -> tuple[Sent, float | None]:
    """Let rigs send at full speed; gives what they sent and the CPU seconds it took."""
    rigs = open_rigs(server.port, number, size, server.trust)
    server.wait_quiet()
    before = server.cpu_s()
    sent = drive(rigs, seconds)
    return sent, server.cpu_since(before)

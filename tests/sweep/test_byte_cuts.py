"""A one-frame capture cut at every byte, against the real router and the common oracle."""

from __future__ import annotations

import gc
import time
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from cfw.testing.bytecuts import KINDS, TRICKLE_BYTES, Cut, Kind, bytecuts
from cfw.testing.fakes import Recorded, RecordingSink
from cfw.testing.rigs import Ending, jpeg, running_worker
from cfw.testing.sweep import Report, options
from cfw.testing.sweep.jobs import in_order
from cfw.testing.sweep.report import record

PICTURE = jpeg(40)
#: Cuts that change no byte of what arrives.
WHOLE: tuple[Kind, ...] = ("eof", "reset", "stall", "split", "trickle")
#: What every way to end takes at most: the longest is a rig that says nothing after its
#: handshake (open_s), and then does not leave (linger_s).
BOUND_S = 10 + 2 + 1


async def record_capture() -> bytes:
    """What a rig sends for one frame, from its handshake to its `capture.close`."""
    async with running_worker() as worker, worker.connect() as rig:
        await rig.open()
        await rig.frame(PICTURE)
        await rig.close()
        assert (await rig.ending()).receipt.frames == 1
    return bytes(rig.sent)


async def play(cut: Cut, delay_s: float) -> None:
    """Play one cut to a worker of its own and ask the oracle."""
    sink = RecordingSink(delay_s=delay_s)
    start = trio.current_time()
    # Leaving checks: no connection, entry, byte or open stream left, one terminal each, in
    # order, and accepted = forwarded + discarded.
    async with running_worker(sink=sink) as worker, worker.connect(handshake=False) as rig:
        await cut.play(rig.stream)
        ending = await rig.ending(within_s=BOUND_S)
    took_s = trio.current_time() - start
    if took_s > BOUND_S:
        raise AssertionError(f"took {took_s:g} s")
    sink.check()
    if len(sink.captures) > 1:
        raise AssertionError("one connection made two captures")
    for seen in sink.captures:
        check_capture(cut, seen, ending)
    check_told(cut, ending)


def check_capture(cut: Cut, seen: Recorded, ending: Ending) -> None:
    """Sink and rig agree on what happened, and the frame is the one that was sent."""
    if cut.kind in WHOLE:
        seen.check_prefix([PICTURE])
    if ending.code is not None and ending.error_code != seen.error_code:
        raise AssertionError(f"the sink got {seen.error_code}, the rig {ending}")
    if ending.code == 1000 and seen.error_code is not None:
        raise AssertionError(f"a capture that failed ends with the code of a receipt: {ending}")
    if ending.code is not None and seen.error_code is None:
        taken = (seen.terminal.frames_forwarded, seen.terminal.bytes_forwarded)
        if (ending.receipt.frames, ending.receipt.bytes) != taken:
            raise AssertionError(f"the sink took {taken}, the rig got {ending}")


def check_told(cut: Cut, ending: Ending) -> None:
    """The rig was told one code, or was gone before anybody could be told."""
    is_gone = cut.kind == "reset" or (cut.kind == "eof" and ending.status is None)
    if not is_gone:
        ending.check_told()
    elif ending.code is not None or ending.aborts:
        raise AssertionError(f"a rig that was gone has read {ending}")


def verdict(delay_s: float, cut: Cut) -> str:
    """Play one cut under a virtual clock of its own; what was wrong, or nothing."""
    try:
        trio.run(play, cut, delay_s, clock=MockClock(autojump_threshold=0))
    except AssertionError as exc:
        return f"{cut} (sink delay {delay_s:g} s): {exc}"
    return ""


def run(name: str, kind: Kind, stride: int, delays_s: tuple[float, ...]) -> None:
    """Play all cuts of a kind under sinks of each delay, as one row of the table.

    As many processes share them as `--sweep-jobs` says.
    """
    report = Report(name, schedules=("trio's",))
    if stride > (TRICKLE_BYTES if kind == "trickle" else 1):
        report.sampled = f"every {stride}th byte"
    conversation = trio.run(record_capture, clock=MockClock(autojump_threshold=0))
    cuts = list(bytecuts(conversation, [kind], stride=stride))
    assert len(cuts) >= len(conversation) // stride - 1
    began = time.perf_counter()
    gc.freeze()
    try:
        for delay_s in delays_s:
            wrongs = in_order(cuts, partial(verdict, delay_s), options.current.jobs or 1)
            for wrong in wrongs:
                assert not wrong, wrong
                report.runs += 1
    finally:
        gc.unfreeze()
    report.seconds = time.perf_counter() - began
    report.points = report.ran = report.runs
    assert report.runs == len(delays_s) * len(cuts)
    record(report)


#: The kinds that are quick to play at every byte.
EVERYWHERE: tuple[Kind, ...] = ("eof", "reset", "stall", "split")


@pytest.mark.parametrize("kind", KINDS)
def test_a_capture_cut_at_every_byte(kind: Kind) -> None:
    """The connection ends, stalls or is split at every offset; every eighth byte is wrong."""
    run(f"byte cuts: {kind}", kind, 1 if kind in EVERYWHERE else 8, (0,))


@pytest.mark.sweep
@pytest.mark.parametrize("kind", KINDS)
def test_all_cuts_with_fast_and_slow_sinks(kind: Kind) -> None:
    """What is left: every kind at every offset, also while the sink is taking the frame."""
    # A trickle is 16 bytes long, so these overlap.
    stride = 8 if kind == "trickle" else 1
    if kind in EVERYWHERE:
        run(f"byte cuts, slow sink: {kind}", kind, stride, (0.5,))
    else:
        run(f"byte cuts, both sinks: {kind}", kind, stride, (0, 0.5))

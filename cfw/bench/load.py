"""The load: many rigs driven by one thread over non-blocking sockets; it costs little."""

from __future__ import annotations

import selectors
import socket
import ssl
from collections.abc import Callable, Sequence
from functools import partial

import attrs

from cfw.bench.frames import Album
from cfw.bench.rig import BenchError, Rig
from cfw.bench.sender import Pace, Run, Sender

#: A load that sends 1 % of its frames later than this is part of what was measured.
LOAD_LATE_MS = 5.0


@attrs.frozen
class Sent:
    """What came of one run.

    Args:
        frames: frames of each rig, by the server's own count; by the load's where the server
            has aborted the capture.
        seconds: from the first frame sent to the last receipt.
        aborted: captures that the server has ended by itself.
        left_out: frames that were not sent, as the one before was still on its way.
        late_ms: how long after its time each paced frame was sent.
        load_busy: what the load itself used of its core while frames were sent.
    """

    frames: tuple[int, ...]
    seconds: float
    aborted: int
    left_out: int
    late_ms: tuple[float, ...]
    load_busy: float


def open_rigs(
    port: int, number: int, size: int, trust: ssl.SSLContext | None = None
) -> list[Rig]:
    """Connect rigs, over TLS if there is somebody to trust, and open a capture on each."""
    rigs: list[Rig] = []
    try:
        for n in range(number):
            rigs.append(Rig(port, n, size, trust))
            rigs[-1].open()
    except BaseException:
        for rig in rigs:
            rig.close()
        raise
    return rigs


def drive(
    rigs: Sequence[Rig],
    seconds: float,
    *,
    fps: float | None = None,
    flooding: Sequence[Rig] = (),
    readers: Sequence[socket.socket] = (),
    may_abort: bool = False,
    marks: Sequence[tuple[float, Callable[[], object]]] = (),
) -> Sent:
    """Send frames for a while, close every capture and count what was received.

    Each frame differs from the others, and comes from more memory than a cache holds.

    Args:
        rigs: with their captures open; closed on return.
        seconds: how long frames are sent.
        fps: frames a second of each of `rigs`, spread evenly over the time between two of
            them, and stamped with the instant at which their last bytes go to the kernel.
            None for as many as the server takes.
        flooding: more rigs, which send as many as the server takes; they do not count.
        readers: sockets whose data is read and thrown away meanwhile.
        may_abort: count captures that the server aborts, instead of giving the run up.
        marks: what to call when so many seconds have passed, before any capture is closed.

    Raises:
        BenchError: a server aborted a capture, or did not end in time.
    """
    albums = {rig.size: Album(rig.size) for rig in (*rigs, *flooding)}
    run = Run(seconds, may_abort, marks)
    scratch = bytearray(1 << 18)
    try:
        for number, rig in enumerate(rigs):
            pace = None if fps is None else Pace(number / len(rigs) / fps, 1 / fps)
            run.add(Sender(rig, run, albums[rig.size], pace))
        for rig in flooding:
            run.add(Sender(rig, run, albums[rig.size]))
        for reader in readers:
            reader.setblocking(False)
            throw_away = partial(_throw_away, run, reader, scratch)
            run.selector.register(reader, selectors.EVENT_READ, throw_away)
        run.go()
    finally:
        run.selector.close()
        for rig in (*rigs, *flooding):
            rig.close()
    return Sent(
        tuple(map(_received, rigs)),
        run.took,
        aborted=sum(rig.end is not None and rig.end.code != 1000 for rig in rigs),
        left_out=run.left_out,
        late_ms=tuple(run.late_ms),
        load_busy=run.busy,
    )


def _received(rig: Rig) -> int:
    assert rig.end is not None
    received = rig.end.frames if rig.end.code == 1000 else None
    if received not in (None, rig.frames):
        raise BenchError(f"{rig.frames} frames were sent and {received} received")
    return rig.frames


def _throw_away(run: Run, reader: socket.socket, scratch: bytearray, _: int) -> None:
    try:
        ended = not reader.recv_into(scratch)
    except BlockingIOError:
        return
    if ended:
        run.selector.unregister(reader)

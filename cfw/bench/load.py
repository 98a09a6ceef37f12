"""The load: many rigs driven by one thread over non-blocking sockets; it costs little."""

from __future__ import annotations

import contextlib
import heapq
import selectors
import socket
import time
from collections.abc import Sequence
from functools import partial

import attrs

from cfw.bench.rig import CLOSE, BenchError, Rig, message, stamped_tail

#: Bytes that one system call sends at most, and frames.
CALL_BYTES = 256_000
CALL_FRAMES = 64
#: What the kernel may hold for one rig; else the end of a run would take long to drain.
SEND_BUFFER_BYTES = 512_000
#: A run that lasts so much longer than asked for is given up.
PATIENCE_S = 60.0
_BOTH = selectors.EVENT_READ | selectors.EVENT_WRITE


@attrs.frozen
class Sent:
    """What came of one run.

    Args:
        frames: frames of each rig, by the server's own count.
        seconds: from the first frame sent to the last receipt.
    """

    frames: tuple[int, ...]
    seconds: float


def open_rigs(port: int, number: int, size: int) -> list[Rig]:
    """Connect rigs and open a capture on each."""
    rigs: list[Rig] = []
    try:
        for n in range(number):
            rigs.append(Rig(port, n, size))
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
) -> Sent:
    """Send frames for a while, close every capture and count what was received.

    Args:
        rigs: with their captures open; closed on return.
        seconds: how long frames are sent.
        fps: frames a second of each of `rigs`, evenly spread and stamped with the instant of
            their last bytes; None for as many as the server takes.
        flooding: more rigs, which send as many as the server takes; they do not count.
        readers: sockets whose data is read and thrown away meanwhile.

    Raises:
        BenchError: a server aborted a capture, or did not end in time.
    """
    run = _Run(seconds)
    scratch = bytearray(1 << 18)
    try:
        for number, rig in enumerate(rigs):
            first_s = None if fps is None else number / len(rigs) / fps
            run.add(_Sender(rig, run, first_s, 0 if fps is None else 1 / fps))
        for rig in flooding:
            run.add(_Sender(rig, run, None, 0))
        for reader in readers:
            reader.setblocking(False)
            throw_away = partial(_throw_away, run, reader, scratch)
            run.selector.register(reader, selectors.EVENT_READ, throw_away)
        run.go()
    finally:
        run.selector.close()
        for rig in (*rigs, *flooding):
            rig.close()
    return Sent(tuple(map(_received, rigs)), run.took)


def _received(rig: Rig) -> int:
    assert rig.end is not None
    received = rig.end.frames
    if received not in (None, rig.frames):
        raise BenchError(f"{rig.frames} frames were sent and {received} received")
    return rig.frames


def _throw_away(run: _Run, reader: socket.socket, scratch: bytearray, _: int) -> None:
    try:
        ended = not reader.recv_into(scratch)
    except BlockingIOError:
        return
    if ended:
        run.selector.unregister(reader)


class _Run:
    def __init__(self, seconds: float) -> None:
        self.selector = selectors.DefaultSelector()
        self.due: list[tuple[float, int, _Sender]] = []
        self.started = time.perf_counter()
        self.until = self.started + seconds
        self.left = 0
        self.took = 0.0

    def add(self, sender: _Sender) -> None:
        self.left += 1
        self.selector.register(sender.rig.sock, sender.events, sender.ready)

    def go(self) -> None:
        while self.left:
            now = time.perf_counter()
            if now > self.until + PATIENCE_S:
                raise BenchError(f"{self.left} captures did not end within {PATIENCE_S:g} s")
            wait = min(self.due[0][0] - now, 1.0) if self.due else 1.0
            for key, events in self.selector.select(max(wait, 0)):
                key.data(events)
            now = time.perf_counter()
            while self.due and self.due[0][0] <= now:
                heapq.heappop(self.due)[2].frame_due()
        self.took = time.perf_counter() - self.started


class _Sender:
    """Sends the frames of one rig: at their times, or whenever the socket takes more."""

    def __init__(self, rig: Rig, run: _Run, first_s: float | None, every_s: float) -> None:
        self.rig = rig
        self._run = run
        self._every_s = every_s
        self._parts: list[bytes | memoryview] = []
        self._awaits_tail = False
        self._is_closing = False
        self._at_once = min(max(CALL_BYTES // rig.size, 1), CALL_FRAMES)
        rig.sock.setblocking(False)
        rig.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self._is_paced = first_s is not None
        self.events = selectors.EVENT_READ if self._is_paced else _BOTH
        if first_s is not None:
            self._due = run.started + first_s
            heapq.heappush(run.due, (self._due, id(self), self))

    def frame_due(self) -> None:
        """Send a stamped frame now, and say when the next is due."""
        # By its time and not by now: a load that is late sends all the same.
        if self._due >= self._run.until:
            self._close()
        elif not self._parts:
            # A rig whose last frame is still on its way leaves this one out.
            self._parts = [self.rig.next_meta(), self.rig.body]
            self._awaits_tail = True
        if not self._is_closing:
            self._due += self._every_s
            heapq.heappush(self._run.due, (self._due, id(self), self))
        self._push()

    def ready(self, events: int) -> None:
        """The socket can be read or written."""
        if events & selectors.EVENT_READ:
            self.rig.read()
            if self.rig.end is not None:
                self._finish()
                return
            if self.rig.pongs and not self._awaits_tail:
                self._parts += self.rig.pongs
                self.rig.pongs.clear()
                self._push()
        if events & selectors.EVENT_WRITE:
            self._push()

    def _push(self) -> None:
        """Send until there is nothing more to send or the socket takes no more."""
        if not self._parts and not self._is_paced:
            self._refill()
        while self._parts:
            try:
                sent = self.rig.sock.sendmsg(self._parts)
            except BlockingIOError:
                self._listen(_BOTH)
                return
            except (BrokenPipeError, ConnectionResetError):
                self._parts.clear()  # what the server said of it is read next
                break
            self._drop(sent)
            if not self._parts and self._awaits_tail:
                self._awaits_tail = False
                self._parts = [stamped_tail(self.rig.size, time.monotonic_ns())]
        if self._is_paced or self._is_closing:
            self._listen(selectors.EVENT_READ)

    def _refill(self) -> None:
        if self._is_closing:
            return
        if time.perf_counter() >= self._run.until:
            self._close()
            return
        for _ in range(self._at_once):
            self._parts += (self.rig.next_meta(), self.rig.data)

    def _close(self) -> None:
        self._is_closing = True
        if self._awaits_tail:
            self._awaits_tail = False
            self._parts.append(stamped_tail(self.rig.size, time.monotonic_ns()))
        self._parts.append(self.rig.closing())

    def _drop(self, sent: int) -> None:
        parts = self._parts
        whole = 0
        while whole < len(parts) and sent >= len(parts[whole]):
            sent -= len(parts[whole])
            whole += 1
        del parts[:whole]
        if sent:
            parts[0] = memoryview(parts[0])[sent:]

    def _listen(self, events: int) -> None:
        if events != self.events:
            self.events = events
            self._run.selector.modify(self.rig.sock, events, self.ready)

    def _finish(self) -> None:
        assert self.rig.end is not None
        if self.rig.end.code != 1000:
            raise BenchError(
                f"the server closed with {self.rig.end.code} {self.rig.end.reason}"
            )
        self._run.selector.unregister(self.rig.sock)
        self.rig.sock.setblocking(True)
        with contextlib.suppress(OSError):  # it need not wait for our half of the handshake
            self.rig.sock.sendall(message(CLOSE, b"\x03\xe8"))
        self.rig.close()
        self._run.left -= 1

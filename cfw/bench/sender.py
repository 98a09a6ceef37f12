"""When each rig of a run sends: at its times, or whenever the socket takes more."""

from __future__ import annotations

import contextlib
import heapq
import selectors
import socket
import time
from collections.abc import Callable, Sequence
from functools import partial

import attrs

from cfw.bench.frames import CLOSE, Album, message, stamped_tail
from cfw.bench.rig import BenchError, Rig

#: Bytes that one system call sends at most, and frames.
CALL_BYTES = 256_000
CALL_FRAMES = 64
#: What the kernel may hold for one rig; else the end of a run would take long to drain.
SEND_BUFFER_BYTES = 512_000
#: A run that lasts so much longer than asked for is given up.
PATIENCE_S = 60.0
_BOTH = selectors.EVENT_READ | selectors.EVENT_WRITE
#: A poll waits for whole milliseconds; the rest of the time to a frame is slept.
_POLL_S = 0.002


class Run:
    """One run: the rigs that are left, what is due when, and what came of it."""

    def __init__(
        self,
        seconds: float,
        may_abort: bool,
        marks: Sequence[tuple[float, Callable[[], object]]],
    ) -> None:
        self.selector = selectors.DefaultSelector()
        self.due: list[tuple[float, int, Sender]] = []
        self.may_abort = may_abort
        self.started = time.perf_counter()
        self.until = self.started + seconds
        self.left = 0
        self.left_out = 0
        self.late_ms: list[float] = []
        self.took = 0.0
        self.busy = 0.0
        note_busy: Callable[[], object] = partial(self._note_busy, time.process_time())
        ends = [*marks, (seconds, note_busy)]
        self._marks = sorted(ends, key=lambda mark: mark[0])

    def add(self, sender: Sender) -> None:
        self.left += 1
        self.selector.register(sender.rig.sock, sender.events, sender.ready)

    def go(self) -> None:
        while self.left:
            now = time.perf_counter()
            if now > self.until + PATIENCE_S:
                raise BenchError(f"{self.left} captures did not end within {PATIENCE_S:g} s")
            while self._marks and now >= self.started + self._marks[0][0]:
                self._marks.pop(0)[1]()
            wait = min(self._next_at() - now, 1.0)
            # What is rounded up to whole milliseconds would make bunches of the frames.
            poll_s = wait - _POLL_S if self.due and wait < 1.0 else wait
            for key, events in self.selector.select(max(poll_s, 0)):
                key.data(events)
            self._send_due()
        self.took = time.perf_counter() - self.started

    def _next_at(self) -> float:
        at = self.due[0][0] if self.due else float("inf")
        return min(at, self.started + self._marks[0][0]) if self._marks else at

    def _send_due(self) -> None:
        """Send the frame that is due within the time that no poll can wait for."""
        now = time.perf_counter()
        if self.due and 0 < (wait := self.due[0][0] - now) < _POLL_S:
            time.sleep(wait)
            now = time.perf_counter()
        while self.due and self.due[0][0] <= now:
            heapq.heappop(self.due)[2].frame_due(now)

    def _note_busy(self, used_before_s: float) -> None:
        used_s = time.process_time() - used_before_s
        self.busy = used_s / (time.perf_counter() - self.started)


@attrs.frozen
class Pace:
    """When a rig sends.

    Args:
        first_s: when its first frame is due, in seconds of the run.
        every_s: from one to the next.
    """

    first_s: float
    every_s: float


class Sender:
    """Sends the frames of one rig: at their times, or whenever the socket takes more.

    Args:
        rig: with its capture open.
        run: that it is part of.
        album: where its frames come from.
        pace: None for full speed.
    """

    def __init__(self, rig: Rig, run: Run, album: Album, pace: Pace | None = None) -> None:
        self.rig = rig
        self._run = run
        self._album = album
        self._pace = pace
        self._parts: list[bytes | memoryview] = []
        # The last part is the end of a frame, to be stamped by the call that sends it.
        self._has_tail = False
        self._is_closing = False
        self._at_once = min(max(CALL_BYTES // rig.size, 1), CALL_FRAMES)
        # Of a frame at full speed, whose delay says nothing.
        self._unstamped = stamped_tail(rig.size, 0)
        rig.sock.setblocking(False)
        rig.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self.events = _BOTH if pace is None else selectors.EVENT_READ
        if pace is not None:
            self._due = run.started + pace.first_s
            heapq.heappush(run.due, (self._due, id(self), self))

    def frame_due(self, now: float) -> None:
        """Send a stamped frame now, and say when the next is due."""
        assert self._pace is not None
        if self.rig.end is not None:
            return
        # By its time and not by now: a load that is late sends all the same.
        if self._due >= self._run.until:
            self._close()
        elif self._parts or self.rig.is_behind:
            # A rig whose last frame is still on its way leaves this one out.
            self._run.left_out += 1
        else:
            self._run.late_ms.append((now - self._due) * 1e3)
            self._parts = [self.rig.next_meta(), *self._album.next_body(), b""]
            self._has_tail = True
        if not self._is_closing:
            self._due += self._pace.every_s
            heapq.heappush(self._run.due, (self._due, id(self), self))
        self._push()

    def ready(self, events: int) -> None:
        """The socket can be read or written."""
        if events & selectors.EVENT_READ:
            self.rig.read()
            if self.rig.end is not None:
                self._finish()
                return
            if self.rig.pongs and not self._has_tail:
                self._parts += self.rig.pongs
                self.rig.pongs.clear()
                self._push()
        if events & selectors.EVENT_WRITE:
            self._push()

    def _push(self) -> None:
        """Send until there is nothing more to send or the socket takes no more."""
        if not self._parts and self._pace is None and not self.rig.is_behind:
            self._refill()
        while self._parts or self.rig.is_behind:
            if self._has_tail:
                self._parts[-1] = stamped_tail(self.rig.size, time.monotonic_ns())
            try:
                sent = self.rig.sock.sendmsg(self._parts)
            except BlockingIOError:
                self._listen(_BOTH)
                return
            except (BrokenPipeError, ConnectionResetError):
                self._parts.clear()  # what the server said of it is read next
                self._has_tail = False
                break
            self._drop(sent)
            if not self._parts:
                self._parts += self.rig.pongs
                self.rig.pongs.clear()
        if self._pace is not None or self._is_closing:
            self._listen(selectors.EVENT_READ)

    def _refill(self) -> None:
        if self._is_closing:
            return
        if time.perf_counter() >= self._run.until:
            self._close()
            return
        for _ in range(self._at_once):
            body = self._album.next_body()
            self._parts += (self.rig.next_meta(), *body, self._unstamped)

    def _close(self) -> None:
        self._is_closing = True
        if self._has_tail:
            # It will be sent behind others, whenever that is.
            self._has_tail = False
            self._parts[-1] = stamped_tail(self.rig.size, time.monotonic_ns())
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
        # A stamp of which a byte is out stays what it is.
        self._has_tail = self._has_tail and len(parts) > (1 if sent else 0)

    def _listen(self, events: int) -> None:
        if events != self.events:
            self.events = events
            self._run.selector.modify(self.rig.sock, events, self.ready)

    def _finish(self) -> None:
        assert self.rig.end is not None
        if self.rig.end.code != 1000 and not self._run.may_abort:
            raise BenchError(
                f"the server closed with {self.rig.end.code} {self.rig.end.reason}"
            )
        self._run.selector.unregister(self.rig.sock)
        self.rig.sock.setblocking(True)
        with contextlib.suppress(OSError):  # it need not wait for our half of the handshake
            self.rig.sock.sendall(message(CLOSE, b"\x03\xe8"))
        self.rig.close()
        self._run.left -= 1

"""Lines for a descriptor that may be slow, stuck, full, broken or closed."""

from __future__ import annotations

import os
import select
import threading
from queue import SimpleQueue
from typing import Final

#: Bytes that wait for the descriptor at most, the line that is being written included: some
#: thousand captures' worth of log.
MOST_BYTES: Final = 1024 * 1024


class Lines:
    """Writes lines from a thread of its own; nobody else waits for them or hears of an error.

    What finds no room, or cannot be written, is lost and counted. Who writes a line that tells
    of lost ones takes their count with `take_untold` and gives it along: should that line be
    lost as well, they count as untold again, so that the counts on all lines which did arrive
    add up to what is missing.

    The thread ends with the process, whatever it is doing. It holds no lock while it writes,
    least of all that of `sys.stderr`, which the interpreter takes at its end.

    Args:
        fd: where to; one that is no open descriptor loses every line.
        most_bytes: room for what waits.
    """

    def __init__(self, fd: int, *, most_bytes: int = MOST_BYTES) -> None:
        self.fd = fd
        self._most_bytes = most_bytes
        # Of one thread, it may be taken again: signal handlers and finalizers write lines too.
        self._lock = threading.RLock()
        self._queue: SimpleQueue[tuple[bytes, int] | None] = SimpleQueue()
        self._waiting_bytes = 0
        self._untold = 0
        self._lost = 0
        self._is_closed = False
        self._is_torn = False
        self._thread = threading.Thread(target=self._write_all, name="cfw-lines", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> int:
        """Lines that were not written, since the start."""
        return self._lost

    def take_untold(self) -> int:
        """How many lost lines no line has told of; the caller's next line does."""
        with self._lock:
            untold, self._untold = self._untold, 0
            return untold

    def put(self, line: bytes, *, tells: int = 0) -> None:
        """Have a line written in its turn. Never waits for it, and never raises.

        Args:
            line: with its line end.
            tells: lost lines that it tells of, as `take_untold` gave them.
        """
        with self._lock:
            if self._is_closed or self._waiting_bytes + len(line) > self._most_bytes:
                self._lose(tells)
                return
            self._waiting_bytes += len(line)
            self._queue.put((line, tells))

    def close(self, within_s: float) -> None:
        """Write what waits, for so many seconds at most. Lines that come later are lost."""
        with self._lock:
            self._is_closed = True
        self._queue.put(None)
        self._thread.join(within_s)

    def _lose(self, tells: int) -> None:
        self._lost += 1
        self._untold += 1 + tells

    def _write_all(self) -> None:
        while (waiting := self._queue.get()) is not None:
            line, tells = waiting
            is_written = self._write(line)
            with self._lock:
                self._waiting_bytes -= len(line)
                if not is_written:
                    self._lose(tells)

    def _write(self, line: bytes) -> bool:
        # A line of which only a part was written is not continued by the next.
        rest = memoryview(b"\n" + line if self._is_torn else line)
        try:
            while rest:
                rest = rest[write_some(self.fd, rest) :]
                self._is_torn = len(rest) > 0
        except OSError:
            return False
        return True


def write_some(fd: int, data: bytes | memoryview) -> int:
    """Wait until a descriptor takes something, and say how much; like `os.write` otherwise.

    Raises:
        OSError: it does not.
    """
    while True:
        try:
            return os.write(fd, data)
        except BlockingIOError:  # made so by another process that shares it
            select.select([], [fd], [])

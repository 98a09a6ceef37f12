"""Signals: what they ask of a command, whatever process it is."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: What asks a worker to end.
STOP = (signal.SIGTERM, signal.SIGINT)
#: What `cfw serve` waits for. SIGHUP asks for the files to be read again; Windows has none.
HEARD = (*STOP, signal.SIGHUP) if hasattr(signal, "SIGHUP") else STOP
#: What shells say of a command that SIGTERM has ended.
TERMINATED = 128 + signal.SIGTERM

_STDOUT, _STDERR = 1, 2


class Terminal:
    """The terminal that a process was started at, if there is one."""

    def __init__(self) -> None:
        self._shown_at = [fd for fd in (_STDOUT, _STDERR) if os.isatty(fd)]

    def is_closed(self) -> bool:
        """Whether what is written there is seen by nobody any more.

        Then SIGHUP came from the end of that session, and asks for no file to be read again.
        """
        return not all(map(os.isatty, self._shown_at))


@contextmanager
def obeyed_by_the_first_process() -> Iterator[None]:
    """End the process at SIGTERM where the system would not; to any other it does."""
    if os.getpid() != 1:
        yield
        return
    with handled(signal.SIGTERM, lambda: os._exit(TERMINATED)):
        yield


@contextmanager
def handled(number: signal.Signals, act: Callable[[], None]) -> Iterator[None]:
    """Act on a signal inside; only the main thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(number, lambda *_: act())
    try:
        yield
    finally:
        signal.signal(number, before)

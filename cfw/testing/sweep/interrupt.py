"""Tell the person's Ctrl-C from a `KeyboardInterrupt` that the scenario raises itself.

The first ends the sweep at once; the second is a finding like any other exception. Only the
signal makes the difference, so while a sweep runs its arrival is noted.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_pressed = False


def is_pressed() -> bool:
    """Whether Ctrl-C arrived during this sweep."""
    return _pressed


def check() -> None:
    """Raise the `KeyboardInterrupt` that a scenario may have caught.

    Raises:
        KeyboardInterrupt: Ctrl-C arrived during this sweep.
    """
    if _pressed:
        raise KeyboardInterrupt


@contextmanager
def heard() -> Iterator[None]:
    """Note Ctrl-C inside, besides what the handler in place does with it.

    Trio leaves the signal alone then, so it interrupts any code at once; what the run breaks
    down with does not matter any more.
    """
    global _pressed
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return

    def handler(number: int, frame: FrameType | None) -> object:
        global _pressed
        _pressed = True
        return before(number, frame)

    signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        _pressed = False
        signal.signal(signal.SIGINT, before)

"""Ctrl-C during a sweep: told from the scenario's own `KeyboardInterrupt`, and cut in nowhere.

The person's Ctrl-C ends the sweep; what the scenario raises itself is a finding like any other
exception. Only the signal makes the difference, so while a sweep runs its arrival is noted.

It is raised where nothing is half done: between two runs, two batches of a run, or while other
processes are waited for. Anywhere else it might leave a lock held that outlives the sweep, that
of `logging` above all: its hooks around a fork take it and give it back, and what is raised in
such a hook is lost. Who presses again has code that does not come to an end, and wants out at
once.
"""

from __future__ import annotations

import enum
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class _Mode(enum.Enum):
    """When Ctrl-C is raised from its handler."""

    AGAIN = enum.auto()
    """When it was pressed before."""
    AT_ONCE = enum.auto()
    NEVER = enum.auto()


_pressed = False
_mode = _Mode.AGAIN


def is_pressed() -> bool:
    """Whether Ctrl-C arrived during this sweep."""
    return _pressed


def check() -> None:
    """Raise the `KeyboardInterrupt` that was put off, or that a scenario may have caught.

    Raises:
        KeyboardInterrupt: Ctrl-C arrived during this sweep.
    """
    if _pressed:
        raise KeyboardInterrupt


@contextmanager
def heard() -> Iterator[None]:
    """Note Ctrl-C inside; the handler in place has it at the end.

    Raises:
        KeyboardInterrupt: it arrived.
    """
    global _pressed
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return

    def handler(number: int, frame: FrameType | None) -> object:
        global _pressed
        was_pressed, _pressed = _pressed, True
        if _mode is _Mode.AT_ONCE or (was_pressed and _mode is _Mode.AGAIN):
            return before(number, frame)
        return None

    signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        was_pressed, _pressed = _pressed, False
        if was_pressed and not isinstance(sys.exc_info()[1], KeyboardInterrupt):
            before(signal.SIGINT, None)
            raise KeyboardInterrupt


@contextmanager
def at_once() -> Iterator[None]:
    """Let Ctrl-C break off what waits inside, and leaves nothing behind.

    Raises:
        KeyboardInterrupt: it arrives, or has arrived.
    """
    with _raised(_Mode.AT_ONCE):
        check()
        yield


@contextmanager
def put_off() -> Iterator[None]:
    """Let nothing break off what happens inside, and does not last."""
    with _raised(_Mode.NEVER):
        yield


def begin_in_child() -> None:
    """Take Ctrl-C as anywhere else, in a process that was forked inside `put_off`."""
    global _mode
    _mode = _Mode.AGAIN


@contextmanager
def _raised(mode: _Mode) -> Iterator[None]:
    global _mode
    before, _mode = _mode, mode
    try:
        yield
    finally:
        _mode = before

"""Counting the calls of a block, without those of whoever stands beside it."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from types import FrameType


class Profiled:
    """A block in which every call is told to `see(frame, event)`.

    The collector waits until the end: it runs when it likes, and what it calls (Hypothesis has
    a callback there) is no work of the block.
    """

    def __init__(self, see: Callable[[FrameType, str], object]) -> None:
        self._see = see

    def __enter__(self) -> None:
        self._collects = gc.isenabled()
        self._before = sys.getprofile()
        gc.disable()
        sys.setprofile(self._note)

    def _note(self, frame: FrameType, event: str, _: object) -> None:
        if frame.f_code is not Profiled.__exit__.__code__:
            self._see(frame, event)

    def __exit__(self, *_: object) -> None:
        sys.setprofile(self._before)
        if self._collects:
            gc.enable()

"""What a worker does about its memory once it has started."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import platform
from typing import Final

#: glibc's mallopt(3).
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3

#: Free memory at the end of the heap that is kept for the next frames. By default every second
#: frame of 300 kB is given back to the system and asked for again, which costs as much as all
#: the rest of the worker (`cfw bench --measure rates --peer none --size 300000`); more than
#: this saves nothing.
KEPT_BYTES: Final = 16 * 1024 * 1024
#: What is larger than this comes from the system each time, and goes back at once.
HEAP_BYTES: Final = 8 * 1024 * 1024


def settle_memory() -> None:
    """Set the collector and the allocator up for a worker that has started, and stays.

    What start-up made is not looked through again: that stops every connection for 30 ms and
    more, at times of the collector's choosing. Where malloc is glibc's, it keeps `KEPT_BYTES`.
    """
    gc.collect()
    gc.freeze()
    if platform.libc_ver()[0] == "glibc":
        with contextlib.suppress(OSError, AttributeError):
            mallopt = ctypes.CDLL(None).mallopt
            mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
            mallopt(_M_MMAP_THRESHOLD, HEAP_BYTES)

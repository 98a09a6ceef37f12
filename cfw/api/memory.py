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
#: So many more objects than before make the collector look for cycles: those of some 50 rigs.
#: What it looks through then are all objects that are new, and those of a rig are new with each
#: frame: 300 rigs, with 43 each, are stopped for 8 ms. By default 700 make it look, and so few
#: come and go in any moment in which some sessions are checked. A connection leaves no cycle
#: behind (`tests/unit/routes/test_garbage.py`), so there is nothing to be found.
NEW_OBJECTS: Final = 20_000


def settle_memory() -> None:
    """Set the collector and the allocator up for a worker that has started, and stays.

    What start-up made is not looked through again: that stops every connection for 30 ms and
    more, at times of the collector's choosing. Nor is what captures make, until there is much
    more of it (`NEW_OBJECTS`). Where malloc is glibc's, it keeps `KEPT_BYTES`.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS, *gc.get_threshold()[1:])
    if platform.libc_ver()[0] == "glibc":
        with contextlib.suppress(OSError, AttributeError):
            mallopt = ctypes.CDLL(None).mallopt
            mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
            mallopt(_M_MMAP_THRESHOLD, HEAP_BYTES)

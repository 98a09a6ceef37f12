"""What is asked of the C library itself: a fork that the program in the process cannot see.

`os.fork` makes a process that begins anew: `random` is reseeded, `logging` and `threading` make
new locks, and whoever asked for it is called. A run that goes on in both processes would find
that changed, and half of the time a fork takes is spent on it. Where there is a single thread,
which holds the interpreter's lock before and after, nothing of it is needed.
"""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_MADV_COLLAPSE = 25

#: As processors with pages of 4 KiB have it.
_HUGE_PAGE = 2 * 1024 * 1024


def fork() -> int:
    """Fork as the C library does, in a process with a single thread.

    Returns:
        The child's process id; 0 in the child.

    Raises:
        OSError: there can be no other process.
    """
    child: int = _libc().fork()
    if child < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return child


def end_with(parent: int) -> None:
    """Let this process be killed as soon as its parent is gone; it may be by now."""
    _libc().prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def gather_pages() -> None:
    """Have the memory of this process in huge pages, where the kernel can do that.

    A fork and the end of a process take time for each page in use, whether it is touched or
    not: a fifth of all that a forked run takes.
    """
    with suppress(OSError):
        for begin, end in _heaps():
            for start in range(-(-begin // _HUGE_PAGE) * _HUGE_PAGE, end, _HUGE_PAGE):
                if start + _HUGE_PAGE <= end:
                    _libc().madvise(ctypes.c_void_p(start), _HUGE_PAGE, _MADV_COLLAPSE)


def _heaps() -> Iterator[tuple[int, int]]:
    """Where what is private to this process lies, and is no file's."""
    for line in Path("/proc/self/maps").read_text("utf-8", "replace").splitlines():
        span, rights, _, _, _, *name = line.split()
        if rights == "rw-p" and name in ([], ["[heap]"]):
            begin, _, end = span.partition("-")
            yield int(begin, 16), int(end, 16)


@cache
def _libc() -> ctypes.PyDLL:
    # Unlike `CDLL`, which lets go of the interpreter's lock during a call.
    return ctypes.PyDLL(None, use_errno=True)

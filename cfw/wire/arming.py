"""A descriptor that wakes Trio each time it is readable, told to its epoll once.

`wait_readable` arms a descriptor for one event: to be woken by the next one takes a step of a
task and a system call, which is a fifth of what a frame that comes alone costs. Trio's epoll
can watch a descriptor for good as well, and then wakes the run, but no task: an instrument sees
in each pass what there is.

Trio has no call for this. Its epoll is the one that watches the descriptor by the kernel's own
word (`tfd` in proc(5)), and that it minds no event for which nobody waits is so today and is
promised nowhere. So it is proved once for a process, in a run of its own, before another one
is touched; where it does not hold, or nobody can tell, a descriptor is armed for each event.
"""

from __future__ import annotations

import errno
import os
import re
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Final

import trio

#: Many times what a proof takes, and the longest that a first camera may wait for it.
_PROOF_S: Final = 1.0
#: Events in a proof: one could be what is left of a wait.
_PROOF_EVENTS: Final = 3


@contextmanager
def armed(fd: int) -> Iterator[bool]:
    """Let a descriptor wake this run whenever it is readable, for as long as the context lasts.

    What wakes it has to be taken in an instrument's `after_io_wait`, else Trio never sleeps.

    Args:
        fd: for which a task of this run has waited with `wait_readable`, and none does now.

    Yields:
        False when it cannot be had here: then `wait_readable` serves as ever.
    """
    if not _is_tolerated():
        yield False
        return
    with _armed(fd) as is_armed:
        yield is_armed


@contextmanager
def _armed(fd: int) -> Iterator[bool]:
    with ExitStack() as stack:
        is_armed = False
        with suppress(OSError):  # no descriptor is left
            trios = stack.enter_context(_watching(fd))
            trios.modify(fd, select.EPOLLIN)
            is_armed = True
        try:
            yield is_armed
        finally:
            if is_armed:
                with suppress(OSError):  # it was closed
                    trios.modify(fd, select.EPOLLONESHOT)  # as Trio leaves it behind an event


def _watching(fd: int) -> select.epoll:
    """A handle of the epoll of this process that watches a descriptor.

    Raises:
        OSError: there is none, or more than one, or the kernel does not tell.
    """
    told = re.compile(rf"^tfd:\s*{fd}\s", re.MULTILINE)
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # closed meanwhile, by another thread
            if entry.readlink().name != "anon_inode:[eventpoll]":
                continue
            if told.search(Path("/proc/self/fdinfo", entry.name).read_text()):
                found.append(int(entry.name))
    if len(found) != 1:  # what one cannot tell apart is left alone
        raise OSError(errno.ENOENT, f"{len(found)} epolls watch the descriptor")
    # One of our own: Trio closes its descriptor, and an epoll object the one it was made of.
    return select.epoll.fromfd(os.dup(found[0]))


@cache
def _is_tolerated() -> bool:
    """Whether the Trio that is installed can be woken so, tried where it harms nothing."""
    proofs: list[bool] = []

    def prove() -> None:
        # Whatever goes wrong, it is no proof.
        with suppress(Exception):
            trio.run(_prove)
            proofs.append(True)

    thread = threading.Thread(target=prove, daemon=True)
    with suppress(RuntimeError):  # no thread is left
        thread.start()
        thread.join(_PROOF_S)
    return bool(proofs)


class _Looker(trio.abc.Instrument):
    def __init__(self, epoll: select.epoll) -> None:
        self.seen = trio.Event()
        self._epoll = epoll

    def after_io_wait(self, timeout: float) -> None:
        if self._epoll.poll(0):
            self.seen.set()


async def _prove() -> None:
    """Wake this run a few times by what nobody waits for, and once more as ever.

    Raises:
        AssertionError, trio.TooSlowError, trio.TrioInternalError: it is not to be had.
    """
    ours, peer = socket.socketpair()
    with ours, peer, select.epoll() as epoll, trio.fail_after(_PROOF_S):
        epoll.register(ours, select.EPOLLIN | select.EPOLLET)
        peer.send(b".")
        await trio.lowlevel.wait_readable(epoll.fileno())
        looker = _Looker(epoll)
        trio.lowlevel.add_instrument(looker)
        with _armed(epoll.fileno()) as is_armed:
            assert is_armed
            for _ in range(_PROOF_EVENTS):
                await trio.lowlevel.checkpoint()  # which takes what is there already
                looker.seen = trio.Event()
                peer.send(b".")
                began = trio.current_time()
                await looker.seen.wait()
                assert trio.current_time() - began < _PROOF_S / 2  # not by the deadline
        trio.lowlevel.remove_instrument(looker)
        peer.send(b".")
        await trio.lowlevel.wait_readable(epoll.fileno())

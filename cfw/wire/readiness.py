"""Waiting for the bytes of many sockets: one descriptor for Trio, and no scope for a wait.

Trio arms a socket anew for each wait, and a deadline is a scope around it. A rig at 15 frames a
second is waited for before each frame, so that is a large part of what a frame costs. Here the
kernel is told of a socket once and says when bytes come (EPOLLET); Trio waits for the one
descriptor of that, which wakes all whose bytes have come; and a deadline that moves on is a
number. That descriptor is not armed anew either, where Trio lets it be so (`arming`), and what
comes in quick succession is gathered (`moderation`).

No wake-up is lost: whatever comes behind what the kernel spoke of, it speaks of again, and only
a read that found less than it had room for says that nothing is left (epoll(7), question 9).
The end of the peer's bytes may lie behind such a read, and is remembered.
"""

from __future__ import annotations

import errno
import heapq
import math
import select
from contextlib import suppress
from typing import Final, NoReturn

import attrs
import trio

from cfw.wire.arming import armed
from cfw.wire.moderation import Moderation

#: So many are woken by one look at the kernel's list, at most; the others by the next.
_AT_ONCE: Final = 256
#: Alarms that are not wanted any more are thrown away when there are so many more of them.
_SPARE: Final = 100


class Readiness:
    """Whether a socket has bytes, for the one task that reads it.

    Args:
        fd: of the socket.

    Attributes:
        may_read: bytes, or the end of them, may be there.
    """

    __slots__ = ("_alarm", "_deadline", "_fd", "_has_ended", "_task", "_watch", "may_read")

    def __init__(self, fd: int) -> None:
        self.may_read = True
        self._fd = fd
        self._has_ended = False
        self._task: trio.lowlevel.Task | None = None
        self._deadline = math.inf
        # Not later than the deadline, while there is a wait.
        self._alarm: _Alarm | None = None
        self._watch: _Watch | None = None

    def note_short(self) -> None:
        """A read has found less than it had room for: nothing is left but the end."""
        self.may_read = self._has_ended

    def note_empty(self) -> None:
        """A read has found nothing."""
        self.may_read = False

    async def wait(self, deadline: float) -> None:
        """Wait until `may_read`, or until an instant of Trio's clock, or for `wake`.

        Raises:
            OSError: the kernel does not watch this socket.
            trio.ClosedResourceError: `release` was called meanwhile.

        Cancellation: safe; always a checkpoint.
        """
        watch = self._watch
        if watch is None:
            watch = _watch()
            watch.add(self._fd, self)
            self._watch = watch
        self._deadline = deadline
        # One that comes too soon is set anew when it goes off: mostly deadlines move on.
        if deadline < (math.inf if self._alarm is None else self._alarm.at):
            self._alarm = watch.alarms.set(deadline, self, instead_of=self._alarm)
        self._task = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._abort)
        if self._watch is None:
            raise trio.ClosedResourceError("another task closed this transport")

    def wake(self) -> None:
        """End the wait that is going on, if one is."""
        task, self._task = self._task, None
        if task is not None:
            trio.lowlevel.reschedule(task)

    def release(self) -> None:
        """Forget the socket, which was closed or is about to be; ends a wait that goes on."""
        if self._watch is not None:
            self._watch.discard(self._fd, self)
            if self._alarm is not None:
                self._watch.alarms.discard(self._alarm)
            self._watch = self._alarm = None
        self.wake()

    # For the watch.

    def note_event(self, *, has_ended: bool) -> None:
        """The kernel says that bytes have come, or the end of them."""
        self.may_read = True
        if has_ended:
            self._has_ended = True
        task = self._task
        if task is not None:  # as `wake`, without the call: this is on the way of each frame
            self._task = None
            trio.lowlevel.reschedule(task)

    def ring(self, alarms: _Alarms, now: float) -> None:
        """The alarm has gone off."""
        self._alarm = None
        if self._task is None:
            return
        if self._deadline <= now:
            self.wake()
        elif self._deadline < math.inf:
            self._alarm = alarms.set(self._deadline, self)

    def _abort(self, _: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED


@attrs.define(order=True)
class _Alarm:
    at: float
    # None when it is not wanted any more.
    whose: Readiness | None = attrs.field(order=False)


class _Alarms:
    """Rings whom a time has come for; who moves a time on need not tell."""

    def __init__(self) -> None:
        self._heap: list[_Alarm] = []
        self._discarded = 0
        self._sleep = trio.CancelScope()

    def set(self, at: float, whose: Readiness, *, instead_of: _Alarm | None = None) -> _Alarm:
        if instead_of is not None:
            self.discard(instead_of)
        alarm = _Alarm(at, whose)
        heapq.heappush(self._heap, alarm)
        if at < self._sleep.deadline:
            self._sleep.deadline = at
        return alarm

    def discard(self, alarm: _Alarm) -> None:
        alarm.whose = None
        self._discarded += 1
        if self._discarded > len(self._heap) // 2 + _SPARE:
            self._heap = [alarm for alarm in self._heap if alarm.whose is not None]
            heapq.heapify(self._heap)
            self._discarded = 0

    async def run(self) -> NoReturn:
        while True:
            soonest = self._heap[0].at if self._heap else math.inf
            with trio.CancelScope(deadline=soonest) as self._sleep:
                await trio.sleep_forever()
            now = trio.current_time()
            while self._heap and self._heap[0].at <= now:
                alarm = heapq.heappop(self._heap)
                if alarm.whose is None:
                    self._discarded -= 1
                else:
                    alarm.whose.ring(self, now)


class _Watch(trio.abc.Instrument):
    """All sockets that are read in one `trio.run`, from the first one to the last.

    Trio asks it in each pass, so who is woken runs in the same pass and not in the next one.
    Its task arms what wakes Trio; for each event, where that cannot be done for all of them.
    """

    def __init__(self) -> None:
        self.alarms = _Alarms()
        self._has_looked = False
        self._is_asked_no_more = trio.Event()
        self._readers: dict[int, Readiness] = {}
        self._epoll = select.epoll()
        self._moderation = Moderation()
        self._scope = trio.CancelScope()
        trio.lowlevel.add_instrument(self)
        trio.lowlevel.spawn_system_task(self._run)

    def add(self, fd: int, readiness: Readiness) -> None:
        if fd < 0:
            raise OSError(errno.EBADF, "the socket is closed")
        # Before it is known to the kernel: what is there already is spoken of as well.
        self._epoll.register(fd, select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET)
        self._readers[fd] = readiness

    def discard(self, fd: int, readiness: Readiness) -> None:
        # The number may be that of another socket by now, if this one was closed.
        if self._readers.get(fd) is not readiness:
            return
        del self._readers[fd]
        # The kernel forgets by itself what is closed.
        with suppress(OSError, ValueError):
            self._epoll.unregister(fd)
        if not self._readers:
            _WATCH.set(None)
            self._be_asked_no_more()
            self._scope.cancel()

    def _be_asked_no_more(self) -> None:
        with suppress(KeyError):  # Trio takes away one that has raised
            trio.lowlevel.remove_instrument(self)
        self._moderation.stop()

    def after_io_wait(self, timeout: float) -> None:
        """Wake whose bytes have come."""
        try:
            self._look()
        except BaseException:
            # Trio takes an instrument away that raises: then the task has to look.
            self._is_asked_no_more.set()
            raise
        self._has_looked = True

    async def _run(self) -> None:
        try:
            with self._epoll as epoll, self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self.alarms.run)
                    await self._wait_and_look(epoll.fileno())
                    with armed(epoll.fileno()) as is_armed:
                        if is_armed:
                            await self._is_asked_no_more.wait()
                    while True:
                        await self._wait_and_look(epoll.fileno())
        finally:
            # The run may end while sockets are watched.
            self._be_asked_no_more()

    async def _wait_and_look(self, fd: int) -> None:
        await trio.lowlevel.wait_readable(fd)
        if not self._has_looked:
            self._look()
        self._has_looked = False

    def _look(self) -> None:
        ready = self._epoll.poll(0, _AT_ONCE)
        for fd, events in ready:
            readiness = self._readers.get(fd)
            if readiness is not None:
                readiness.note_event(has_ended=events != select.EPOLLIN)
        if ready:
            self._moderation.note(len(self._readers))


_WATCH: Final = trio.lowlevel.RunVar[_Watch | None]("cfw.wire.readiness", None)


def _watch() -> _Watch:
    watch = _WATCH.get()
    if watch is None:
        watch = _Watch()
        _WATCH.set(watch)
    return watch

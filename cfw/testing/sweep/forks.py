"""Run the steps that many points have in common once, and fork where they part.

A point is a prefix of steps that it shares with all later points of its schedule, a fault,
and what follows it. So one process, the walker, runs the scenario without a fault; at the
instant of each point it forks, and the child fires the fault, runs on to the end and is judged
there as if it had come all the way by itself. n points of n steps take n steps and n forks, not
n * n / 2 steps. Of two faults the first is walked from in the same way.

The child is the run that goes on, so Python does not see the fork (`_libc`). A fork shares with
its parent what lies outside of the process, and that a run may not find changed by another one.
Trio's own descriptors are replaced in the child. A scenario that holds others, has a thread or
changes files as far as it was walked ends the walk: what is left of its points is run from the
beginning, each on its own, and the report says so.
"""

from __future__ import annotations

import gc
import os
import pickle
import signal
import sys
import traceback
import warnings
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from itertools import takewhile
from typing import Any, NoReturn

from cfw.testing.sweep import interrupt, options
from cfw.testing.sweep._libc import end_with, fork, gather_pages
from cfw.testing.sweep._trio import detach, own_descriptors
from cfw.testing.sweep.config import Config
from cfw.testing.sweep.errors import SweepError
from cfw.testing.sweep.points import BEFORE
from cfw.testing.sweep.run import run_once
from cfw.testing.sweep.watch import Record, Watch
from cfw.testing.sweep.work import Answer, Work, answered, perform

#: What a point costs that is forked, beyond its own steps: the fork, and every page of memory
#: that either process then writes to. Measured on a small virtual machine, with 50 MB in use.
FORK_S = 0.006

#: Points for which a process more is worth its start, and its own walk to all of them.
_SHARE = 64

_TASKS, _DESCRIPTORS = "/proc/self/task", "/proc/self/fd"

#: How a forked process ends: what it had to do is answered, or all is over.
_TOLD, _OVER = 0, 3
_DIED = "a forked run died without a word"

#: Audit events of what outlives a run. Sockets of Trio's own come between two steps.
_CHANGES = frozenset(
    [
        *("os.mkdir", "os.rmdir", "os.remove", "os.rename", "os.link", "os.symlink"),
        *("os.truncate", "os.chmod", "os.chown", "os.utime", "os.setxattr"),
        *("subprocess.Popen", "os.system", "os.posix_spawn", "os.fork", "os.forkpty"),
        *("socket.bind", "socket.connect", "socket.sendto", "sqlite3.connect"),
        *("shutil.copyfile", "shutil.move"),
    ]
)
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def obstacle() -> str:
    """Why nothing can be forked in this process; empty if it can."""
    if sys.platform != "linux" or not os.path.isdir(_TASKS):
        return "this platform has no fork that keeps a run of Trio whole"
    if sys.gettrace() is not None or sys.getprofile() is not None or _is_monitored():
        return "a debugger, profiler or measure of coverage would not see the forks"
    return ""


def _is_monitored() -> bool:
    monitoring: Any = getattr(sys, "monitoring", None)
    return monitoring is not None and any(monitoring.get_tool(tool) for tool in range(6))


def pays(work: Sequence[Work], step_s: float) -> bool:
    """Whether some of the work is done faster by forks.

    Args:
        work: all of it.
        step_s: seconds that a step of the scenario takes.
    """
    return any(_pays(stretch, step_s) for stretch in _stretches(work, 0))


def walkers(points: int) -> int:
    """How many processes share the points of a sweep that does not say so itself.

    What they print would be mixed, so it is one where that is shown at once.

    Args:
        points: of the sweep.
    """
    now = options.current
    if now.live:
        return 1
    return max(1, min(len(os.sched_getaffinity(0)) // now.beside, points // _SHARE))


def perform_all(
    config: Config, step_s: float, work: Sequence[Work]
) -> Generator[Answer, None, None]:
    """Do the work, forking where that pays; close the iterator to stop early.

    Args:
        config: of the sweep.
        step_s: seconds that a step of the scenario takes.
        work: pieces of it.

    Yields:
        The answers, in the order of the work.

    Raises:
        SweepError: a run could not be done.
    """
    for stretch in _stretches(work, 0):
        left, hindrance = deque(stretch), ""
        if _pays(stretch, step_s):
            hindrance = yield from _walked(config, left)
        for piece in left:
            answer = perform(config, piece)
            answer.unforked = hindrance
            yield answer


def _stretches(work: Sequence[Work], depth: int) -> Iterator[list[Work]]:
    """Consecutive pieces that one walk comes by: same run, instants in order.

    Args:
        work: to be divided.
        depth: how many faults they have in common.
    """
    stretch: list[Work] = []
    for piece in work:
        if stretch and not _follows(stretch[-1], piece, depth):
            yield stretch
            stretch = []
        stretch.append(piece)
    if stretch:
        yield stretch


def _follows(one: Work, two: Work, depth: int) -> bool:
    """Whether a walk that comes by one piece can come by the other then."""
    here, there = _where(one, depth), _where(two, depth)
    same = (one.point.params, one.point.schedule) == (two.point.params, two.point.schedule)
    return same and here is not None and there is not None and here <= there


def _where(piece: Work, depth: int) -> tuple[int, bool] | None:
    """The instant a walk forks at for this piece; None if at none."""
    faults = piece.point.faults
    if piece.tree or len(faults) <= depth:
        return None
    return faults[depth].step, faults[depth].when != BEFORE


def _pays(stretch: Sequence[Work], step_s: float) -> bool:
    if _where(stretch[0], 0) is None:
        return False
    alone = sum(piece.point.faults[-1].step for piece in stretch)
    together = stretch[-1].point.faults[0].step
    return together * step_s + FORK_S * (1 + len(stretch)) < alone * step_s


def _walked(config: Config, left: deque[Work]) -> Generator[Answer, None, str]:
    """Walk in a process of its own, which is gone when this ends.

    Args:
        config: of the sweep.
        left: what one walk comes by; what is answered is taken away.

    Yields:
        The answers.

    Returns:
        Why not all were answered; empty if they were.

    Raises:
        SweepError: a run could not be done.
        KeyboardInterrupt: the person at the keyboard wants out.
    """
    reader, child = _begun(config, list(left))
    is_over = False
    try:
        with os.fdopen(reader, "rb") as stream:
            while not is_over:
                with interrupt.at_once():
                    message = pickle.load(stream)
                is_over = not isinstance(message, Answer)
                if not is_over:
                    message.forked = True
                    left.popleft()
                    yield message
    except (EOFError, pickle.UnpicklingError):
        message = SweepError(_DIED)
    finally:
        # Whoever is not heard any more does not go on.
        if not is_over:
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    if isinstance(message, SweepError):
        interrupt.check()
        raise message
    assert isinstance(message, str)
    return message


def _begun(config: Config, stretch: list[Work]) -> tuple[int, int]:
    """Where a new walk tells its answers, and its process."""
    reader, writer = os.pipe()
    parent = os.getpid()
    if options.current.live:
        _flush()
    with interrupt.put_off(), warnings.catch_warnings():
        # Other threads of this process hold no lock that a run of Trio needs.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child:
        os.close(writer)
        return reader, child
    try:
        end_with(parent)
        os.close(reader)
        interrupt.begin_in_child()
        _Walk(stretch, writer).go(config)
    finally:
        os._exit(1)


class _Walk:
    """The walk through a stretch, in the process that walks and in all it forks.

    A child is the same object with less to do: one piece alone, or those that are left once
    a fault has fired that they have in common. One of them runs at a time: the youngest. So all
    tell their answers in the same place, and who has forked another one waits for its end.

    Args:
        works: the pieces, by their instants.
        writer: where the answers go.
    """

    def __init__(self, works: list[Work], writer: int) -> None:
        self._works = works
        self._writer = writer
        self._depth = 0
        self._next: tuple[int, str] | None = None
        self._alone: Work | None = None
        self._known: set[int] = set()
        self._harmless: list[str] = []
        self._changed = ""
        self._is_watching = True

    def go(self, config: Config) -> NoReturn:
        """Run the scenario, as the walker and as all of its children."""
        code = 1
        try:
            self._known = _descriptors()
            # What is there by now is garbage of no run that is to come.
            gc.collect()
            gc.freeze()
            gather_pages()
            sys.addaudithook(self._audit)
            self._look_ahead()
            first = self._works[0]
            params = config.params[first.point.params]
            result = run_once(config.settings, params, first.point.schedule, walk=self)
            if self._alone is not None:
                code = self._tell(answered(self._alone, result))
            else:
                # Run one by one, each says what it misses.
                code = self._tell("the walk did not come by all instants")
        except SweepError as exc:
            is_walk = self._alone is None
            code = self._tell("the scenario could not be walked" if is_walk else exc)
        except KeyboardInterrupt:
            # Whoever started this is interrupted as well.
            pass
        except BaseException:
            code = self._tell(SweepError(f"a sweep process failed:\n{traceback.format_exc()}"))
        finally:
            if options.current.live:
                _flush()
            os._exit(code)

    def _tell(self, message: Answer | SweepError | str) -> int:
        """Tell an answer, or a last word; with what code to end after it."""
        data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        while data:
            data = data[os.write(self._writer, data) :]
        return _TOLD if isinstance(message, Answer) else _OVER

    def _stop(self, last: SweepError | str) -> NoReturn:
        code = 1
        try:
            code = self._tell(last)
        finally:
            os._exit(code)

    # At an instant

    def arrive(self, watch: Watch, when: str) -> None:
        """Fork for every piece whose instant this is; give a child its faults to fire."""
        if self._next != (watch.step, when):
            return
        try:
            if self._fork_here(watch, when) or self._works:
                return
        except OSError as exc:
            self._stop(f"no process could be forked: {exc}")
        except BaseException:
            # The instrument would take it for its own, and walk on.
            os._exit(1)
        # Nobody needs to know how the walk itself ends.
        self._stop("") if not self._depth else os._exit(_TOLD)

    def _fork_here(self, watch: Watch, when: str) -> bool:
        """Whether this is a child now, with something to fire."""
        while self._next == (watch.step, when):
            if hindrance := self._hindrance():
                self._stop(hindrance)
            for pieces in _stretches(self._take_group(), self._depth + 1):
                parent = os.getpid()
                if options.current.live:
                    _flush()
                child = fork()
                if not child:
                    end_with(parent)
                    self._become(watch, pieces)
                    return True
                self._wait_for(child)
        return False

    def _wait_for(self, child: int) -> None:
        """Go on when a child has told its answers; end when it has told a last word."""
        _, status = os.waitpid(child, 0)
        if status == 0:
            return
        if os.waitstatus_to_exitcode(status) == _OVER:
            os._exit(_OVER)
        self._stop(SweepError(_DIED))

    def _look_ahead(self) -> None:
        """Know the instant of the next piece."""
        self._next = None
        if self._works:
            fault = self._works[0].point.faults[self._depth]
            self._next = fault.step, fault.when

    def _take_group(self) -> list[Work]:
        """The next pieces that have the fault to be fired now in common."""
        first, works = self._works[0].point.faults[self._depth], self._works
        taken = list(takewhile(lambda piece: piece.point.faults[self._depth] == first, works))
        del works[: len(taken)]
        self._look_ahead()
        return taken

    def _become(self, watch: Watch, pieces: list[Work]) -> None:
        """In a child: do one piece alone, or walk on from the fault that several share."""
        detach()
        faults = pieces[0].point.faults[self._depth :]
        if len(pieces) > 1:
            self._works = pieces
            self._depth += 1
            self._look_ahead()
            watch.take_over(faults[:1])
            return
        (self._alone,) = pieces
        self._works = []
        self._is_watching = False
        watch.walk = None
        watch.take_over(faults, self._alone.batches, Record() if self._alone.record else None)

    # What a child would share with others

    def _hindrance(self) -> str:
        if self._changed:
            return self._changed
        if len(os.listdir(_TASKS)) > 1:
            return "the scenario has a thread"
        names = os.listdir(_DESCRIPTORS)
        if names == self._harmless:
            return ""
        held = set(map(int, names)) - self._known - own_descriptors()
        if any(map(_is_open, held)):
            return "the scenario holds an open file"
        self._harmless = names
        return ""

    def _audit(self, event: str, args: tuple[Any, ...]) -> None:
        if not self._is_watching or self._changed:
            return
        # Anybody may raise an event of this name, with other arguments.
        opens = event == "open" and len(args) > 2 and isinstance(args[2], int)
        writes = opens and args[2] & _WRITES
        if event in _CHANGES or writes:
            self._changed = f"the scenario changes what outlives a run ({event})"


def _descriptors() -> set[int]:
    return {number for number in map(int, os.listdir(_DESCRIPTORS)) if _is_open(number)}


def _is_open(number: int) -> bool:
    # What lists the descriptors is one itself.
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()

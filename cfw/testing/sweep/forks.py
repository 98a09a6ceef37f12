"""Run the steps that many points have in common once, and fork where they part.

A point is a prefix of steps that it shares with all later points of its schedule, a fault,
and what follows it. So one process, the walker, runs the scenario without a fault; at the
instant of each point it forks, and the child fires the fault, runs on to the end and is judged
there as if it had come all the way by itself. n points of n steps take n steps and n forks, not
n * n / 2 steps. Of two faults the first is walked from in the same way.

A fork shares with its parent what lies outside of the process, and that a run may not find
changed by another one. Trio's own descriptors are replaced in the child. A scenario that holds
others, has a thread or changes files as far as it was walked ends the walk: what is left of its
points is run from the beginning, each on its own, and the report says so.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import random
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import groupby
from typing import Any, NoReturn

from cfw.testing.sweep import interrupt, options
from cfw.testing.sweep._trio import detach, own_descriptors
from cfw.testing.sweep.config import Config
from cfw.testing.sweep.errors import SweepError
from cfw.testing.sweep.points import BEFORE
from cfw.testing.sweep.run import run_once
from cfw.testing.sweep.watch import Record, Watch
from cfw.testing.sweep.work import Answer, Work, answered, perform

#: What a point costs that is forked, beyond its own steps: the fork, and every page of memory
#: that either process then writes to. Measured on a small virtual machine, with 50 MB in use.
FORK_S = 0.008

_TASKS, _DESCRIPTORS = "/proc/self/task", "/proc/self/fd"

_PR_SET_PDEATHSIG = 1

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

Emit = Callable[[Answer], None]


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


def perform_all(config: Config, step_s: float, work: Sequence[Work], emit: Emit) -> None:
    """Do the work and emit the answers in its order, forking where that pays.

    Args:
        config: of the sweep.
        step_s: seconds that a step of the scenario takes.
        work: pieces of it.
        emit: is called with each answer.

    Raises:
        SweepError: a run could not be done.
    """
    for stretch in _stretches(work, 0):
        done, hindrance = 0, ""
        if _pays(stretch, step_s):
            done, hindrance = _walked(config, stretch, emit)
        for piece in stretch[done:]:
            answer = perform(config, piece)
            answer.unforked = hindrance
            emit(answer)


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


def _walked(config: Config, stretch: list[Work], emit: Emit) -> tuple[int, str]:
    """Walk in a process of its own; how many pieces were answered, and why not all were.

    Raises:
        SweepError: a run could not be done.
        KeyboardInterrupt: the person at the keyboard wants out.
    """
    done = 0
    walk = _Walk(stretch)
    if not walk.fork():
        walk.go(config)
    for message in walk.heard():
        if isinstance(message, str):
            return done, message
        if isinstance(message, SweepError):
            raise message
        message.forked = True
        emit(message)
        done += 1
    return done, ""


class _Walk:
    """The walk through a stretch, in the process that walks and in all it forks.

    A child is the same object with less to do: one piece alone, or those that are left once
    a fault has fired that they have in common.

    Args:
        works: the pieces, by their instants.
    """

    def __init__(self, works: list[Work]) -> None:
        self._works = works
        self._depth = 0
        self._alone: Work | None = None
        self._reader = self._writer = -1
        self._child = 0
        self._known: set[int] = set()
        self._changed = ""
        self._is_watching = True

    # Processes

    def fork(self) -> bool:
        """Fork; whether this is the parent, which hears what the child tells."""
        state = random.getstate()
        parent, _ = os.getpid(), _libc()
        reader, writer = os.pipe()
        self._is_watching = False
        if options.current.live:
            _flush()
        with interrupt.put_off(), warnings.catch_warnings():
            # Python counts threads only after the fork; `_hindrance` did before it.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child:
            os.close(writer)
            self._reader, self._child = reader, child
            self._is_watching = True
            return True
        # Whoever waits for this process may be ended at any time.
        _libc().prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        os.close(reader)
        if self._writer >= 0:
            os.close(self._writer)
        self._writer = writer
        self._is_watching = True
        interrupt.begin_in_child()
        # The module reseeds itself in a child.
        random.setstate(state)
        return False

    def heard(self) -> Iterator[Answer | SweepError | str]:
        """What the child tells, until it has no more to tell and is gone.

        Raises:
            KeyboardInterrupt: it is gone because the person at the keyboard wants out.
        """
        try:
            with os.fdopen(self._reader, "rb") as stream:
                while (message := pickle.load(stream)) is not None:
                    yield message
        except (EOFError, pickle.UnpicklingError):
            interrupt.check()
            yield SweepError("a forked run died without a word")
        finally:
            # Whoever is not heard any more does not go on.
            os.waitpid(self._child, 0)

    def _tell(self, *messages: Answer | SweepError | str | None) -> None:
        data = b"".join(map(pickle.dumps, messages))
        while data:
            data = data[os.write(self._writer, data) :]

    # In the process that walks

    def go(self, config: Config) -> None:
        """Run the scenario, as the walker and as all of its children; does not return."""
        try:
            self._known = _descriptors()
            sys.addaudithook(self._audit)
            first = self._works[0]
            params = config.params[first.point.params]
            result = run_once(config.settings, params, first.point.schedule, walk=self)
            if self._alone is None:
                # Run one by one, each says what it misses.
                self._tell("the walk did not come by all instants", None)
            else:
                self._tell(answered(self._alone, result), None)
        except SweepError as exc:
            self._tell("the scenario could not be walked" if self._alone is None else exc, None)
        except KeyboardInterrupt:
            # Whoever started this is interrupted as well.
            pass
        except BaseException:
            error = SweepError(f"a sweep process failed:\n{traceback.format_exc()}")
            self._tell(error, None)
        finally:
            if options.current.live:
                _flush()
            os._exit(0)

    def arrive(self, watch: Watch, when: str) -> None:
        """Fork for every piece whose instant this is; give a child its faults to fire."""
        try:
            if self._fork_here(watch, when) or self._works:
                return
        except OSError as exc:
            self._stop(f"no process could be forked: {exc}")
        except BaseException:
            # The instrument would take it for its own, and walk on.
            os._exit(1)
        # Nobody needs to know how the walk itself ends.
        self._stop(None)

    def _fork_here(self, watch: Watch, when: str) -> bool:
        """Whether this is a child now, with something to fire."""
        while self._works and self._is_here(self._works[0], watch, when):
            if hindrance := self._hindrance():
                self._stop(hindrance)
            for pieces in _stretches(self._take_group(), self._depth + 1):
                if not self.fork():
                    self._become(watch, pieces)
                    return True
                for message in self.heard():
                    if not isinstance(message, Answer):
                        self._stop(message)
                    self._tell(message)
        return False

    def _stop(self, why: SweepError | str | None) -> NoReturn:
        try:
            self._tell(*([] if why is None else [why]), None)
        finally:
            os._exit(0)

    def _is_here(self, piece: Work, watch: Watch, when: str) -> bool:
        fault = piece.point.faults[self._depth]
        return (fault.step, fault.when) == (watch.step, when)

    def _take_group(self) -> list[Work]:
        """The next pieces that have the fault to be fired now in common."""
        _, group = next(groupby(self._works, lambda piece: piece.point.faults[self._depth]))
        taken = list(group)
        del self._works[: len(taken)]
        return taken

    def _become(self, watch: Watch, pieces: list[Work]) -> None:
        """In a child: do one piece alone, or walk on from the fault that several share."""
        detach()
        faults = pieces[0].point.faults[self._depth :]
        if len(pieces) > 1:
            self._works = pieces
            self._depth += 1
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
        held = {int(name) for name in os.listdir(_DESCRIPTORS)}
        held -= self._known | own_descriptors() | {self._writer}
        if any(map(_is_open, held)):
            return "the scenario holds an open file"
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


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()

"""The one module that touches Trio's private names, and its self-test.

Trio decides the order of each batch of runnable tasks with a private random source, sorted
first only when a private flag is set (pytest-trio and Trio's own Hypothesis hook use the
same two names). Nothing public makes a run repeatable, tells which `Cancelled` comes back to
which scope, or stands at every door to the real world, so private names are used here and
nowhere else. `check_trio` proves on the installed Trio that they still mean what is assumed;
it runs once per process, before the first sweep.
"""

from __future__ import annotations

import ctypes
import gc
import math
import os
import select
import signal
import socket
import sys
import threading
import warnings
from _socket import socketpair
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial, wraps
from importlib import import_module
from types import FrameType
from typing import Any, Protocol

import outcome
import trio
import trio.testing

from cfw.testing.sweep.errors import UnsupportedTrio

_RANDOM = "_r"
_FLAG = "_ALLOW_DETERMINISTIC_SCHEDULING"

#: What Linux, where alone something forks, has beside the type of a socket.
_NON_BLOCKING = socket.SOCK_STREAM | getattr(socket, "SOCK_NONBLOCK", 0)


class Run(Protocol):
    """One run under control."""

    token: trio.lowlevel.TrioToken | None

    def shuffle(self, batch: list[trio.lowlevel.Task]) -> None:
        """Put `batch`, which comes sorted by age, into order: the last one runs first."""

    def scope_left(self, scope: trio.CancelScope, exc: BaseException | None) -> None:
        """Note a scope that is being left, with the exception on its way through, or None."""

    def is_inside(self) -> bool:
        """Whether the code that runs now belongs to the scenario."""

    def refuse(self, what: str) -> None:
        """Raise, because the scenario reaches for `what`, which is not deterministic."""


_current: Run | None = None
_thread = 0


def _scheduler() -> Any:
    return import_module("trio._core._run")


@contextmanager
def batch_order(run: Run) -> Iterator[None]:
    """Let `run` decide the order of each batch of every `trio.run` inside."""
    global _current, _thread
    module = _scheduler()
    try:
        saved = getattr(module, _RANDOM), getattr(module, _FLAG)
    except AttributeError as exc:
        raise UnsupportedTrio(trio.__version__, f"trio._core._run has no {exc.name}") from exc
    setattr(module, _RANDOM, run)
    setattr(module, _FLAG, True)
    _current, _thread = run, threading.get_ident()
    try:
        yield
    finally:
        _current = None
        setattr(module, _RANDOM, saved[0])
        setattr(module, _FLAG, saved[1])


def has_exited(scope: trio.CancelScope) -> bool:
    """Whether the scope's `with` block is over, so that a cancel would do nothing."""
    private: Any = scope
    return bool(private._has_been_entered and private._cancel_status is None)


def has_been_entered(scope: trio.CancelScope) -> bool:
    """Whether the scope's `with` block has begun; it may be over."""
    private: Any = scope
    return bool(private._has_been_entered)


def cancelled_for(task: trio.lowlevel.Task) -> trio.Cancelled | None:
    """The `Cancelled` that the step about to run raises; None if it raises none."""
    private: Any = task
    sent = private._next_send
    if type(sent) is not outcome.Error:
        return None
    return sent.error if isinstance(sent.error, trio.Cancelled) else None


def is_scheduled(task: trio.lowlevel.Task) -> bool:
    """Whether a task is to run, and waits for nothing any more."""
    private: Any = task
    return private._next_send_fn is not None


def deadline_of(task: trio.lowlevel.Task) -> float:
    """When what the task waits for is cancelled: by a deadline, or because it is already."""
    private: Any = task
    deadline: float = private._cancel_status.effective_deadline()
    return deadline


def is_ended(task: trio.lowlevel.Task) -> bool:
    """Whether a task is cancelled as a whole, not just in a scope of its own."""
    private: Any = task.parent_nursery
    return private is not None and bool(private._cancel_status.effectively_cancelled)


def waits_for_children(task: trio.lowlevel.Task) -> bool:
    """Whether a task waits at the end of a nursery for the tasks in it."""
    nurseries: list[Any] = list(task.child_nurseries)
    return any(nursery._parent_waiting_in_aexit for nursery in nurseries)


def is_visible(scope: trio.CancelScope, task: trio.lowlevel.Task) -> bool:
    """Whether a cancellation of `scope` reaches the task: around it, and no shield between."""
    private: Any = task
    status = private._cancel_status
    while status is not None and status._scope is not scope:
        status = None if status._scope.shield else status.parent
    return status is not None


#: Where a run of Trio meets what is not virtual: module, name, and what goes through.
#: Subprocesses, files and name look-ups go through threads.
_DOORS = (
    ("trio._core._run", "TheIOManager.wait_readable", "waiting for a file descriptor"),
    ("trio._core._run", "TheIOManager.wait_writable", "waiting for a file descriptor"),
    ("trio._socket", "_SocketType._nonblocking_helper", "a real socket"),
    ("trio._socket", "_SocketType.listen", "a listening socket"),
    ("trio._core._thread_cache", "ThreadCache.start_thread_soon", "a thread"),
    ("trio._signals", "_signal_handler", "a signal receiver"),
)


@contextmanager
def hooks() -> Iterator[None]:
    """Let the `Run` in `batch_order` see scopes that are left, and guard its doors.

    Outside such a run nothing changes. Set up once for a whole sweep, because each change of
    a class costs Python what it has learnt about it.
    """
    with ExitStack() as stack:
        stack.enter_context(replaced("trio", "CancelScope._close", _closing))
        stack.enter_context(replaced("trio.lowlevel", "TrioToken.run_sync_soon", _calling_in))
        for module, name, what in _DOORS:
            stack.enter_context(replaced(module, name, _door(what)))
        yield


_Method = Callable[..., Any]


def _closing(close: _Method) -> _Method:
    @wraps(close)
    def closing(scope: trio.CancelScope, exc: BaseException | None) -> Any:
        if _current is not None and (exc is not None or scope.cancel_called):
            _current.scope_left(scope, exc)
        return close(scope, exc)

    return closing


def _calling_in(run_sync_soon: _Method) -> _Method:
    @wraps(run_sync_soon)
    def calling(token: object, *args: Any, **kwargs: Any) -> Any:
        run = _current
        if run is not None and token is run.token and threading.get_ident() != _thread:
            run.refuse("a call from another thread")
        return run_sync_soon(token, *args, **kwargs)

    return calling


def _door(what: str) -> Callable[[_Method], _Method]:
    def wrap(passing: _Method) -> _Method:
        @wraps(passing)
        def door(*args: Any, **kwargs: Any) -> Any:
            run = _current
            if run is not None and threading.get_ident() == _thread and run.is_inside():
                run.refuse(what)
            return passing(*args, **kwargs)

        return door

    return wrap


@contextmanager
def replaced(module: str, name: str, wrap: Callable[[_Method], _Method]) -> Iterator[None]:
    """Put a wrapper in the place of a function or method inside.

    Raises:
        UnsupportedTrio: the module has no such name.
    """
    owner: Any = import_module(module)
    *path, last = name.split(".")
    try:
        for part in path:
            owner = getattr(owner, part)
        original = getattr(owner, last)
    except AttributeError as exc:
        raise UnsupportedTrio(trio.__version__, f"{module} has no {name}") from exc
    setattr(owner, last, wrap(original))
    try:
        yield
    finally:
        setattr(owner, last, original)


@contextmanager
def nurseries_noted(
    note: Callable[[trio.Nursery, FrameType], None], left: Callable[[trio.Nursery], None]
) -> Iterator[None]:
    """Tell of each nursery inside.

    Args:
        note: is called with one that is opened, and the frame that opens it.
        left: is called with one whose block is over without an exception.
    """

    def wrap(enter: _Method) -> _Method:
        @wraps(enter)
        async def entering(manager: Any) -> trio.Nursery:
            nursery: trio.Nursery = await enter(manager)
            frame = sys._getframe(1)
            note(nursery, frame)
            return nursery

        return entering

    def wrap_exit(leave: _Method) -> _Method:
        @wraps(leave)
        async def leaving(manager: Any, *error: Any) -> bool:
            handled: bool = await leave(manager, *error)
            left(manager._nursery)
            return handled

        return leaving

    with (
        replaced("trio._core._run", "NurseryManager.__aenter__", wrap),
        replaced("trio._core._run", "NurseryManager.__aexit__", wrap_exit),
    ):
        yield


def own_descriptors() -> set[int]:
    """What the run of Trio in this thread holds open for itself."""
    epoll, pairs = _descriptors_of_run()
    ends = [end for pair in pairs for end in (pair.wakeup_sock, pair.write_sock)]
    return {epoll._epoll.fileno(), *(end.fileno() for end in ends)}


def detach() -> None:
    """In a forked child: give the run descriptors of its own under the numbers it knows.

    What waits for a file descriptor, and what wakes it, is one thing in both processes: each
    would be woken by the other, or not at all.
    """
    epoll, pairs = _descriptors_of_run()
    for pair in pairs:
        woken = _unread(pair.wakeup_sock)
        # As the library's wrappers take no part in a child's every run, they are left out.
        one, two = socketpair(socket.AF_UNIX, _NON_BLOCKING)
        os.dup2(one.fileno(), pair.wakeup_sock.fileno(), inheritable=False)
        os.dup2(two.fileno(), pair.write_sock.fileno(), inheritable=False)
        one.close()
        two.close()
        if woken:
            pair.write_sock.send(bytes(woken))
    waiting = select.epoll()
    waiting.register(epoll._force_wakeup_fd, select.EPOLLIN)
    for number, waiters in epoll._registered.items():
        waiting.register(number, waiters.current_flags | select.EPOLLONESHOT)
    os.dup2(waiting.fileno(), epoll._epoll.fileno(), inheritable=False)
    waiting.close()


def _descriptors_of_run() -> tuple[Any, tuple[Any, ...]]:
    """What waits for file descriptors, and the pairs of sockets that wake it."""
    runner = sys.modules["trio._core._run"].GLOBAL_RUN_CONTEXT.runner
    epoll = runner.io_manager
    return epoll, (epoll._force_wakeup, runner.entry_queue.wakeup)


def _unread(end: socket.socket) -> int:
    """How many bytes wait to be read; they stay there."""
    try:
        return len(end.recv(2**16, socket.MSG_PEEK))
    except BlockingIOError:
        return 0


def keep_for_ever(tasks: Iterable[trio.lowlevel.Task]) -> None:
    """Leak tasks that were torn out of a run, on purpose.

    Destroying their coroutines would run their `except` and `finally` blocks outside Trio,
    and a loop that swallows every exception would never end.
    """
    for task in tasks:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(task.coro))


def _collect_silently() -> None:
    """Destroy what a run that broke down left, without its last words."""
    saved = sys.unraisablehook
    sys.unraisablehook = lambda unraisable: None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            gc.collect()
    finally:
        sys.unraisablehook = saved


class _Refused(Exception):
    """Raised by the self-test at each door."""


class _SelfTest(trio.abc.Instrument):
    """Reverses every batch, follows each delivered `Cancelled`, and refuses at every door."""

    def __init__(self, scope: trio.CancelScope) -> None:
        self.token: trio.lowlevel.TrioToken | None = None
        self.shuffled = 0
        self.scope = scope
        self.delivered: list[BaseException] = []
        self.visible: list[bool] = []
        self.arrived: list[BaseException] = []
        self.inside = False
        self.refused: list[str] = []
        self.parent_waits: list[bool] = []
        self.waits: list[tuple[bool, bool, float]] = []

    def shuffle(self, batch: list[trio.lowlevel.Task]) -> None:
        self.shuffled += 1
        batch.reverse()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        error = cancelled_for(task)
        if error is not None:
            self.delivered.append(error)
            self.visible.append(is_visible(self.scope, task))

    def scope_left(self, scope: trio.CancelScope, exc: BaseException | None) -> None:
        if scope is self.scope and isinstance(exc, BaseExceptionGroup):
            self.arrived += exc.exceptions

    async def note_parent(self, task: trio.lowlevel.Task) -> None:
        self.parent_waits.append(waits_for_children(task))

    def note_wait(self, task: trio.lowlevel.Task) -> None:
        self.waits.append((is_scheduled(task), is_ended(task), deadline_of(task)))

    def is_inside(self) -> bool:
        return self.inside

    def refuse(self, what: str) -> None:
        self.refused.append(what)
        raise _Refused


async def _listen(wrapped: trio.socket.SocketType) -> None:
    wrapped.listen()


async def _knock(test: _SelfTest) -> None:
    """Try every door; one that lets through is left at once."""
    one, two = socket.socketpair()
    with one, two:
        wrapped = trio.socket.from_stdlib_socket(one)
        for attempt in (
            partial(trio.lowlevel.wait_readable, one),
            partial(trio.lowlevel.wait_writable, one),
            partial(wrapped.send, b"x"),
            partial(_listen, wrapped),
            partial(trio.to_thread.run_sync, int),
        ):
            with trio.move_on_after(1), suppress(_Refused):
                await attempt()
        # Refused before it changes anything, so in any thread.
        with suppress(_Refused, RuntimeError), trio.open_signal_receiver(signal.SIGTERM):
            pass
        await trio.lowlevel.checkpoint()


def check_trio() -> None:
    """Prove that this module works with the installed Trio.

    Raises:
        UnsupportedTrio: a private name is gone, or no longer does what the sweep needs.
    """
    scope = trio.CancelScope()
    test = _SelfTest(scope)
    seen: list[int] = []
    states: list[bool] = []

    async def step(number: int) -> None:
        seen.append(number)

    async def shielded() -> None:
        with trio.CancelScope(shield=True) as own:
            own.cancel()
            await trio.sleep_forever()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(6):
                nursery.start_soon(step, number)
        states.append(has_exited(scope))
        with scope:
            states.append(has_exited(scope))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                nursery.start_soon(trio.sleep_forever)
                nursery.start_soon(shielded)
                await trio.testing.wait_all_tasks_blocked()
                waiting = sorted(nursery.child_tasks, key=lambda task: task.name)[-1]
                parent = nursery.parent_task
                test.parent_waits.append(waits_for_children(parent))
                nursery.start_soon(test.note_parent, parent)
                test.note_wait(waiting)
                scope.cancel()
                test.note_wait(waiting)
        states.append(has_exited(scope))
        test.inside = True
        await _knock(test)
        test.inside = False

    def need(condition: bool, what: str) -> None:
        if not condition:
            raise UnsupportedTrio(trio.__version__, what)

    broken = ""
    try:
        with hooks(), batch_order(test):
            # Trio's own clock would draw its offset from the shuffler.
            clock = trio.testing.MockClock(autojump_threshold=0)
            trio.run(main, clock=clock, instruments=[test])
    except (AttributeError, TypeError, trio.TrioInternalError) as exc:
        broken = f"the self-test raised {exc!r}: {exc.__cause__!r}"
    if broken:
        _collect_silently()
        raise UnsupportedTrio(trio.__version__, broken)
    need(test.shuffled > 0, f"{_RANDOM}.shuffle is not called for a batch")
    need(seen == list(range(6)), f"the order of a batch is not ours to choose: {seen}")
    need(states == [False, False, True], f"an exited scope is not recognised: {states}")
    waits = [(False, False, math.inf), (True, True, -math.inf)]
    known = test.waits == waits and test.parent_waits == [False, True]
    need(known, f"what a task waits for is not recognised: {test.waits} {test.parent_waits}")
    reached = sorted(test.visible)[-3:]
    need(reached == [False, True, True], f"a delivered Cancelled is not recognised: {reached}")
    arrived = {id(error) for error in test.arrived}
    came = [id(error) in arrived for error in test.delivered]
    need(came == test.visible, "a Cancelled is not recognised when it leaves its scope")
    doors = [what for _, _, what in _DOORS]
    need(test.refused == doors, f"only these doors are guarded: {test.refused}")

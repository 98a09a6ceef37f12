"""Where a task is parked: a fast number for every step, a readable line for a report.

The number must be the same in another process and under another hash seed, and cheap
enough to take at every step of every run, so it is a checksum of each frame's function
name and line *within* that function, computed once per position in the bytecode. An edit
elsewhere in the file leaves it alone.
"""

from __future__ import annotations

import contextlib
import gc
import inspect
import os
import re
import sys
import traceback
from collections.abc import Coroutine, Iterator
from types import AsyncGeneratorType, CodeType, CoroutineType, FrameType, GeneratorType
from typing import Any
from zlib import crc32

import trio

MASK = (1 << 64) - 1
_PRIME = 0x100000001B3

_TRIO_DIR = os.path.dirname(os.path.abspath(trio.__file__)) + os.sep
_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_PYTEST_TRIO = os.path.join("pytest_trio", "plugin.py")
_RUN = _HERE + "run.py"
_CONTEXTLIB = inspect.getfile(contextlib)
#: A scenario may go elsewhere in some runs and not in others; names of files stay the same.
_STARTED_IN = os.getcwd() + os.sep
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")

#: Steps of an async generator, `anext` with a default, `coroutine.__await__()`.
_WRAPPERS = frozenset(
    ["async_generator_asend", "async_generator_athrow", "anext_awaitable", "coroutine_wrapper"]
)
_DRIVEN = (AsyncGeneratorType, CoroutineType, GeneratorType)

#: The code object is kept beside its number, so that its id is never given to another.
_numbers: dict[tuple[int, int], tuple[int, CodeType]] = {}


def _number(frame: Any) -> int:
    code: CodeType = frame.f_code
    line = (frame.f_lineno or code.co_firstlineno) - code.co_firstlineno
    number = crc32(f"{code.co_qualname}:{line}".encode())
    _numbers[id(code), frame.f_lasti] = number, code
    return number


def position(task: trio.lowlevel.Task) -> int:
    """A number for where every frame of the task stands, equal in every process."""
    number = 0
    coro = _program_of(task)
    while coro is not None:
        kind = type(coro)
        if kind is CoroutineType:
            frame, coro = coro.cr_frame, coro.cr_await
        elif kind is GeneratorType:
            frame, coro = coro.gi_frame, coro.gi_yieldfrom
        elif kind is AsyncGeneratorType:
            frame, coro = coro.ag_frame, coro.ag_await
        elif kind.__name__ in _WRAPPERS:
            coro = _driven(coro)
            continue
        else:
            # What else is written in C says nothing of what it waits for.
            return mix(number, crc32(kind.__name__.encode()))
        if frame is None:
            break
        known = _numbers.get((id(frame.f_code), frame.f_lasti))
        number = mix(number, known[0] if known is not None else _number(frame))
    return number


async def in_scope(scope: trio.CancelScope, coro: Coroutine[Any, Any, object]) -> object:
    """What a task runs that can be cancelled alone. It takes no step and is seen nowhere."""
    with scope:
        return await coro
    return None


_IN_SCOPE = in_scope.__code__


def _program_of(task: trio.lowlevel.Task) -> Any:
    """The coroutine of a task, without the scope around it."""
    coro: Any = task.coro
    if getattr(coro, "cr_code", None) is _IN_SCOPE and coro.cr_frame is not None:
        return coro.cr_await or coro.cr_frame.f_locals["coro"]
    return coro


def await_frames(task: trio.lowlevel.Task) -> Iterator[tuple[FrameType, int]]:
    """All frames of a task and their lines, the outermost first; also before it begins."""
    inner = _program_of(task)
    if inner is not task.coro and inner.cr_await is None and inner.cr_frame is not None:
        yield inner.cr_frame, inner.cr_frame.f_lineno
        return
    yield from task.iter_await_frames()


def _driven(wrapper: object) -> Any:
    """What an awaitable written in C drives; None if nothing.

    Only the collector can see it, as in Trio's `iter_await_frames`; it is the first it holds.
    """
    for held in gc.get_referents(wrapper):
        kind = type(held)
        if kind in _DRIVEN or kind.__name__ in _WRAPPERS:
            return held
    return None


def mix(number: int, more: int) -> int:
    """One round of a 64-bit FNV: order matters, no use of `hash`."""
    return ((number ^ more) * _PRIME) & MASK


def short_path(filename: str) -> str:
    """A file name that an editor opens from where the process was started."""
    return filename.removeprefix(_STARTED_IN)


def leaves(error: BaseException | None) -> Iterator[BaseException]:
    """The exceptions in a group of groups, or the one that is none."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    elif error is not None:
        yield error


def raised_at(error: BaseException) -> str:
    """The innermost place of a traceback, as `file:line`."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return "no traceback"
    return f"{short_path(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}"


def trace_text(error: BaseException) -> str:
    """The traceback with its causes, without the frames that are the engine's."""
    told = traceback.TracebackException.from_exception(error)
    for one in _told(told):
        frames = [frame for frame in one.stack if not frame.filename.startswith(_HERE)]
        for frame in frames:
            frame.filename = short_path(frame.filename)
        one.stack = traceback.StackSummary.from_list(frames)
    return "".join(told.format())


def _told(
    told: traceback.TracebackException | None,
) -> Iterator[traceback.TracebackException]:
    """An exception, what it was caused by, and what it is a group of."""
    if told is not None:
        yield told
        for one in (told.__cause__, told.__context__, *(told.exceptions or ())):
            yield from _told(one)


def park_site(task: trio.lowlevel.Task) -> str:
    """Where the task is parked, as `file:line function (primitive)`.

    The innermost frame outside Trio is named, with the Trio call it waits in.
    """
    chosen = None
    primitive = ""
    plumbing = "in the toolkit or in Trio"
    for frame, line in await_frames(task):
        filename = frame.f_code.co_filename
        if filename.endswith(_PYTEST_TRIO):
            plumbing = "in pytest-trio"
        elif is_plumbing(filename):
            if chosen is not None and not primitive and filename.startswith(_TRIO_DIR):
                primitive = f" ({_name(frame.f_code.co_qualname)})"
        else:
            chosen, primitive = (frame, line), ""
    if chosen is None:
        return "not started" if _unstarted(task) else plumbing
    frame, line = chosen
    site = f"{short_path(frame.f_code.co_filename)}:{line} {_name(frame.f_code.co_qualname)}"
    return site + (" (not started)" if _unstarted(task) else primitive)


def caller_site() -> str:
    """Where the scenario is right now, as `file:line function`; called from inside a step."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename != _RUN:
        code = frame.f_code
        filename = code.co_filename
        if not is_plumbing(filename):
            return f"{short_path(filename)}:{frame.f_lineno} {_name(code.co_qualname)}"
        frame = frame.f_back
    # A task that is all Trio's, such as one that accepts connections.
    inside = trio.lowlevel.in_trio_task()
    return f"task {trio.lowlevel.current_task().name}" if inside else "an injected function"


def task_name(task: trio.lowlevel.Task, ordinal: int) -> str:
    """The task's function and its number in order of birth, e.g. `reader#2`."""
    return f"{ADDRESS.sub('', task.name).rpartition('.')[2]}#{ordinal}"


def is_trio(filename: str) -> bool:
    """Whether a file belongs to Trio."""
    return filename.startswith(_TRIO_DIR)


def is_plumbing(filename: str) -> bool:
    """Whether a file belongs to Trio, to the engine, or to what stands between them."""
    # contextlib's async context managers stand between every `async with` and its body.
    return filename.startswith((_TRIO_DIR, _HERE)) or filename == _CONTEXTLIB


def _unstarted(task: trio.lowlevel.Task) -> bool:
    coro = _program_of(task)
    return inspect.iscoroutine(coro) and inspect.getcoroutinestate(coro) == inspect.CORO_CREATED


def _name(qualname: str) -> str:
    return qualname.rpartition("<locals>.")[2]

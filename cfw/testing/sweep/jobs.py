"""Spread work over forked processes, answers in the order of the work.

Forked, because a scenario is often a closure, which cannot be sent to another process; only
the answers travel. The split is fixed in advance, so the answers do not depend on timing.
"""

from __future__ import annotations

import multiprocessing
import os
import traceback
import warnings
from collections.abc import Callable, Generator, Iterable, Sequence
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from cfw.testing.sweep import interrupt
from cfw.testing.sweep.errors import SweepError

W = TypeVar("W")
A = TypeVar("A")

#: Items per message: few messages, and still all processes busy to the end.
CHUNK = 16
#: For a process that has told all its answers to end: a scenario may have left it a thread.
END_S = 5.0

#: Does items in their order, and yields each answer as soon as it is there.
Perform = Callable[[Sequence[W]], Iterable[A]]


def in_order(
    work: Sequence[W], perform: Callable[[W], A], jobs: int
) -> Generator[A, None, None]:
    """Perform every item and yield the answers in order; close the iterator to stop early.

    Args:
        work: what to do.
        perform: does one item.
        jobs: processes; 1 does all of it here. Without `fork` it is always 1.

    Raises:
        SweepError: a process died or raised; with one job, what `perform` raised.
    """
    if min(jobs, -(-len(work) // CHUNK)) <= 1 or not hasattr(os, "fork"):
        yield from map(perform, work)
    else:
        yield from apart(work, partial(map, perform), jobs)


def apart(work: Sequence[W], perform: Perform[W, A], jobs: int) -> Generator[A, None, None]:
    """Perform every item in other processes; close the iterator to stop early.

    Args:
        work: what to do.
        perform: does some of the items, in their order.
        jobs: processes, at least one.

    Yields:
        The answers, in the order of the work.

    Raises:
        SweepError: a process died or raised.
    """
    context = multiprocessing.get_context("fork")
    chunks = [
        range(start, min(start + CHUNK, len(work))) for start in range(0, len(work), CHUNK)
    ]
    jobs = min(jobs, len(chunks))
    readers: list[Connection] = []
    processes: list[BaseProcess] = []
    is_over = False
    try:
        for job in range(jobs):
            reader, writer = context.Pipe(duplex=False)
            process: BaseProcess = context.Process(
                target=_serve,
                args=(writer, work, perform, chunks[job::jobs], os.getpid()),
                daemon=True,
            )
            with interrupt.put_off(), warnings.catch_warnings():
                # Other threads of this process hold no lock that a run of Trio needs.
                warnings.simplefilter("ignore", DeprecationWarning)
                process.start()
            writer.close()
            readers.append(reader)
            processes.append(process)
        for number in range(len(chunks)):
            answers: list[A]
            with interrupt.at_once():
                answers, problem = _receive(readers[number % jobs])
            yield from answers
            if isinstance(problem, SweepError):
                raise problem
            if problem:
                raise SweepError(f"a sweep process failed:\n{problem}")
        is_over = True
    finally:
        for reader in readers:
            reader.close()
        for process in processes:
            if is_over:
                # By itself, for killed it takes the account of its children's CPU time with it.
                process.join(END_S)
            process.terminate()
        for process in processes:
            process.join()
            process.close()


def _receive(reader: Connection) -> Any:
    try:
        return reader.recv()
    except EOFError:
        return [], "it died without a word"


def _serve(
    writer: Connection,
    work: Sequence[W],
    perform: Perform[W, A],
    chunks: Sequence[range],
    parent: int,
) -> None:
    interrupt.begin_in_child()
    answers: list[A] = []
    left = [len(chunk) for chunk in chunks]

    def emit(answer: A) -> None:
        # Who was killed closes no pipe that the other processes hold open as well.
        if os.getppid() != parent:
            os._exit(1)
        answers.append(answer)
        if len(answers) == left[0]:
            del left[0]
            writer.send((answers.copy(), ""))
            answers.clear()

    try:
        problem: str | SweepError = ""
        try:
            for answer in perform([work[index] for chunk in chunks for index in chunk]):
                emit(answer)
        except SweepError as exc:
            problem = exc
        except (KeyboardInterrupt, BrokenPipeError):
            raise
        except Exception:
            problem = traceback.format_exc()
        if problem:
            writer.send((answers, problem))
    except (KeyboardInterrupt, BrokenPipeError):
        # The parent has what it wanted, or is being interrupted as well.
        return

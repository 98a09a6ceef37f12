"""Spread work over forked processes, answers in the order of the work.

Forked, because a scenario is often a closure, which cannot be sent to another process; only
the answers travel. The split is fixed in advance, so the answers do not depend on timing.
"""

from __future__ import annotations

import multiprocessing
import os
import traceback
import warnings
from collections.abc import Callable, Generator, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from . import interrupt
from .errors import SweepError

W = TypeVar("W")
A = TypeVar("A")

CHUNK = 16
"""Items per message: few messages, and still all processes busy to the end."""


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
    jobs = min(jobs, -(-len(work) // CHUNK))
    if jobs <= 1 or not hasattr(os, "fork"):
        yield from map(perform, work)
        return
    yield from _forked(work, perform, jobs)


def _forked(
    work: Sequence[W], perform: Callable[[W], A], jobs: int
) -> Generator[A, None, None]:
    context = multiprocessing.get_context("fork")
    chunks = [
        range(start, min(start + CHUNK, len(work))) for start in range(0, len(work), CHUNK)
    ]
    readers: list[Connection] = []
    processes: list[BaseProcess] = []
    try:
        for job in range(jobs):
            reader, writer = context.Pipe(duplex=False)
            process: BaseProcess = context.Process(
                target=_serve, args=(writer, work, perform, chunks[job::jobs]), daemon=True
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
    finally:
        for reader in readers:
            reader.close()
        for process in processes:
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
    perform: Callable[[W], A],
    chunks: Sequence[range],
) -> None:
    interrupt.begin_in_child()
    try:
        for chunk in chunks:
            answers: list[A] = []
            problem: str | SweepError = ""
            try:
                for index in chunk:
                    answers.append(perform(work[index]))  # noqa: PERF401 - keep what was done
            except SweepError as exc:
                problem = exc
            except Exception:
                problem = traceback.format_exc()
            writer.send((answers, problem))
            if problem:
                return
    except (KeyboardInterrupt, BrokenPipeError):
        # The parent has what it wanted, or is being interrupted as well.
        return

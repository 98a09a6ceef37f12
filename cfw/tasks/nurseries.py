"""Tasks beside a block, and groups of exceptions; for the worker and for `cfw.client`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import trio


@asynccontextmanager
async def open_plain_nursery() -> AsyncIterator[trio.Nursery]:
    """A nursery for tasks that live as long as a block and keep their failures to themselves.

    What the block raises leaves as it is, in no group. Should a task raise, then that leaves
    instead, also in no group: what tasks such as these let through stops the program.

    Cancellation: the tasks are cancelled at the end of the block, and waited for.
    """
    failure: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            try:
                yield nursery
            except trio.Cancelled:
                raise  # the nursery knows whether it is its own
            except BaseException as exc:
                failure = exc  # raised below: the nursery would wrap it
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        failure = _foremost(group, failure)
    try:
        if failure is not None:
            raise failure
    finally:
        # Else this frame and the traceback would hold each other.
        del failure


def _foremost(group: BaseExceptionGroup, failure: BaseException | None) -> BaseException:
    """Of what a nursery gathered and what its block raised; a cancellation comes last."""
    raised = group.split(trio.Cancelled)[1]
    return first_leaf(raised) if raised is not None else failure or first_leaf(group)


def leaves(exc: BaseException) -> Iterator[BaseException]:
    """All exceptions of a group that are no groups; of any other exception, itself."""
    if isinstance(exc, BaseExceptionGroup):
        for inner in exc.exceptions:
            yield from leaves(inner)
    else:
        yield exc


def first_leaf(exc: BaseException) -> BaseException:
    """The first exception of a group that is no group."""
    return next(leaves(exc))

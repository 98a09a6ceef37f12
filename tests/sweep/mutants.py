"""Planted bugs, each the kind that reviews miss, and the invariant that must find it.

Every one of them passes as long as nothing goes wrong: only a fault at the right instant
shows it. `test_mutants.py` holds both.
"""

from __future__ import annotations

import math
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import attrs
import pytest
import trio

import cfw.routes.router as shell
import cfw.wire.connection as wire
from cfw.errors import DomainError, ForwardFailed
from cfw.repository import ForwardBuffer
from cfw.routes.outcome import Outcome
from cfw.routes.reader import Reader
from cfw.routes.registry import Registry
from cfw.service import SessionVerdict
from cfw.state import Frame
from cfw.wire import PeerGone
from schemas import CaptureClose, ErrorCode, Terminal

Patch = Callable[[pytest.MonkeyPatch], None]
#: One connection, with everything of the router's that has no public name.
Connection = Any

#: A last word under its own deadline, as the router says its own.
LAST_WORD_S = 0.3


@attrs.frozen
class Mutant:
    """One planted bug.

    Args:
        name: what is wrong with it.
        invariant: which must find it.
        patch: plants it.
        at: what to inject.
        sink: under which it shows.
        settings: of the scenario, besides.
        stop_after: kinds of failure after which the sweep has seen enough; more for a bug that
            breaks something else first.
    """

    name: str
    invariant: str
    patch: Patch
    at: tuple[str, ...] = ("connection",)
    sink: str = "fast"
    settings: dict[str, Any] = attrs.Factory(dict)
    stop_after: int = 3


def _replace(target: Any, name: str, value: Any) -> Patch:
    return lambda patch: patch.setattr(target, name, value, raising=False)


def _all(*patches: Patch) -> Patch:
    def plant(patch: pytest.MonkeyPatch) -> None:
        for one in patches:
            one(patch)

    return plant


original_decide = Reader.decide
original_discard = ForwardBuffer.discard
original_forward = ForwardBuffer.forward
original_handle = shell.Router.handle
original_read = Reader.read
original_run = shell._Connection.run
original_run_tasks = shell._Connection._run_tasks
original_serve = shell._Connection._serve
original_tell = shell._Connection._tell
original_terminal = shell._Connection._terminal
original_abort = shell._Connection.abort


# --- the forward buffer ---------------------------------------------------------------------


def _never_discarded(_: ForwardBuffer) -> None: ...


async def _released_at_the_end(box: ForwardBuffer, sink: Any) -> None:
    await original_forward(box, sink)
    original_discard(box)  # not in a finally: an exception passes it by


def _only_released(box: Any, frame: Frame) -> None:
    box.frames -= 1
    box.bytes -= len(frame.data)


async def _counted_before_hand_off(box: Any, sink: Any) -> None:
    while (frames := await box._next()) is not None:
        for frame in frames:
            box.frames_forwarded += 1
            box.bytes_forwarded += len(frame.data)
            try:
                await sink.send(frame)
            except Exception as exc:
                raise ForwardFailed("the sink failed", seq=frame.meta.seq) from exc
            _only_released(box, frame)
    box._flushed.set()


async def _failed_frame_passed_over(box: Any, sink: Any) -> None:
    while (frames := await box._next()) is not None:
        for frame in frames:
            try:
                await sink.send(frame)
            except OSError:
                _only_released(box, frame)
            else:
                box._release((frame,))
    box._flushed.set()


async def _failed_frame_tried_again_later(box: Any, sink: Any) -> None:
    again: list[Frame] = []
    while (frames := await box._next()) is not None or again:
        for taken in [again.pop()] if frames is None else frames:
            try:
                await sink.send(taken)
            except OSError:
                again.append(taken)
                continue
            box._release((taken,))
    box._flushed.set()


def _queue_lost_behind_a_hang_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def lost_with_the_rig(reader: Any, *channels: Any) -> CaptureClose:
        try:
            return await original_read(reader, *channels)
        except PeerGone:
            box = reader._buffer
            while box._take.statistics().current_buffer_used:
                for frame in box._take.receive_nowait():
                    _only_released(box, frame)
                    box.frames_accepted -= 1
                    box.bytes_accepted -= len(frame.data)
            raise

    monkeypatch.setattr(Reader, "read", lost_with_the_rig)


# --- the terminal ---------------------------------------------------------------------------


async def _second_emitter(connection: Connection, ws: Any, sink: Any) -> None:
    try:
        await original_run_tasks(connection, ws, sink)
    except BaseException as exc:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + LAST_WORD_S):
            await sink.finish(connection._terminal(exc))
        raise


def _terminal_before_the_tasks_are_over(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run_tasks(connection: Connection, ws: Any, sink: Any) -> None:
        connection._reader.finish = lambda exc: sink.finish(connection._terminal(exc))
        await original_run_tasks(connection, ws, sink)

    async def read(reader: Any, *channels: Any) -> CaptureClose:
        try:
            return await original_read(reader, *channels)
        except Exception as exc:
            await reader.finish(exc)
            await trio.sleep(0.05)  # the forwarder is still running
            raise

    monkeypatch.setattr(shell._Connection, "_run_tasks", run_tasks)
    monkeypatch.setattr(Reader, "read", read)


class _Guard:
    """The scope around the sink's context, with another way to set one of its settings."""

    def __init__(self, **changes: Callable[[Any], Any]) -> None:
        object.__setattr__(self, "_scope", trio.CancelScope())
        object.__setattr__(self, "_changes", changes)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._scope, name, self._changes.get(name, _same)(value))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scope, name)

    def __enter__(self) -> _Guard:
        self._scope.__enter__()
        return self

    def __exit__(self, *failure: Any) -> bool | None:
        caught: bool | None = self._scope.__exit__(*failure)
        return caught


def _same(value: Any) -> Any:
    return value


class _Trio:
    """Trio, but for the scope that guards the sink's context."""

    def __init__(self, **changes: Callable[[Any], Any]) -> None:
        self._changes = changes

    def __getattr__(self, name: str) -> Any:
        return getattr(trio, name)

    def CancelScope(self, **options: Any) -> Any:  # noqa: N802  # Trio's name
        # The only scope of `_capture` is the one that is meant.
        caller = sys._getframe(1).f_code.co_name
        scope: Any = _Guard(**self._changes) if caller == "_capture" else trio.CancelScope()
        for name, value in options.items():
            setattr(scope, name, value)
        return scope


def _guard_with(**changes: Callable[[Any], Any]) -> Patch:
    return _replace(shell, "trio", _Trio(**changes))


def _frames_invented(connection: Connection, failure: BaseException | None) -> Terminal:
    terminal = original_terminal(connection, failure)
    if failure is None:
        return terminal
    return attrs.evolve(terminal, frames_accepted=terminal.frames_accepted + 1000)


def _cut_frame_not_reported(connection: Connection, failure: BaseException | None) -> Terminal:
    terminal = original_terminal(connection, failure)
    return attrs.evolve(
        terminal,
        frames_accepted=terminal.frames_forwarded,
        bytes_accepted=terminal.bytes_forwarded,
    )


# --- what is left behind --------------------------------------------------------------------


@contextmanager
def _claimed_without_release(registry: Any, capture_id: str, *rest: Any) -> Iterator[None]:
    registry._captures[capture_id] = rest
    yield  # not in a try: an exception passes the line below
    del registry._captures[capture_id]


async def _checkpoint_between_acquire_and_try(router: Any, stream: trio.abc.Stream) -> None:
    connection = shell._Connection(router, next(router._ids))
    router._connections.add(connection)
    await trio.lowlevel.checkpoint()
    try:
        await connection.run(stream)
    finally:
        router._connections.discard(connection)


async def _checkpoint_before_the_close(transport: trio.abc.Stream) -> None:
    await trio.lowlevel.checkpoint()
    await trio.aclose_forcefully(transport)


async def _word_after_the_close(connection: Connection, ws: Any, outcome: Outcome) -> None:
    await original_tell(connection, ws, outcome)
    with suppress(trio.ClosedResourceError):
        await ws._transport.send_all(b"bye")


async def _told_by_a_task_of_its_own(connection: Connection, ws: Any, outcome: Outcome) -> None:
    async def tell() -> None:
        await trio.sleep(LAST_WORD_S)
        with suppress(Exception):
            await original_tell(connection, ws, outcome)

    trio.lowlevel.spawn_system_task(tell)
    await original_tell(connection, ws, outcome)


async def _told_by_a_system_task_that_fails(
    connection: Connection, ws: Any, outcome: Outcome
) -> None:
    async def tell() -> None:
        await original_tell(connection, ws, outcome)
        raise ConnectionError("nobody catches what a system task raises")

    trio.lowlevel.spawn_system_task(tell)
    await trio.sleep(LAST_WORD_S)


def _given_back_by_a_finaliser(box: Any) -> None:
    if box.frames_accepted != box.frames_forwarded:
        raise RuntimeError("a buffer was dropped with frames in it")


def _beat_left_to_the_collector(cleanup: Callable[[], None]) -> Patch:
    async def beat() -> AsyncIterator[None]:
        is_whole = False
        try:
            yield
            is_whole = True
        finally:
            if not is_whole:
                cleanup()

    async def run_tasks(connection: Connection, ws: Any, sink: Any) -> None:
        async for _ in beat():  # an exception of the body leaves it suspended
            await original_run_tasks(connection, ws, sink)

    return _replace(shell._Connection, "_run_tasks", run_tasks)


def _fails_to_clean_up() -> None:
    raise ConnectionError("cannot clean up without the connection")


# --- the rig --------------------------------------------------------------------------------


async def _aborted_twice(connection: Connection, ws: Any, outcome: Outcome) -> None:
    if connection._opened is not None and outcome.is_told:
        closing = connection._close_socket

        async def not_yet(*_: object) -> None: ...

        connection._close_socket = not_yet
        try:
            await original_tell(connection, ws, outcome)
        finally:
            connection._close_socket = closing
    await original_tell(connection, ws, outcome)


async def _told_nothing(*_: object) -> None:
    await trio.lowlevel.checkpoint()


async def _told_nonsense(connection: Connection, ws: Any, outcome: Outcome) -> None:
    await ws.close(4999, "nonsense", linger_s=0.1)


async def _told_without_await(connection: Connection, ws: Any, outcome: Outcome) -> None:
    _ = original_tell(connection, ws, outcome)
    await trio.lowlevel.checkpoint()


async def _receipt_where_nothing_is_missing(
    connection: Connection, ws: Any, outcome: Outcome
) -> None:
    box = connection._buffer
    is_shutdown = outcome.error.code is ErrorCode.SERVER_SHUTDOWN
    if is_shutdown and connection._opened and box.frames_accepted == box.frames_forwarded:
        receipt = f'{{"frames":{box.frames_forwarded},"bytes":{box.bytes_forwarded}}}'
        await ws.close(1000, receipt, linger_s=0.1)
    await original_tell(connection, ws, outcome)


def _verdict_not_noticed(reader: Reader, event: Any, now: int) -> Any:
    if isinstance(event, SessionVerdict) and not event.at_open:
        return ()
    return original_decide(reader, event, now)


# --- the scopes -----------------------------------------------------------------------------


async def _cancel_swallowed(router: Any, stream: trio.abc.Stream) -> None:
    try:
        await original_handle(router, stream)
    except BaseException:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + LAST_WORD_S):
            await trio.aclose_forcefully(stream)


def _raised_again_outside(kind: type[BaseException]) -> Patch:
    """A failure that is kept, and raised where nobody expects it any more."""

    async def serve(connection: Connection, ws: Any) -> None:
        try:
            await original_serve(connection, ws)
        except kind as exc:
            connection._kept = exc
            raise

    async def run(connection: Connection, stream: trio.abc.Stream) -> None:
        await original_run(connection, stream)
        if (kept := getattr(connection, "_kept", None)) is not None:
            raise kept

    return _all(
        _replace(shell._Connection, "_serve", serve),
        _replace(shell._Connection, "run", run),
    )


async def _failure_not_contained(connection: Connection, stream: trio.abc.Stream) -> None:
    await original_run(connection, stream)
    if connection._failed_at is not None:
        raise ConnectionError("the capture has failed")


def _abort_of_a_capture_that_closes(connection: Connection, error: DomainError) -> None:
    if connection._close is not None:
        raise RuntimeError("this capture is closing")
    original_abort(connection, error)


MUTANTS = [
    Mutant(
        "a second emitter of the terminal",
        "one_terminal",
        _replace(shell._Connection, "_run_tasks", _second_emitter),
    ),
    Mutant(
        "a failed frame tried again behind the next",
        "order",
        _replace(ForwardBuffer, "forward", _failed_frame_tried_again_later),
        at=("sink_raises_once",),
        sink="slow",
    ),
    Mutant(
        "a terminal before the forwarder is stopped",
        "nothing_after_the_terminal",
        _terminal_before_the_tasks_are_over,
        at=("eof",),
        sink="slow",
        stop_after=20,
    ),
    Mutant(
        "a terminal that invents frames",
        "accounting",
        _replace(shell._Connection, "_terminal", _frames_invented),
    ),
    Mutant(
        "a cut frame not reported",
        "accounting",
        _replace(shell._Connection, "_terminal", _cut_frame_not_reported),
        sink="slow",
    ),
    Mutant(
        "a frame counted before hand-off",
        "accounting",
        _replace(ForwardBuffer, "forward", _counted_before_hand_off),
        sink="slow",
    ),
    Mutant(
        "queued frames dropped on a hang-up",
        "accounting",
        _queue_lost_behind_a_hang_up,
        at=("eof",),
        sink="slow",
    ),
    Mutant(
        "a buffer released outside finally",
        "nothing_buffered",
        _all(
            _replace(ForwardBuffer, "discard", _never_discarded),
            _replace(ForwardBuffer, "forward", _released_at_the_end),
        ),
        sink="slow",
    ),
    Mutant(
        "a claim that is not released",
        "registry_empty",
        _replace(Registry, "claim", _claimed_without_release),
        sink="opens slowly",
    ),
    Mutant(
        "a checkpoint between acquire and try",
        "registry_empty",
        _replace(shell.Router, "handle", _checkpoint_between_acquire_and_try),
    ),
    Mutant(
        "a checkpoint before the close",
        "stream_closed",
        _replace(wire, "close_now", _checkpoint_before_the_close),
    ),
    Mutant(
        "a word after the close",
        "silent_after_close",
        _replace(shell._Connection, "_tell", _word_after_the_close),
    ),
    Mutant(
        "an await in teardown without a shield",
        "sink_and_rig_agree",
        _guard_with(shield=lambda _: False),
        at=("server",),
        sink="slow",
    ),
    Mutant(
        "a shield without a deadline",
        "finished",
        _guard_with(deadline=lambda _: math.inf),
        at=("sink_stalls",),
    ),
    Mutant(
        "a deadline that is too far",
        "teardown_bounded",
        _guard_with(deadline=lambda at: at + 15),
        at=("sink_stalls",),
    ),
    Mutant(
        "an abort told twice",
        "told_once",
        _replace(shell._Connection, "_tell", _aborted_twice),
    ),
    Mutant(
        "a rig that is told nothing",
        "rig_is_told",
        _replace(shell._Connection, "_tell", _told_nothing),
    ),
    Mutant(
        "a rig that is told nonsense",
        "rig_is_told",
        _replace(shell._Connection, "_tell", _told_nonsense),
    ),
    Mutant(
        "a receipt for a failed frame",
        "receipt_is_true",
        _replace(ForwardBuffer, "forward", _failed_frame_passed_over),
        at=("sink_raises_once",),
        sink="slow",
    ),
    Mutant(
        "a receipt where nothing is missing",
        "receipt_is_true",
        _replace(shell._Connection, "_tell", _receipt_where_nothing_is_missing),
        at=("abort",),
    ),
    Mutant(
        "a revocation that nobody notices",
        "revoked_is_over",
        _replace(Reader, "decide", _verdict_not_noticed),
        at=("revoke",),
        settings={"frames": 3, "pace": 0.2},
    ),
    # What the sweep asks of every program.
    Mutant(
        "a cancellation swallowed",
        "cancelled-swallowed",
        _replace(shell.Router, "handle", _cancel_swallowed),
    ),
    Mutant(
        "a cancellation raised again outside its scope",
        "cancelled-escaped",
        _raised_again_outside(trio.Cancelled),
        at=("abort",),
    ),
    Mutant(
        "a failure that leaves its connection",
        "exception",
        _replace(shell._Connection, "run", _failure_not_contained),
        at=("abort",),
    ),
    Mutant(
        "an abort that a closing capture refuses",
        "action",
        _replace(shell._Connection, "abort", _abort_of_a_capture_that_closes),
        at=("abort",),
        sink="slow",
    ),
    Mutant(
        "a last word left to a task of its own",
        "tasks",
        _replace(shell._Connection, "_tell", _told_by_a_task_of_its_own),
    ),
    Mutant(
        "a last word that takes Trio down with it",
        "trio-broken",
        _replace(shell._Connection, "_tell", _told_by_a_system_task_that_fails),
    ),
    Mutant(
        "a call without await",
        "warning",
        _replace(shell._Connection, "_tell", _told_without_await),
    ),
    Mutant(
        "bytes given back by a finaliser that fails",
        "unraisable",
        _replace(ForwardBuffer, "__del__", _given_back_by_a_finaliser),
        sink="slow",
    ),
    Mutant(
        "a generator whose clean-up is left to the collector",
        "trio-log",
        _beat_left_to_the_collector(_fails_to_clean_up),
    ),
]

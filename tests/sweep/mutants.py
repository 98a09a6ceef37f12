"""Planted bugs, each the kind that reviews miss, and the invariant that must find it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import pytest
import trio

import cfw.routes.router as shell
import cfw.wire.connection as wire
from cfw.actions import Action
from cfw.errors import ForwardFailed
from cfw.registry import Registry
from cfw.repository import ForwardBuffer
from cfw.routes.outcome import Outcome
from cfw.service import SessionVerdict
from cfw.state import Frame
from schemas import Terminal

Patch = Callable[[pytest.MonkeyPatch], None]


@attrs.frozen
class Mutant:
    """One planted bug.

    Args:
        name: what is wrong with it.
        invariant: which must find it.
        patch: plants it.
        at: what to inject; empty when no fault is needed.
        sinks: the sinks under which it shows.
        settings: of the scenario, besides.
    """

    name: str
    invariant: str
    patch: Patch
    at: tuple[str, ...] = ("connection",)
    sinks: tuple[str, ...] = ("fast",)
    settings: dict[str, Any] = attrs.Factory(dict)


def _replace(target: Any, name: str, value: Any) -> Patch:
    return lambda patch: patch.setattr(target, name, value)


# --- the forward buffer ---------------------------------------------------------------------


def _never_discarded(_: ForwardBuffer) -> None:
    """The buffer is not drained, so its bytes stay."""


async def _counted_before_hand_off(box: Any, sink: Any) -> None:
    while (frame := await box._next()) is not None:
        box.frames_forwarded += 1
        box.bytes_forwarded += len(frame.data)
        try:
            await sink.send(frame)
        except Exception as exc:
            raise ForwardFailed("the sink failed", seq=frame.meta.seq) from exc
        box._release(frame)
    box._flushed.set()


def _closed_with_what_is_queued(box: Any) -> None:
    original_close(box)
    while box._take.statistics().current_buffer_used:
        box._release(box._take.receive_nowait())


original_close = ForwardBuffer.close


async def _second_frame_lost(box: Any, frame: Frame) -> None:
    if frame.meta.seq != 2:
        await original_put(box, frame)


original_put = ForwardBuffer.put


async def _newest_first(box: Any) -> Frame | None:
    queued: list[Frame] = []
    with_first = await original_next(box)
    if with_first is None:
        return None
    queued.append(with_first)
    while box._take.statistics().current_buffer_used:
        queued.append(box._take.receive_nowait())
    newest = queued.pop()
    for frame in queued:
        box._put.send_nowait(frame)
    return newest


original_next = ForwardBuffer._next


# --- the terminal ---------------------------------------------------------------------------


async def _second_emitter(connection: Any, ws: Any, sink: Any) -> None:
    try:
        await original_run_tasks(connection, ws, sink)
    except BaseException as exc:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
            await sink.finish(connection._terminal(exc))
        raise


original_run_tasks = shell._Connection._run_tasks


class _Guard:
    """The scope around the sink's context, deaf to one of its settings."""

    def __init__(self, deaf_to: str) -> None:
        object.__setattr__(self, "_scope", trio.CancelScope())
        object.__setattr__(self, "_deaf_to", deaf_to)

    def __setattr__(self, name: str, value: object) -> None:
        if name != self._deaf_to:
            setattr(self._scope, name, value)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scope, name)

    def __enter__(self) -> _Guard:
        self._scope.__enter__()
        return self

    def __exit__(self, *failure: Any) -> bool | None:
        caught: bool | None = self._scope.__exit__(*failure)
        return caught


class _Trio:
    """Trio, but for the scope that guards the sink's context."""

    def __init__(self, deaf_to: str) -> None:
        self._deaf_to = deaf_to

    def __getattr__(self, name: str) -> Any:
        return getattr(trio, name)

    def CancelScope(self, **options: Any) -> Any:  # noqa: N802  # Trio's name
        # The only scope of the router that is made with a deadline that will be changed.
        caller = sys._getframe(1).f_code.co_name
        scope: Any = _Guard(self._deaf_to) if caller == "_capture" else trio.CancelScope()
        for name, value in options.items():
            setattr(scope, name, value)
        return scope


def _guard_without(setting: str) -> Patch:
    return _replace(shell, "trio", _Trio(setting))


# --- the rest of the connection -------------------------------------------------------------


@contextmanager
def _claimed_without_release(registry: Any, capture_id: str, status: Any) -> Iterator[None]:
    registry._captures[capture_id] = status
    yield  # not in a try: an exception passes the line below
    del registry._captures[capture_id]


async def _transport_left_open(transport: Any) -> None:
    await trio.lowlevel.checkpoint()


async def _aborted_twice(connection: Any, ws: Any, outcome: Outcome) -> None:
    if connection._opened is not None and outcome.is_told:
        await original_tell_text(connection, ws, outcome)
    await original_tell(connection, ws, outcome)


original_tell = shell._Connection._tell


async def original_tell_text(connection: Any, ws: Any, outcome: Outcome) -> None:
    closing = connection._close_socket

    async def not_yet(*_: object) -> None: ...

    connection._close_socket = not_yet
    try:
        await original_tell(connection, ws, outcome)
    finally:
        connection._close_socket = closing


def _receipt_before_the_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    async def at_once(_: ForwardBuffer) -> None: ...

    monkeypatch.setattr(ForwardBuffer, "wait_flushed", at_once)


def _verdict_not_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    original = shell._Connection._decide

    def decide(connection: Any, event: Any, now: int) -> list[Action]:
        if isinstance(event, SessionVerdict) and not event.at_open:
            return []
        return original(connection, event, now)

    monkeypatch.setattr(shell._Connection, "_decide", decide)


async def _cancel_swallowed(router: Any, stream: trio.abc.Stream) -> None:
    try:
        await original_handle(router, stream)
    except BaseException:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
            await trio.aclose_forcefully(stream)


original_handle = shell.Router.handle


def _terminal_of_another(connection: Any, failure: BaseException | None) -> Terminal:
    return original_terminal(connection, failure or ForwardFailed("never happened"))


original_terminal = shell._Connection._terminal


def _frames_invented(connection: Any, failure: BaseException | None) -> Terminal:
    terminal = original_terminal(connection, failure)
    if failure is None:
        return terminal
    return attrs.evolve(terminal, frames_accepted=terminal.frames_accepted + 1000)


def _cut_frame_not_reported(connection: Any, failure: BaseException | None) -> Terminal:
    terminal = original_terminal(connection, failure)
    return attrs.evolve(
        terminal,
        frames_accepted=terminal.frames_forwarded,
        bytes_accepted=terminal.bytes_forwarded,
    )


async def _told_nothing(*_: object) -> None:
    await trio.lowlevel.checkpoint()


async def _told_nonsense(connection: Any, ws: Any, outcome: Outcome) -> None:
    await ws.close(4999, "nonsense", linger_s=0.1)


MUTANTS = [
    Mutant(
        "a terminal that invents frames",
        "accounting",
        _replace(shell._Connection, "_terminal", _frames_invented),
    ),
    Mutant(
        "a cut frame not reported",
        "accounting",
        _replace(shell._Connection, "_terminal", _cut_frame_not_reported),
        sinks=("slow",),
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
        "a buffer released outside finally",
        "nothing_buffered",
        _replace(ForwardBuffer, "discard", _never_discarded),
        sinks=("slow",),
    ),
    Mutant(
        "a frame counted before hand-off",
        "accounting",
        _replace(ForwardBuffer, "forward", _counted_before_hand_off),
        sinks=("slow",),
    ),
    Mutant(
        "queued frames dropped on close",
        "receipt_is_true",
        _replace(ForwardBuffer, "close", _closed_with_what_is_queued),
        sinks=("slow",),
    ),
    Mutant(
        "a frame lost without a word",
        "left_alone_it_is_clean",
        _replace(ForwardBuffer, "put", _second_frame_lost),
        at=(),
    ),
    Mutant(
        "frames out of order",
        "order",
        _replace(ForwardBuffer, "_next", _newest_first),
        sinks=("slow",),
        settings={"frames": 3},
    ),
    Mutant(
        "a second emitter of the terminal",
        "one_terminal",
        _replace(shell._Connection, "_run_tasks", _second_emitter),
    ),
    Mutant(
        "an await in teardown without a shield",
        "sink_and_rig_agree",
        _guard_without("shield"),
        at=("server",),
        sinks=("slow",),
    ),
    Mutant(
        "a shield without a deadline",
        "finished",
        _guard_without("deadline"),
        sinks=("never finishes",),
    ),
    Mutant(
        "a claim that is not released",
        "registry_empty",
        _replace(Registry, "claim", _claimed_without_release),
        sinks=("opens slowly",),
    ),
    Mutant(
        "a transport left open",
        "stream_closed",
        _replace(wire, "close_now", _transport_left_open),
        at=("connection",),
    ),
    Mutant(
        "an abort told twice",
        "told_once",
        _replace(shell._Connection, "_tell", _aborted_twice),
    ),
    Mutant(
        "a receipt before the flush",
        "receipt_is_true",
        _receipt_before_the_flush,
        sinks=("slow",),
    ),
    Mutant(
        "a terminal that contradicts the receipt",
        "receipt_is_true",
        _replace(shell._Connection, "_terminal", _terminal_of_another),
        at=(),
    ),
    Mutant(
        "a revocation that nobody notices",
        "revoked_is_over",
        _verdict_not_noticed,
        at=("revoke",),
        settings={"frames": 3, "pace": 0.2},
    ),
    Mutant(
        "a cancellation swallowed",
        "cancelled-swallowed",
        _replace(shell.Router, "handle", _cancel_swallowed),
    ),
]

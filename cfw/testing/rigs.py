"""A worker in memory, and rigs to speak to it: a lab's client or sink tested without sockets.

    async with running_worker(sink=MySink()) as worker:
        async with worker.connect() as rig:                # a rig that says messages by hand
            await rig.open()
            await rig.frame(jpeg())
            await rig.close()
            assert (await rig.ending()).receipt.frames == 1
        async with worker.open_capture() as capture:       # the client library
            await capture.send_frame(jpeg())

The worker is the one that serves sockets; its streams are in memory and push back, and its
wall clock goes with Trio's. Under `trio.testing.MockClock` a timeout of seconds takes no time
and fires at its exact instant. RIGS.md beside this file tells more.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import attrs
import trio

from cfw.api.config import Config
from cfw.client import Capture, open_capture
from cfw.limits import NS_PER_S, Limits, Times
from cfw.routes import Router
from cfw.routes.registry import Registry
from cfw.sessions import SessionAuthority, open_authority
from cfw.sinks import Sink, open_sink
from cfw.testing._rig import Ending, Raw, Rig, jpeg, raw_frame
from cfw.testing._watched_sink import Problem, WatchedSink
from cfw.testing.bytecuts import MemoryStream, stream_pair
from cfw.testing.fakes import Recorded, RecordingSink, ScriptedAuthority
from schemas import Timestamp

__all__ = ["Ending", "Raw", "Rig", "Worker", "jpeg", "raw_frame", "running_worker"]

#: About what a socket's buffers hold on both sides together.
WINDOW_BYTES = 262_144

_Settings = TypeVar("_Settings", Limits, Times)


class Worker:
    """A running worker, made by `running_worker`.

    Attributes:
        router: what serves the connections; `drain` and `abort_all` shut it down.
        registry: the captures that run, and how the last ones ended.
        sink: where frames go.
        authority: who is asked for sessions.
        scope: cancels the whole worker, as a server that is cancelled from outside.
    """

    def __init__(
        self,
        *,
        sink: Sink,
        authority: SessionAuthority,
        limits: Limits,
        times: Times,
        start_ns: int | None,
    ) -> None:
        self._epoch_ns = time.time_ns() if start_ns is None else start_ns
        self._began = trio.current_time()
        self.registry = Registry(limits)
        self._watched = WatchedSink(sink, self.registry, times.close_flush_s)
        self.router = Router(
            limits=limits,
            times=times,
            sink=self._watched,
            authority=authority,
            registry=self.registry,
            wall_clock=self._wall_clock,
        )
        self.sink = sink
        self.authority = authority
        self.scope = trio.CancelScope()
        self._nursery: trio.Nursery | None = None
        self._numbers = 0
        self._running: dict[int, trio.lowlevel.Task | None] = {}
        self._one_gone = trio.lowlevel.ParkingLot()
        self._bugs: list[str] = []

    @property
    def captures(self) -> list[Recorded]:
        """What the sink was given, whichever sink it is."""
        return self._watched.captures

    @property
    def connections(self) -> int:
        """How many connections there are."""
        return len(self._running)

    def now(self, seconds: float = 0) -> str:
        """What time it is for the worker, so many seconds later, as text for a message."""
        return Timestamp.from_ns(self._wall_clock() + round(seconds * NS_PER_S)).text

    def _wall_clock(self) -> int:
        return self._epoch_ns + round((trio.current_time() - self._began) * NS_PER_S)

    # --- connections ------------------------------------------------------------------------

    def serve(self, transport: trio.abc.Stream) -> trio.CancelScope:
        """Serve a transport of your own as one more connection.

        Returns:
            A scope that cancels the worker's side of this connection.

        Raises:
            RuntimeError: the worker has been cancelled.
        """
        if self._nursery is None or self.scope.cancel_called:
            raise RuntimeError("this worker has ended; no connection can be opened to it")
        self._numbers += 1
        self._running[self._numbers] = None
        scope = trio.CancelScope()
        self._nursery.start_soon(self._serve, transport, scope, self._numbers)
        return scope

    async def _serve(
        self, transport: trio.abc.Stream, scope: trio.CancelScope, number: int
    ) -> None:
        self._running[number] = trio.lowlevel.current_task()
        try:
            with scope:
                await self.router.handle(transport)
        except Exception as exc:
            self._bugs.append(f"connection {number} raised {exc!r} into the server")
        finally:
            if isinstance(transport, MemoryStream) and not transport.is_closed:
                self._bugs.append(f"the stream of connection {number} was not closed")
            del self._running[number]
            self._one_gone.unpark_all()

    def dial(self, *, window_bytes: int | None = WINDOW_BYTES) -> MemoryStream:
        """Open a connection and return its far end, for a client of your own.

        Args:
            window_bytes: bytes that may be on their way in each direction before a sender
                has to wait; None never lets one wait.
        """
        ours, theirs = stream_pair(window_bytes)
        self.serve(ours)
        return theirs

    @asynccontextmanager
    async def connect(
        self, *, handshake: bool = True, window_bytes: int | None = WINDOW_BYTES
    ) -> AsyncIterator[Rig]:
        """Open a connection for a rig that says every message by hand.

        Args:
            handshake: False leaves that to `Rig.shake_hands`, or to your bytes.
            window_bytes: as for `dial`.

        Raises:
            AssertionError: the worker refused the handshake.

        Cancellation: the rig vanishes, as it does at the end of the block.
        """
        ours, theirs = stream_pair(window_bytes)
        scope = self.serve(ours)
        try:
            rig = Rig(self._numbers, theirs, scope, self.now)
            if handshake:
                await rig.shake_hands()
            yield rig
        finally:
            theirs.close()

    @asynccontextmanager
    async def open_capture(self, **settings: Any) -> AsyncIterator[Capture]:
        """Open a capture through `cfw.client.open_capture`.

        Its event times are the real clock's unless it is given others: pass
        `timestamp_start=worker.now()`, and `worker.now()` to `send_frame`, where a virtual
        clock has gone far from the real one.

        Args:
            settings: as there; user_id, session_id, width, height and fps have defaults.
        """
        given: dict[str, Any] = {"url": "ws://worker", "user_id": "ada", "session_id": "s-1"}
        given |= {"width": 640, "height": 480, "fps": 15} | settings
        stream = given.pop("stream", None) or self.dial()
        async with open_capture(stream=stream, **given) as capture:
            yield capture

    # --- the end ----------------------------------------------------------------------------

    async def wait_gone(self, within_s: float | None = None) -> None:
        """Wait until no connection is left.

        Args:
            within_s: seconds it may take; None takes what the worker's own times add up to.

        Raises:
            AssertionError: some are left; it tells where each of their tasks waits.
        """
        times = self.router.services.times
        if within_s is None:
            within_s = times.session_check_s + 3 * times.close_flush_s + 2 * times.linger_s
        with trio.move_on_after(within_s):
            while self._running:
                await self._one_gone.park()
            await self.router.wait_gone()
            return
        left = [
            f"connection {number} waits at {' and at '.join(_sites(task))}"
            for number, task in self._running.items()
            if task is not None
        ]
        raise AssertionError(f"left after {within_s:g} s: {'; '.join(left) or 'a connection'}")

    def check_clean(self) -> None:
        """No connection, no registry entry and no open stream is left.

        Raises:
            AssertionError: something is; or the sink was not given what it is promised.
        """
        left = list(self._bugs)
        if self._running:
            left.append(f"{self.connections} connections are left")
        if len(self.registry):
            names = [status.capture_id for status in self.registry.statuses()]
            left.append(f"the registry still has {names}")
        if left:
            raise AssertionError("; ".join(left))
        self._watched.check()

    async def _run(self, task_status: trio.TaskStatus[None]) -> None:
        try:
            with self.scope:
                async with trio.open_nursery() as self._nursery:
                    task_status.started()
                    await trio.sleep_forever()
        finally:
            self._nursery = None

    @property
    def _sink_problems(self) -> list[Problem]:
        return self._watched.problems


def _sites(task: trio.lowlevel.Task) -> Iterator[str]:
    """Where a task and its children wait, without the frames of Trio itself."""
    inside = f"{Path(trio.__file__).parent}"
    frames = [
        f"{frame.f_code.co_name} ({Path(frame.f_code.co_filename).name}:{line})"
        for frame, line in task.iter_await_frames()
        if not frame.f_code.co_filename.startswith(inside)
    ]
    yield frames[-1] if frames else task.name
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            yield from _sites(child)


@asynccontextmanager
async def running_worker(
    config: Config | None = None,
    *,
    sink: Sink | None = None,
    authority: SessionAuthority | None = None,
    limits: Limits | Mapping[str, Any] | None = None,
    times: Times | Mapping[str, Any] | None = None,
    start: datetime | None = None,
    sink_may_fail: bool = False,
) -> AsyncIterator[Worker]:
    """Run a worker in memory around a block, and check behind it that nothing is left.

    When the block ends without an exception, connections that its rigs have left get to end
    by themselves. Then there is no connection, registry entry, buffered byte or open stream,
    each capture had its frames in order and one terminal whose counts are true, and a sink
    of your own has neither raised, nor been too slow, nor kept a call waiting until it was
    cut off. An exception of the block leaves as it is, with a note of what the sink did.

    Args:
        config: limits, times, and the URLs of sink and authority; None for the defaults.
        sink: where frames go; None opens the one of `config`, or makes a `RecordingSink`.
        authority: who is asked for sessions; None opens the one of `config`, or lets all in.
        limits: instead of those of `config`, or a mapping of those that differ.
        times: likewise.
        start: when the worker's wall clock starts; None takes the real time, which a client
            that reads the real clock needs.
        sink_may_fail: a failing sink of your own is what the test is about.

    Raises:
        AssertionError: something was left, or the sink failed.

    Cancellation: the connections are cancelled; each tells its rig and sink, under deadlines.
    """
    if start is not None and start.tzinfo is None:
        raise ValueError("start needs a time zone")
    async with AsyncExitStack() as stack:
        base = config or Config()
        if sink is None and config is not None:
            sink = await stack.enter_async_context(open_sink(config.sink.url))
        if authority is None and config is not None:
            authority = await stack.enter_async_context(
                open_authority(config.sessions.url, sessions=config.sessions.static)
            )
        worker = Worker(
            sink=RecordingSink() if sink is None else sink,
            authority=ScriptedAuthority() if authority is None else authority,
            limits=_settings(base.limits, limits),
            times=_settings(base.times, times),
            start_ns=None if start is None else Timestamp.from_datetime(start).ns,
        )
        failure: BaseException | None = None
        async with trio.open_nursery() as nursery:
            await nursery.start(worker._run)
            try:
                yield worker
                await worker.wait_gone()
                worker.check_clean()
            except BaseException as exc:
                # Raised below, outside of the nursery, which would wrap it in a group.
                failure = exc
            finally:
                worker.scope.cancel()
        problems = worker._sink_problems
        try:
            if failure is not None:
                for problem in problems:
                    failure.add_note(problem.text)
                raise failure
            if problems and not sink_may_fail:
                text = "; ".join(problem.text for problem in problems)
                raise AssertionError(text) from problems[0].cause
        finally:
            # Else this frame and the traceback would hold each other.
            del failure


def _settings(base: _Settings, given: _Settings | Mapping[str, Any] | None) -> _Settings:
    if given is None:
        return base
    return attrs.evolve(base, **given) if isinstance(given, Mapping) else given

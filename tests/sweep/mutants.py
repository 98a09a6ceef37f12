"""Planted bugs, each the kind that reviews miss, and the invariant that must find it.

Every one of them passes as long as nothing goes wrong: only a fault at the right instant
shows it. `hunt` holds both. They are lines of the code and what stands there instead; whoever
changes such a line writes the bug anew, as it would be made in what the line has become.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

import attrs

from cfw.testing.sweep import Report, SweepFailure, run_sweep
from tests.planted import Change, planted

BUFFER = "cfw/repository.py"
CAPTURE = "cfw/routes/capture.py"
CONNECTION = "cfw/routes/connection.py"
HANDSHAKE = "cfw/wire/handshake.py"
PERFORMER = "cfw/routes/performer.py"
READER = "cfw/routes/reader.py"
REGISTRY = "cfw/routes/registry.py"
ROUTER = "cfw/routes/router.py"


@attrs.frozen
class Mutant:
    """One planted bug.

    Args:
        name: what is wrong with it.
        invariant: which must find it.
        changes: plant it.
        at: what to inject.
        params: of the scenario under which it shows, as the sweep's grid has them.
        stop_after: kinds of failure after which the sweep has seen enough; more for a bug that
            breaks something else first.
    """

    name: str
    invariant: str
    changes: Sequence[Change]
    at: tuple[str, ...] = ("connection",)
    params: Mapping[str, object] = attrs.Factory(dict)
    stop_after: int = 3


def hunt(
    mutant: Mutant,
    scenario: Callable[..., Awaitable[None]],
    schedules: Sequence[str] = ("fifo",),
) -> tuple[Report, str]:
    """Plant a bug and sweep; what was covered, and why it was not found, if it was not."""

    def swept(at: tuple[str, ...]) -> Report:
        return run_sweep(
            scenario,
            at=at,
            params=[mutant.params],
            schedules=list(schedules),
            stop_after=mutant.stop_after,
        )

    with planted(*mutant.changes):
        try:
            swept(())
        except SweepFailure as failure:
            return failure.report, f"it fails without a fault:\n{failure}"
        try:
            report = swept(mutant.at)
        except SweepFailure as failure:
            if mutant.invariant in failure.invariants:
                return failure.report, ""
            return failure.report, f"found, but not by {mutant.invariant}:\n{failure}"
    return report, f"nothing found it, in {report.row()}"


def summary(
    name: str, hunts: Collection[tuple[Report, str]], schedules: Sequence[str] = ("fifo",)
) -> Report:
    """All hunts of a family in one row of the table."""
    total = Report(name, schedules=tuple(schedules))
    total.mutants = (sum(not why for _, why in hunts), len(hunts))
    total.sampled = "each until it is found"
    for report, _ in hunts:
        total.points += report.points
        total.ran += report.ran
        total.runs += report.runs
        total.seconds += report.seconds
    return total


SLOW = {"sink": "slow"}

NOT_RELEASED = Change(
    REGISTRY,
    """
    try:
        yield
    finally:
        del self._captures[capture_id]
    """,
    """
    yield  # not in a try: an exception passes the line below
    del self._captures[capture_id]
    """,
)


def _told(instead: str) -> Change:
    """The last word of a connection that failed, in another way."""
    return Change(CONNECTION, "await self._tell(ws, outcome)", instead)


def _at_the_end(instead: str) -> Change:
    """Something more when a connection is over, outside of everything."""
    last = """
        except Exception:
            # A bug of ours must not reach the other connections.
            self._log.exception("connection.failed")
    """
    return Change(CONNECTION, last, Change(CONNECTION, last, "").lines + "\n" + instead)


MUTANTS = [
    # The terminal.
    Mutant(
        "a second emitter of the terminal",
        "one_terminal",
        [
            Change(
                CAPTURE,
                "await sink.finish(self._terminal(end))",
                """
                if isinstance(end, BaseException):
                    await sink.finish(self._terminal(end))
                await sink.finish(self._terminal(end))
                """,
            )
        ],
        params={"sink": "fast"},
    ),
    Mutant(
        "a failed frame tried again behind the next",
        "order",
        [
            Change(
                BUFFER,
                """
                except Exception as exc:
                    raise _not_taken(frames) from exc
                """,
                """
                except OSError:
                    try:
                        frames.insert(0, await self._take.receive())
                    except trio.EndOfChannel:
                        pass
                    for frame in frames:
                        await sink.send(frame)
                """,
            )
        ],
        at=("sink_raises_once",),
        params=SLOW,
    ),
    Mutant(
        "a terminal before the forwarder is stopped",
        "nothing_after_the_terminal",
        [
            Change(
                CAPTURE,
                "nursery.start_soon(self._read, nursery, batch)",
                """
                async def read():
                    try:
                        await self._read(nursery, batch)
                    except Exception as exc:
                        await sink.finish(self._terminal(exc))
                        await trio.sleep(0.05)  # the forwarder is still running
                        raise

                nursery.start_soon(read)
                """,
            )
        ],
        at=("eof",),
        params=SLOW,
        stop_after=20,
    ),
    Mutant(
        "a terminal that invents frames",
        "accounting",
        [
            Change(
                CAPTURE,
                '"frames_accepted": buffer.frames_accepted,',
                """
                "frames_accepted": buffer.frames_accepted
                + (1000 if isinstance(end, BaseException) else 0),
                """,
            )
        ],
        params={"sink": "fast"},
    ),
    Mutant(
        "a cut frame not reported",
        "accounting",
        [
            Change(
                CAPTURE,
                """
                "frames_accepted": buffer.frames_accepted,
                "bytes_accepted": buffer.bytes_accepted,
                """,
                """
                "frames_accepted": buffer.frames_forwarded,
                "bytes_accepted": buffer.bytes_forwarded,
                """,
            )
        ],
        params=SLOW,
    ),
    # The forward buffer.
    Mutant(
        "a frame counted before hand-off",
        "accounting",
        [
            Change(
                BUFFER,
                "frames = [first]",
                """
                frames = [first]
                self._release(frames)
                """,
            ),
            Change(
                BUFFER,
                """
                    raise _not_taken(frames) from exc
                self._release(frames)
                """,
                """
                    raise _not_taken(frames) from exc
                """,
            ),
        ],
        params=SLOW,
    ),
    Mutant(
        "queued frames dropped on a hang-up",
        "accounting",
        [
            Change(
                READER,
                "batch = await self._ws.receive_batch(until=deadline)",
                """
                from cfw.wire import PeerGone

                try:
                    batch = await self._ws.receive_batch(until=deadline)
                except PeerGone:
                    box = self._buffer
                    while box._take.statistics().current_buffer_used:
                        frame = box._take.receive_nowait()
                        box.frames, box.bytes = box.frames - 1, box.bytes - len(frame.data)
                        box.frames_accepted -= 1
                        box.bytes_accepted -= len(frame.data)
                    raise
                """,
            )
        ],
        at=("eof",),
        params=SLOW,
    ),
    Mutant(
        "a buffer released outside finally",
        "nothing_buffered",
        [
            Change(
                CAPTURE,
                "self.buffer.discard()",
                """
                if not isinstance(end, BaseException):
                    self.buffer.discard()
                """,
            )
        ],
        params=SLOW,
    ),
    # What is left behind.
    Mutant(
        "a claim that is not released",
        "registry_empty",
        [NOT_RELEASED],
        params={"sink": "opens slowly"},
    ),
    Mutant(
        "a checkpoint between acquire and try",
        "registry_empty",
        [
            Change(
                ROUTER,
                "self._connections.add(connection)",
                """
                self._connections.add(connection)
                await trio.lowlevel.checkpoint()
                """,
            )
        ],
    ),
    Mutant(
        "a checkpoint before the close",
        "stream_closed",
        [
            Change(
                HANDSHAKE,
                """
                with trio.CancelScope(deadline=-math.inf, shield=True):
                    await transport.aclose()
                """,
                """
                await trio.lowlevel.checkpoint()
                await trio.aclose_forcefully(transport)
                """,
            )
        ],
    ),
    Mutant(
        "a word after the close",
        "silent_after_close",
        [
            _told(
                """
                await self._tell(ws, outcome)
                with contextlib.suppress(trio.ClosedResourceError):
                    await ws._transport.send_all(b"bye")
                """
            )
        ],
    ),
    Mutant(
        "an await in teardown without a shield",
        "sink_and_rig_agree",
        [Change(CAPTURE, "guard.shield = True", "guard.shield = False")],
        at=("server",),
        params=SLOW,
    ),
    Mutant(
        "a shield without a deadline",
        "finished",
        [
            Change(
                CAPTURE,
                "guard.deadline = trio.current_time() + flush_s",
                "guard.deadline = math.inf",
            )
        ],
        at=("sink_stalls",),
    ),
    Mutant(
        "a deadline that is too far",
        "teardown_bounded",
        [
            Change(
                CAPTURE,
                "guard.deadline = trio.current_time() + flush_s",
                "guard.deadline = trio.current_time() + flush_s + 15",
            )
        ],
        at=("sink_stalls",),
    ),
    # The rig.
    Mutant(
        "an abort told twice",
        "told_once",
        [
            Change(
                CONNECTION,
                "await ws.send_text(to_json(capture.abort_message(outcome)))",
                """
                await ws.send_text(to_json(capture.abort_message(outcome)))
                await ws.send_text(to_json(capture.abort_message(outcome)))
                """,
            )
        ],
    ),
    Mutant(
        "a rig that is told nothing",
        "rig_is_told",
        [_told("await trio.lowlevel.checkpoint()")],
    ),
    Mutant(
        "a rig that is told nonsense",
        "rig_is_told",
        [_told('await ws.close(4999, "nonsense", linger_s=0.1)')],
    ),
    Mutant(
        "a receipt for a failed frame",
        "receipt_is_true",
        [
            Change(
                BUFFER,
                """
                except Exception as exc:
                    raise _not_taken(frames) from exc
                self._release(frames)
                """,
                """
                except OSError:
                    self.frames -= 1
                    self.bytes -= len(first.data)
                    continue
                self._release(frames)
                """,
            )
        ],
        at=("sink_raises_once",),
        params=SLOW,
    ),
    Mutant(
        "a receipt where nothing is missing",
        "receipt_is_true",
        [
            _told(
                """
                box = None if self._capture is None else self._capture.buffer
                is_whole = box is not None and box.frames_accepted == box.frames_forwarded
                if outcome.close_code == 1001 and is_whole:
                    receipt = json.dumps(self._capture.receipt)
                    await ws.close(1000, receipt, linger_s=0.1)
                await self._tell(ws, outcome)
                """
            )
        ],
        at=("abort",),
    ),
    Mutant(
        "a revocation that nobody notices",
        "revoked_is_over",
        [
            Change(
                PERFORMER,
                "self.state, actions = dispatch(self.state, event, self.now)",
                """
                if isinstance(event, SessionVerdict) and not event.at_open:
                    return
                self.state, actions = dispatch(self.state, event, self.now)
                """,
            )
        ],
        at=("revoke",),
        params={"frames": 3, "pace": 0.2},
    ),
    # What the sweep asks of every program.
    Mutant(
        "a cancellation swallowed",
        "cancelled-swallowed",
        [
            Change(
                ROUTER,
                "await connection.run(stream)",
                """
                try:
                    await connection.run(stream)
                except BaseException:
                    with trio.move_on_after(0.3, shield=True):
                        await trio.aclose_forcefully(stream)
                """,
            )
        ],
    ),
    Mutant(
        "a cancellation raised again outside its scope",
        "cancelled-escaped",
        [
            Change(
                CONNECTION,
                "await self._serve(ws)",
                """
                try:
                    await self._serve(ws)
                except trio.Cancelled as exc:
                    self._kept = exc
                    raise
                """,
            ),
            _at_the_end('if hasattr(self, "_kept"):\n    raise self._kept'),
        ],
        at=("abort",),
    ),
    Mutant(
        "a failure that leaves its connection",
        "exception",
        [
            _at_the_end(
                "if self._capture is not None and self._capture.failed_at < float('inf'):\n"
                '    raise ConnectionError("the capture has failed")'
            )
        ],
        at=("abort",),
    ),
    Mutant(
        "an abort that a closing capture refuses",
        "action",
        [
            Change(
                CONNECTION,
                "self._stop.request(error)",
                """
                if self.is_capturing and isinstance(self._capture._performer.state, Idle):
                    raise RuntimeError("this capture is closing")
                self._stop.request(error)
                """,
            )
        ],
        at=("abort",),
        params=SLOW,
    ),
    Mutant(
        "a last word left to a task of its own",
        "tasks",
        [
            _told(
                """
                async def tell(outcome=outcome):
                    await trio.sleep(0.3)
                    with contextlib.suppress(Exception):
                        await self._tell(ws, outcome)

                trio.lowlevel.spawn_system_task(tell)
                await self._tell(ws, outcome)
                """
            )
        ],
    ),
    Mutant(
        "a last word that takes Trio down with it",
        "trio-broken",
        [
            _told(
                """
                async def tell(outcome=outcome):
                    await self._tell(ws, outcome)
                    raise ConnectionError("nobody catches what a system task raises")

                trio.lowlevel.spawn_system_task(tell)
                await trio.sleep(0.3)
                """
            )
        ],
    ),
    Mutant(
        "a call without await",
        "warning",
        [
            _told(
                """
                _ = self._tell(ws, outcome)
                await trio.lowlevel.checkpoint()
                """
            )
        ],
    ),
    Mutant(
        "bytes given back by a finaliser that fails",
        "unraisable",
        [
            Change(
                BUFFER,
                "self.frames = self.bytes = 0",
                """
                def give_back():
                    try:
                        yield
                    finally:
                        raise RuntimeError("a buffer was dropped with frames in it")

                if self.frames:
                    self._given_back = give_back()
                    next(self._given_back)
                self.frames = self.bytes = 0
                """,
            )
        ],
        params=SLOW,
    ),
    Mutant(
        "a generator whose clean-up is left to the collector",
        "trio-log",
        [
            Change(
                CAPTURE,
                "end = await self._run_tasks(sink, batch)",
                """
                async def beat():
                    is_whole = False
                    try:
                        yield
                        is_whole = True
                    finally:
                        if not is_whole:
                            raise ConnectionError("cannot clean up without the connection")

                async for _ in beat():  # an exception of the body leaves it suspended
                    end = await self._run_tasks(sink, batch)
                """,
            )
        ],
    ),
]

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
HANDSHAKE = "cfw/wire/handshake.py"
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
    return Change(ROUTER, "await self._tell(ws, outcome)", instead)


def _at_the_end(instead: str) -> Change:
    """Something more when a connection is over, outside of everything."""
    last = """
        except Exception:
            # A bug of ours must not reach the other connections.
            self._log.exception("connection.failed")
    """
    return Change(ROUTER, last, Change(ROUTER, last, "").lines + "\n" + instead)


MUTANTS = [
    # The terminal.
    Mutant(
        "a second emitter of the terminal",
        "one_terminal",
        [
            Change(
                ROUTER,
                "await sink.finish(self._terminal(failure))",
                """
                if failure is not None:
                    await sink.finish(self._terminal(failure))
                await sink.finish(self._terminal(failure))
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
                    seq = frames[0].meta.seq
                    raise ForwardFailed(f"the sink did not take frame {seq}", seq=seq) from exc
                """,
                """
                except OSError:
                    untaken += [*(await self._next() or ()), *frames]
                    continue
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
                ROUTER,
                """
                except BaseException:
                    self._note_failure()  # before the other tasks and the sink have ended
                """,
                """
                except BaseException as exc:
                    self._note_failure()
                    if isinstance(exc, Exception):
                        await sink.finish(self._terminal(exc))
                        await trio.sleep(0.05)  # the forwarder is still running
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
                ROUTER,
                '"frames_accepted": buffer.frames_accepted,',
                """
                "frames_accepted": buffer.frames_accepted
                + (0 if failure is None else 1000),
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
                ROUTER,
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
                "del untaken[:count]",
                """
                del untaken[:count]
                self._release(frames)
                """,
            ),
            Change(
                BUFFER,
                """
                    raise ForwardFailed(f"the sink did not take frame {seq}", seq=seq) from exc
                self._release(frames)
                """,
                """
                    raise ForwardFailed(f"the sink did not take frame {seq}", seq=seq) from exc
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
                "self.batch = await ws.receive_batch(until=deadline)",
                """
                from cfw.wire import PeerGone

                try:
                    self.batch = await ws.receive_batch(until=deadline)
                except PeerGone:
                    box = self._buffer
                    for frame in box._take.receive_nowait() if box._untaken else ():
                        box.frames, box.bytes = box.frames - 1, box.bytes - len(frame.data)
                        box.frames_accepted -= 1
                        box.bytes_accepted -= len(frame.data)
                    box._untaken = None
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
                ROUTER,
                "self._buffer.discard()",
                """
                if failure is None:
                    self._buffer.discard()
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
        [Change(ROUTER, "guard.shield = True", "guard.shield = False")],
        at=("server",),
        params=SLOW,
    ),
    Mutant(
        "a shield without a deadline",
        "finished",
        [
            Change(
                ROUTER,
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
                ROUTER,
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
                ROUTER,
                "await ws.send_text(to_json(abort))",
                """
                await ws.send_text(to_json(abort))
                await ws.send_text(to_json(abort))
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
                    seq = frames[0].meta.seq
                    raise ForwardFailed(f"the sink did not take frame {seq}", seq=seq) from exc
                self._release(frames)
                """,
                """
                except OSError:
                    self.frames -= 1
                    self.bytes -= len(frames[0].data)
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
                box = self._buffer
                is_whole = box.frames_accepted == box.frames_forwarded
                if outcome.close_code == 1001 and self._opened is not None and is_whole:
                    receipt = {"frames": box.frames_forwarded, "bytes": box.bytes_forwarded}
                    await ws.close(1000, json.dumps(receipt), linger_s=0.1)
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
                READER,
                "self.state, actions = dispatch(self.state, event, now)",
                """
                if isinstance(event, SessionVerdict) and not event.at_open:
                    return ()
                self.state, actions = dispatch(self.state, event, now)
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
                ROUTER,
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
                "if self._failed_at is not None:\n"
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
                ROUTER,
                "if self._abort_error is None:",
                """
                if self._close is not None:
                    raise RuntimeError("this capture is closing")
                if self._abort_error is None:
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
                ROUTER,
                "await self._run_tasks(ws, sink)",
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
                    await self._run_tasks(ws, sink)
                """,
            )
        ],
    ),
]

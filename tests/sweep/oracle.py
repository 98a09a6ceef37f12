"""What must hold after every run of a connection, each by its name.

`@invariant` puts a check into `INVARIANTS`; its name is the function's. A check looks at what
was `Seen` of one run and raises AssertionError. Each has a planted bug in `mutants.py`.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from cfw.limits import Limits, Times
from cfw.repository import ForwardBuffer
from cfw.routes import Router
from cfw.routes.outcome import LADDER
from cfw.routes.registry import Registry
from cfw.testing.fakes import FailingSink, FlippingSink, RecordingSink, StallingSink
from cfw.testing.sweep import World
from schemas import ErrorCode, FeedAbort, FeedClose
from tests.raw import Ending
from tests.sweep.peers import PICTURES, Rig, WatchedStream

#: Short enough that a re-check falls into the capture, and every timeout into the heal time.
TIMES = Times(
    handshake_s=2,
    session_recheck_s=0.07,
    session_check_s=0.5,
    session_grace_s=1,
    idle_s=2,
    meta_to_bytes_s=1,
    open_s=2,
    close_flush_s=1,
    linger_s=0.5,
)
LIMITS = Limits(max_forward_buffer_frames=3)

#: These end a connection at once, whatever it does: the sink hears its terminal, the rig its
#: abort, and each has its own patience.
HARD = {"connection", "server", "abort"}
HARD_S = TIMES.close_flush_s + TIMES.linger_s
#: What every wait between a rig that is gone and the end adds up to: the authority, then the
#: sink's beginning, its frames and its end, then the last words.
PATIENCE_S = TIMES.session_check_s + 3 * TIMES.close_flush_s + TIMES.linger_s
#: How long a rig may say nothing.
SILENCE_S = max(TIMES.handshake_s, TIMES.open_s, TIMES.idle_s)

#: Which faults may abort a capture whose sink works, and with which code.
BLAME = {
    ErrorCode.SESSION_CLOSED: {"revoke"},
    ErrorCode.SERVER_SHUTDOWN: {*HARD, "drain"},
    ErrorCode.FORWARD_FAILED: {"sink_raises_once", "sink_raises", "sink_stalls"},
    ErrorCode.PROTOCOL_VIOLATION: {"rig_mute"},
}


@attrs.define
class Seen:
    """One run, as the oracle sees it.

    Attributes:
        accepted: size of each frame that entered the buffer, counted apart from it.
        rig_ends_at: when the rig has sent everything, if it is left alone.
        running_for: how long it still had to send when its session was revoked.
        ended_at: when the router had served the connection.
        was_closed: whether it had closed the stream by then.
        told: what the rig has read; None where its handshake was not answered.
        nonsense: why what it has read is no conversation.
    """

    world: World
    frames: int
    taker: RecordingSink
    rig: Rig
    stream: WatchedStream
    router: Router
    registry: Registry
    rig_ends_at: float
    buffers: list[ForwardBuffer] = attrs.Factory(list)
    accepted: list[int] = attrs.Factory(list)
    running_for: list[float] = attrs.Factory(list)
    ended_at: float = 0
    was_closed: bool = False
    told: Ending | None = None
    nonsense: str = ""

    @property
    def fired(self) -> set[str]:
        return {injection.name for injection in self.world.injections}

    @property
    def has_failed(self) -> bool:
        """Whether the sink has raised, or waits for ever."""
        match self.taker:
            case FlippingSink():
                return bool(self.taker.failed_at) or self.taker.is_stalled
            case FailingSink():
                return bool(self.taker.failed_at)
            case StallingSink():
                return bool(self.taker.stalled_at)
        return False


Check = Callable[[Seen], None]
INVARIANTS: dict[str, Check] = {}


def invariant(check: Check) -> Check:
    """Ask this of every run, by the function's name."""
    INVARIANTS[check.__name__] = check
    return check


# --- the sink -------------------------------------------------------------------------------


@invariant
def nothing_after_the_terminal(seen: Seen) -> None:
    """The terminal is the last thing a sink is given."""
    assert not any(recorded.late_frames for recorded in seen.taker.captures)


@invariant
def one_terminal(seen: Seen) -> None:
    """Every capture of the sink has one terminal, and its context was left."""
    for recorded in seen.taker.captures:
        recorded.check_one_terminal()
        recorded.check_left()


@invariant
def order(seen: Seen) -> None:
    """The sink has the first frames of those that were sent, in order, byte for byte."""
    for recorded in seen.taker.captures:
        recorded.check_prefix(PICTURES[: seen.frames])


@invariant
def accounting(seen: Seen) -> None:
    """Every accepted frame was forwarded, or is missing in the terminal's count."""
    for recorded in seen.taker.captures:
        recorded.check_accounting()
        said = (recorded.terminal.frames_accepted, recorded.terminal.bytes_accepted)
        assert said == (len(seen.accepted), sum(seen.accepted)), (said, seen.accepted)


# --- what is left behind ----------------------------------------------------------------------


@invariant
def nothing_buffered(seen: Seen) -> None:
    """The buffer counts nothing, holds nothing, and its bytes are off the books."""
    for box in seen.buffers:
        assert (box.frames, box.bytes) == (0, 0), box.frames
        assert box._put.statistics().current_buffer_used == 0
    assert seen.router.services.metrics.buffered() == (0, 0)


@invariant
def registry_empty(seen: Seen) -> None:
    """No capture_id is owned, and the router counts no connection."""
    assert len(seen.registry) == 0
    assert not seen.router._connections
    assert seen.router.services.metrics.connections == 0


@invariant
def stream_closed(seen: Seen) -> None:
    """The connection was closed; by several, for each of them makes sure of it."""
    assert seen.was_closed


@invariant
def silent_after_close(seen: Seen) -> None:
    """No byte follows the close frame, and none is sent on a connection that was closed."""
    assert not seen.nonsense, seen.nonsense
    assert not seen.stream.late_sends, seen.stream.late_sends


@invariant
def teardown_bounded(seen: Seen) -> None:
    """After a fault the connection is over within what its times add up to."""
    hard = [fault.time for fault in seen.world.injections if fault.name in HARD]
    if hard:
        due = hard[0] + HARD_S
    elif seen.fired & {"eof", "reset"}:
        due = seen.world.injections[-1].time + PATIENCE_S
    else:
        times = [fault.time for fault in seen.world.injections]
        due = max([seen.rig_ends_at, *times]) + SILENCE_S + PATIENCE_S
    assert seen.ended_at <= due + 1e-6, f"over at {seen.ended_at:g} s, due at {due:g} s"


# --- the rig ----------------------------------------------------------------------------------


@invariant
def told_once(seen: Seen) -> None:
    """A rig that reads is told one thing: close code and reason agree with the abort."""
    told = seen.told
    if told is None or seen.rig.is_gone:
        return
    assert len(told.aborts) <= 1, told
    assert not told.is_cut, told
    for abort in told.aborts:
        assert told.code == LADDER[abort.error_code][0], told
        assert told.reason.startswith(abort.error_code), told


@invariant
def rig_is_told(seen: Seen) -> None:
    """From when the sink has the capture, a rig that reads hears how it ended, and why."""
    if not seen.taker.captures or seen.rig.is_gone:
        return
    told = seen.told
    assert told is not None
    assert told.code == 1000 or told.aborts, told
    if told.code != 1000:
        code = told.aborts[0].error_code
        is_known = code is ErrorCode.FORWARD_FAILED and seen.has_failed
        assert is_known or BLAME[code] & seen.fired, (told, seen.fired)


@invariant
def receipt_is_true(seen: Seen) -> None:
    """A receipt says what the sink has: all of it, and a clean terminal."""
    told = seen.told
    if told is not None and told.code == 1000 and seen.taker.captures:
        (recorded,) = seen.taker.captures
        assert isinstance(recorded.terminals[0], FeedClose), recorded.terminals
        assert told.receipt["frames"] == len(recorded.frames) == seen.frames


@invariant
def sink_and_rig_agree(seen: Seen) -> None:
    """There is one error code, the same in the terminal and in what the rig is told."""
    told = seen.told
    if told is None or told.code is None or not seen.taker.captures:
        return
    terminal = seen.taker.captures[0].terminals[0]
    heard = terminal.error_code if isinstance(terminal, FeedAbort) else None
    # A sink that fails while it takes the terminal is the one that cannot hear of it.
    if not (told.error_code is ErrorCode.FORWARD_FAILED and seen.has_failed):
        assert heard == told.error_code, (heard, told)


@invariant
def revoked_is_over(seen: Seen) -> None:
    """A capture whose session is revoked while it runs does not end cleanly."""
    # It may, if it is over before the next re-check.
    due = TIMES.session_recheck_s + 0.02
    if seen.running_for and seen.running_for[0] > due and seen.told is not None:
        assert seen.rig.is_gone or seen.told.code != 1000, seen.told


# --- a run without a fault --------------------------------------------------------------------


def left_alone_it_is_clean(seen: Seen) -> None:
    """Without a fault, a capture whose sink works is forwarded whole and has its receipt."""
    if seen.world.injected is None and not seen.has_failed:
        assert seen.told is not None
        assert seen.told.receipt["frames"] == len(seen.taker.only.frames) == seen.frames

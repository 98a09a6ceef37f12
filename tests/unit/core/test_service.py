"""The rules of a capture: every transition, every check, every limit at n-1, n and n+1."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfw.actions import (
    AbortCapture,
    CleanupCapture,
    ForwardFrame,
    RequestSessionRecheck,
    RequestSessionValidation,
)
from cfw.errors import (
    INVITATION_ENDED,
    SESSION_ENDED,
    DomainError,
    LimitDurationExceeded,
    LimitFpsExceeded,
    LimitFrameBytesExceeded,
    LimitFrameCountExceeded,
    LimitResolutionExceeded,
    LimitTotalBytesExceeded,
    ProtocolViolation,
    SessionClosed,
    SessionInvalid,
)
from cfw.limits import Limits, Times, ns
from cfw.service import (
    Event,
    Held,
    SessionNotice,
    SessionVerdict,
    Tick,
    Verdict,
    dispatch,
    next_deadline,
)
from cfw.settings import SettingError
from cfw.state import Active, Ending, Idle, RecordIds, State
from tests.factories import SECOND, START_NS, at, jpeg, make_close, make_meta, make_open

IDLE = Idle(Limits(), Times())


def idle(**limits: Any) -> Idle:
    return Idle(Limits(**limits), Times())


def opened(start: Any = IDLE, **fields: Any) -> Active:
    state, _ = dispatch(start, make_open(**fields), START_NS)
    assert isinstance(state, Active)
    return state


def run(state: State, *events: Event, now: float = 0.1) -> State:
    """Dispatch events that must all be accepted."""
    for event in events:
        state, actions = dispatch(state, event, START_NS + ns(now))
        assert not any(isinstance(action, AbortCapture) for action in actions), actions
    return state


def refused(state: State, event: Event, now: float = 0.1) -> DomainError:
    """Dispatch one event that must abort the capture; the error it is aborted with."""
    after, actions = dispatch(state, event, START_NS + ns(now))
    assert isinstance(state, Active)
    assert after == state.terms.idle
    abort, cleanup = actions
    assert isinstance(abort, AbortCapture)
    assert cleanup == CleanupCapture(None)
    return abort.error


def frames(state: State, count: int, size: int = 200) -> State:
    for seq in range(1, count + 1):
        state = run(state, make_meta(seq, size), jpeg(size))
    return state


# --- idle -----------------------------------------------------------------------------------


def test_open_asks_for_the_session_to_be_validated() -> None:
    """A capture.open within the limits leads to active and to one request."""
    state, actions = dispatch(IDLE, make_open(), START_NS)
    assert isinstance(state, Active)
    assert actions == (RequestSessionValidation("ada", "s-1"),)


@pytest.mark.parametrize(
    "event", [make_meta(), b"x", make_close()], ids=["meta", "bytes", "close"]
)
def test_nothing_but_open_begins_a_capture(event: Event) -> None:
    """Any other message of a rig in idle is a protocol violation."""
    with pytest.raises(ProtocolViolation, match=r"before capture\.open"):
        dispatch(IDLE, event, START_NS)


def test_a_tick_in_idle_does_nothing() -> None:
    """A tick, or a verdict that comes too late, changes nothing in idle."""
    assert dispatch(IDLE, Tick(), START_NS) == (IDLE, ())
    assert dispatch(IDLE, SessionVerdict(Verdict.CLOSED, False), START_NS) == (IDLE, ())
    assert next_deadline(IDLE) is None


@pytest.mark.parametrize(
    ("field", "most", "error"),
    [
        ("width", 640, LimitResolutionExceeded),
        ("height", 480, LimitResolutionExceeded),
        ("fps_target", 15, LimitFpsExceeded),
    ],
)
def test_open_limits(field: str, most: int, error: type[DomainError]) -> None:
    """What capture.open declares may reach a limit and not pass it."""
    for value in (most - 1, most):
        opened(**{field: value})
    with pytest.raises(error) as caught:
        opened(**{field: most + 1})
    assert (caught.value.observed, caught.value.limit) == (most + 1, most)


def test_pixels_are_limited_beside_width_and_height() -> None:
    """A picture may be too large although neither side is."""
    start = idle(max_pixels=1000)
    opened(start, width=25, height=40)
    with pytest.raises(LimitResolutionExceeded, match="width x height"):
        opened(start, width=7, height=143)


@pytest.mark.parametrize("skew", [-1, 1], ids=["behind", "ahead"])
def test_clock_skew_at_open(skew: int) -> None:
    """timestamp_start may be a day away from the worker's clock and no more."""
    opened(timestamp_start=at(skew * 86_400))
    with pytest.raises(ProtocolViolation, match="max_clock_skew_s"):
        opened(timestamp_start=at(skew * 86_400.001))


def test_open_is_checked_in_order() -> None:
    """Resolution comes before pixels, fps and clock."""
    wrong = make_open(width=9999, fps_target=99, timestamp_start=at(1e6))
    with pytest.raises(LimitResolutionExceeded, match="width may"):
        dispatch(IDLE, wrong, START_NS)
    with pytest.raises(LimitFpsExceeded):
        dispatch(IDLE, make_open(fps_target=99, timestamp_start=at(1e6)), START_NS)


@pytest.mark.parametrize("users", [{"ada"}, {"bob", "ada"}, None])
def test_a_connection_opens_captures_of_its_users(users: set[str] | None) -> None:
    """Of any user, if it is bound to none."""
    idle = Idle(Limits(), Times(), None if users is None else frozenset(users))
    state, _ = dispatch(idle, make_open(user_id="ada"), START_NS)
    assert isinstance(state, Active)


@pytest.mark.parametrize("users", [{"bob"}, {"Ada"}, {""}, set()])
def test_a_connection_opens_no_capture_of_another_user(users: set[str]) -> None:
    """Before anything else is looked at, and without asking for the session."""
    idle = Idle(Limits(), Times(), frozenset(users))
    with pytest.raises(SessionInvalid, match="bound to another user_id"):
        dispatch(idle, make_open(user_id="ada", width=641, fps_target=99), START_NS)


def test_a_second_open_is_refused() -> None:
    """One connection carries one capture."""
    assert isinstance(refused(opened(), make_open()), ProtocolViolation)


# --- frames ---------------------------------------------------------------------------------


def test_a_frame_is_forwarded_with_its_bytes() -> None:
    """Metadata then bytes is one accepted frame, and only then the counters move."""
    start, data = opened(), jpeg()
    meta = make_meta()
    pending = run(start, meta)
    assert isinstance(pending, Active)
    assert (pending.frames, pending.total_bytes) == (0, 0)
    accepted, (action,) = dispatch(pending, data, START_NS + 7)
    assert isinstance(action, ForwardFrame)
    assert isinstance(accepted, Active)
    assert action.frame.data is data
    assert action.frame.meta is meta
    assert action.frame.ingest_ns == START_NS + 7
    assert (accepted.frames, accepted.total_bytes, accepted.pending) == (1, 200, None)


@pytest.mark.parametrize("field", ["user_id", "session_id", "capture_id"])
def test_ids_stay_the_same(field: str) -> None:
    """Every message names the user, session and capture that were opened."""
    other: dict[str, Any] = {field: "other"}
    for message in (make_meta(**other), make_close(**other)):
        error = refused(opened(), message)
        assert isinstance(error, ProtocolViolation)
        assert field in error.detail
    run(opened(), make_meta(session_id="s-1"))


def test_metadata_waits_for_the_bytes_before_it() -> None:
    """Two frame_meta in a row are refused, naming the frame that lacks its bytes."""
    error = refused(run(opened(), make_meta(1)), make_meta(2))
    assert isinstance(error, ProtocolViolation)
    assert error.seq == 1


@pytest.mark.parametrize("seq", [0, 1, 3, -1])
def test_seq_counts_without_gaps(seq: int) -> None:
    """After frame 1 only frame 2 may come."""
    error = refused(frames(opened(), 1), make_meta(seq))
    assert (type(error), error.seq, error.observed) == (ProtocolViolation, 2, seq)


def test_event_times_of_frames_do_not_go_back() -> None:
    """A frame may be as old as the one before it, and not a nanosecond older."""
    state = run(opened(), make_meta(1, timestamp_frame=f"{at(1)[:-1][:-9]}500000001Z"), jpeg())
    run(state, make_meta(2, timestamp_frame=f"{at(1)[:-1][:-9]}500000001Z"))
    late = make_meta(2, timestamp_frame=f"{at(1)[:-1][:-9]}500000000Z")
    assert "timestamp_frame" in refused(state, late).detail


def test_clock_skew_of_frames_and_close() -> None:
    """Event times of frames and of the close are held against the worker's clock too."""
    assert "timestamp_frame" in refused(opened(), make_meta(timestamp_frame=at(90_000))).detail
    far = make_close(timestamp_end=at(90_000))
    assert isinstance(refused(opened(), far), ProtocolViolation)


def test_frame_bytes_limit() -> None:
    """byte_length may reach max_frame_bytes and not pass it."""
    start = opened(idle(max_frame_bytes=1000))
    for size in (999, 1000):
        run(start, make_meta(1, size), jpeg(size))
    error = refused(start, make_meta(1, 1001))
    assert (type(error), error.observed, error.limit) == (LimitFrameBytesExceeded, 1001, 1000)


def test_frame_count_limit() -> None:
    """max_frames frames are accepted, one more is refused at its metadata."""
    state = frames(opened(idle(max_frames=3)), 3)
    error = refused(state, make_meta(4))
    assert (type(error), error.seq, error.limit) == (LimitFrameCountExceeded, 4, 3)


def test_total_bytes_limit() -> None:
    """The bytes of all frames may reach max_total_bytes and not pass it."""
    state = frames(opened(idle(max_total_bytes=600)), 2)
    for size in (199, 200):
        run(state, make_meta(3, size), jpeg(size))
    error = refused(state, make_meta(3, 201))
    assert (type(error), error.observed, error.limit) == (LimitTotalBytesExceeded, 601, 600)


def test_frame_meta_is_checked_in_order() -> None:
    """Ids, pending, seq, event time, size of frame, count and total: the first fault counts."""
    state = frames(opened(idle(max_frames=1, max_total_bytes=250, max_frame_bytes=300)), 1)
    wrong: dict[str, Any] = {
        "user_id": "other",
        "seq": 7,
        "timestamp_frame": at(0),
        "byte_length": 400,
    }
    expected = ["user_id", "seq", "timestamp_frame", "a frame may", "at most 1 frames"]
    mended: list[dict[str, Any]] = [
        {},
        {"user_id": "ada"},
        {"seq": 2},
        {"timestamp_frame": at(1)},
        {"byte_length": 90},
    ]
    for right, part in zip(mended, expected, strict=True):
        wrong |= right
        assert part in refused(state, make_meta(**wrong)).detail


def test_bytes_need_metadata() -> None:
    """A binary message that nobody announced is refused."""
    error = refused(frames(opened(), 1), jpeg())
    assert (type(error), error.seq) == (ProtocolViolation, 2)


@pytest.mark.parametrize("size", [199, 201])
def test_bytes_have_the_announced_length(size: int) -> None:
    """One byte less or more than byte_length is refused."""
    error = refused(run(opened(), make_meta(1, 200)), jpeg(size))
    assert (type(error), error.observed, error.limit) == (ProtocolViolation, size, 200)


def test_bytes_are_a_jpeg() -> None:
    """What is not a JPEG is refused, saying why."""
    error = refused(run(opened(), make_meta(1, 4)), b"\x89PNG")
    assert type(error) is ProtocolViolation
    assert "SOI" in error.detail


def test_the_picture_is_no_larger_than_declared() -> None:
    """A frame may be as large as capture.open said, in neither direction larger."""
    state = run(opened(width=320, height=240), make_meta())
    run(state, jpeg(width=320, height=240))
    for width, height in ((321, 240), (320, 241)):
        error = refused(state, jpeg(width=width, height=height))
        assert type(error) is LimitResolutionExceeded
        assert error.limit in (320, 240)


# --- close ----------------------------------------------------------------------------------


def test_close_ends_the_capture_cleanly() -> None:
    """capture.close leads back to idle and hands its message to the clean-up."""
    message = make_close(timestamp_end=at(1))
    assert dispatch(frames(opened(), 2), message, START_NS + SECOND) == (
        IDLE,
        (CleanupCapture(message),),
    )


def test_a_capture_without_frames_is_a_capture() -> None:
    """Opening and closing at once is clean."""
    assert dispatch(opened(), make_close(timestamp_end=at(0)), START_NS)[0] == IDLE


def test_close_waits_for_the_bytes_before_it() -> None:
    """capture.close between metadata and bytes is refused."""
    assert refused(run(opened(), make_meta()), make_close()).seq == 1


def test_end_is_not_before_start_nor_before_the_last_frame() -> None:
    """timestamp_end may equal the start and the last frame, and not come before them."""
    assert "timestamp_start" in refused(opened(), make_close(timestamp_end=at(-0.001))).detail
    state = run(opened(), make_meta(1, timestamp_frame=at(2)), jpeg())
    run(state, make_close(timestamp_end=at(2)))
    assert "last timestamp_frame" in refused(state, make_close(timestamp_end=at(1.999))).detail


def test_duration_by_event_time() -> None:
    """A capture may last max_duration_s by its own timestamps, and not a nanosecond more."""
    run(opened(), make_close(timestamp_end=at(15)))
    error = refused(opened(), make_close(timestamp_end=f"{at(15)[:-2]}1Z"))
    assert (type(error), error.limit) == (LimitDurationExceeded, 15)


# --- record_id ------------------------------------------------------------------------------

ID = "6f9619ff-8b86-4011-b42d-00c04fc964ff"


@pytest.mark.parametrize("again", [ID, ID.upper()], ids=["same", "upper case"])
def test_every_message_has_a_record_id_of_its_own(again: str) -> None:
    """In the open, in any frame and in the close; UUIDs are compared without their case."""
    assert "record_id" in refused(opened(record_id=ID.upper()), make_meta(record_id=ID)).detail
    first = opened(record_id=ID)
    second = run(opened(), make_meta(1, record_id=ID), jpeg())
    third = run(second, make_meta(2), jpeg())
    for state, message in (
        (first, make_meta(1, record_id=again)),
        (first, make_close(record_id=again)),
        (second, make_meta(2, record_id=again)),
        (third, make_meta(3, record_id=again)),
        (third, make_close(record_id=again)),
    ):
        error = refused(state, message)
        assert type(error) is ProtocolViolation
        assert "record_id was used before" in error.detail


def test_one_course_of_events_takes_no_record_id_from_another() -> None:
    """What was dispatched from a state on changes nothing for what is dispatched again."""
    start = run(opened(), make_meta(1), jpeg())
    one = run(start, make_meta(2, record_id=ID), jpeg(), make_meta(3), jpeg())
    other = run(start, make_meta(2), jpeg(), make_meta(3, record_id=ID), jpeg())
    for _ in range(2):
        assert "record_id" in refused(one, make_meta(4, record_id=ID)).detail
        assert "record_id" in refused(other, make_meta(4, record_id=ID)).detail
        run(start, make_meta(2, record_id=ID))


@pytest.mark.fuzz
@given(st.data())
def test_record_ids_are_those_of_a_set_kept_for_each_state(data: st.DataObject) -> None:
    """Whatever state one goes on from."""
    ids = [(RecordIds("a"), {"a"})]
    for _ in range(data.draw(st.integers(0, 12))):
        known, model = data.draw(st.sampled_from(ids))
        record_id = data.draw(st.sampled_from(["a", "B", "b", "c", "D", "e", "f"]))
        more = known.add(record_id, len(model))
        assert (more is None) is (record_id.lower() in model)
        if more is not None:
            ids.append((more, model | {record_id.lower()}))


# --- event times that do not agree ----------------------------------------------------------

HINT = "one without an offset is read as UTC"
NAIVE = "2026-05-04T12:20:30.5"  # two hours ahead of the worker
BEHIND = "2026-05-04T05:20:30.5"


@pytest.mark.parametrize(
    ("start", "frame", "kind", "has_hint"),
    [
        (at(0), NAIVE, LimitDurationExceeded, True),
        (at(0), BEHIND, ProtocolViolation, True),
        (NAIVE, at(0.1), ProtocolViolation, True),
        (BEHIND, at(0.1), LimitDurationExceeded, True),
        (at(0), f"{NAIVE}Z", LimitDurationExceeded, False),
    ],
    ids=["frame ahead", "frame behind", "start ahead", "start behind", "with an offset"],
)
def test_local_times_without_an_offset_are_told_at_the_first_frame(
    start: str, frame: str, kind: type[DomainError], has_hint: bool
) -> None:
    """No `capture.close` could follow such a frame, so it is not waited for."""
    error = refused(opened(timestamp_start=start), make_meta(timestamp_frame=frame))
    assert type(error) is kind
    assert error.seq == 1
    assert (HINT in error.detail) is has_hint


def test_local_times_that_agree_with_each_other_are_taken() -> None:
    """All of them are read as UTC, and within the clock skew."""
    state = run(opened(timestamp_start=NAIVE), make_meta(timestamp_frame=NAIVE), jpeg())
    run(state, make_close(timestamp_end=NAIVE))


def test_a_frame_is_at_most_max_duration_s_from_the_beginning() -> None:
    """Before it the first alone is; behind it any."""
    for seconds in (-15.0, 15.0):
        run(opened(), make_meta(timestamp_frame=at(seconds)))
    for seconds in (-15.000000001, 15.000000001):
        assert (
            "timestamp_start"
            in refused(opened(), make_meta(timestamp_frame=at(seconds))).detail
        )
    later = run(opened(), make_meta(1, timestamp_frame=at(1)), jpeg())
    error = refused(later, make_meta(2, timestamp_frame=at(15.1)))
    assert type(error) is LimitDurationExceeded


def test_a_close_without_an_offset_is_told_so() -> None:
    """It is the first message that can tell."""
    for end, words in ((NAIVE, "may last at most"), (BEHIND, "earlier than timestamp_start")):
        detail = refused(opened(), make_close(timestamp_end=end)).detail
        assert words in detail
        assert HINT in detail
    with pytest.raises(ProtocolViolation, match=HINT):
        opened(timestamp_start="2026-05-06T10:20:30")


# --- numbers that JSON has not --------------------------------------------------------------


def test_an_error_has_only_numbers_that_json_has() -> None:
    """Beyond 2^53 an integer is told as what any reader of JSON takes it for."""
    side = 2**53 - 1
    start = idle(max_width=side, max_height=side, max_pixels=side)
    with pytest.raises(LimitResolutionExceeded) as caught:
        opened(start, width=side, height=side)
    assert (caught.value.observed, caught.value.limit) == (float(side) ** 2, side)
    assert isinstance(caught.value.observed, float)
    with pytest.raises(SettingError, match="1 to 9007199254740991"):
        Limits(max_frames=2**53)


# --- time -----------------------------------------------------------------------------------


def test_every_timeout_fires_at_its_instant_and_not_before() -> None:
    """next_deadline names the first thing due, and a tick then does it."""
    times = Times(idle_s=5, meta_to_bytes_s=2, session_recheck_s=100)
    start = Idle(Limits(max_duration_s=15), times)
    state: State = opened(start)
    assert next_deadline(state) == START_NS + 5 * SECOND
    assert run(state, Tick(), now=4.999999999) == state
    assert "idle_s" in refused(state, Tick(), now=5).detail
    pending = run(state, make_meta(), now=4)
    assert next_deadline(pending) == START_NS + 6 * SECOND
    assert "meta_to_bytes_s" in refused(pending, Tick(), now=6).detail
    state = run(pending, jpeg(), now=5.5)
    assert next_deadline(state) == START_NS + 9 * SECOND
    for seq, now in ((2, 8), (3, 12)):
        state = run(state, make_meta(seq), jpeg(), now=now)
    assert next_deadline(state) == START_NS + 15 * SECOND
    error = refused(state, Tick(), now=15)
    assert (type(error), error.observed, error.limit) == (LimitDurationExceeded, 15, 15)


def test_the_longest_overdue_of_several_is_the_first_in_the_table() -> None:
    """Duration comes before the missing bytes, those before idleness."""
    unchecked = Idle(Limits(), Times(session_recheck_s=100))
    pending = run(opened(unchecked), make_meta())
    assert type(refused(pending, Tick(), now=60)) is LimitDurationExceeded
    assert "meta_to_bytes_s" in refused(pending, Tick(), now=14).detail


def test_the_session_is_rechecked_when_due_and_again() -> None:
    """A re-check is asked for every session_recheck_s."""
    start = Idle(Limits(), Times(idle_s=100, session_recheck_s=5))
    state, actions = dispatch(opened(start), Tick(), START_NS + 5 * SECOND)
    assert actions == (RequestSessionRecheck("ada", "s-1"),)
    assert next_deadline(state) == START_NS + 10 * SECOND
    assert dispatch(state, Tick(), START_NS + 6 * SECOND) == (state, ())


def test_a_recheck_that_comes_late_is_made_once() -> None:
    """The next is due session_recheck_s after it, and not at once for each that was missed."""
    start = Idle(Limits(max_duration_s=900), Times(idle_s=800, session_recheck_s=5))
    state, actions = dispatch(opened(start), Tick(), START_NS + 63 * SECOND)
    assert actions == (RequestSessionRecheck("ada", "s-1"),)
    state = run(state, SessionVerdict(Verdict.ACTIVE, False), now=63)
    assert next_deadline(state) == START_NS + 68 * SECOND


def test_bytes_that_were_coming_are_told() -> None:
    """How many came, and of how many."""
    unchecked = Idle(Limits(), Times(session_recheck_s=100))
    pending = run(opened(unchecked), make_meta(1, 290_000))
    error = refused(pending, Tick(arrived_bytes=170_000), now=3)
    assert "170000 of the 290000 bytes of the frame came within 2 s" in error.detail
    assert (error.seq, error.observed, error.limit) == (1, 170_000, 290_000)
    assert "none of the 290000 bytes" in refused(pending, Tick(), now=3).detail


# --- session --------------------------------------------------------------------------------


def limited(limit: str, *, checking: bool) -> tuple[State, int]:
    """A capture at a time limit, and its instant; a re-check is due then, or under way."""
    times = Times(idle_s=5, meta_to_bytes_s=2, session_recheck_s=5 if not checking else 4)
    state: State = opened(Idle(Limits(max_duration_s=5 if limit == "duration" else 15), times))
    if limit != "idle":
        state = run(state, make_meta(), now=3)
    if checking:
        state, actions = dispatch(state, Tick(), START_NS + 4 * SECOND)
        assert actions == (RequestSessionRecheck("ada", "s-1"),)
    return state, START_NS + 5 * SECOND


@pytest.mark.parametrize("checking", [False, True], ids=["due", "under way"])
@pytest.mark.parametrize("limit", ["idle", "bytes", "duration"])
def test_the_session_is_heard_before_a_time_limit_ends_a_capture(
    limit: str, checking: bool
) -> None:
    """If it has ended, that is told; if not, or if it says nothing, the limit is."""
    state, now = limited(limit, checking=checking)
    assert next_deadline(state) == now
    ending, actions = dispatch(state, Tick(), now)
    assert isinstance(ending, Ending)
    assert actions == (() if checking else (RequestSessionRecheck("ada", "s-1"),))
    assert next_deadline(ending) == ending.until == now + (1 if checking else 2) * SECOND
    kinds = {"idle": "idle_s", "bytes": "meta_to_bytes_s", "duration": "may last at most"}
    for event, words in (
        (SessionVerdict(Verdict.CLOSED, False), "the session has ended"),
        (SessionVerdict(Verdict.UNINVITED, False), "this invitation has ended"),
        (SessionVerdict(Verdict.INVALID, False), "the session is unknown"),
        (SessionVerdict(Verdict.ACTIVE, False), kinds[limit]),
        (SessionVerdict(Verdict.UNREACHABLE, False), kinds[limit]),
    ):
        after, (abort, _) = dispatch(ending, event, now)
        assert isinstance(abort, AbortCapture)
        assert words in abort.error.detail
        assert after == ending.idle
    ignored: list[Event] = [Tick(), SessionNotice(), make_meta(), jpeg(), make_close()]
    for each in ignored:
        assert dispatch(ending, each, ending.until - 1) == (ending, ())
    _, (abort, _) = dispatch(ending, Tick(), ending.until)
    assert isinstance(abort, AbortCapture)
    assert kinds[limit] in abort.error.detail


def test_a_limit_does_not_wait_for_a_check_that_is_not_due() -> None:
    """Nor for one whose answer is late already. Within session_check_s it is due."""
    state = opened(Idle(Limits(), Times(idle_s=2.999)))
    assert "idle_s" in refused(state, Tick(), now=2.999).detail
    ending, actions = dispatch(
        opened(Idle(Limits(), Times(idle_s=3))), Tick(), START_NS + 3 * SECOND
    )
    assert isinstance(ending, Ending)
    assert actions == (RequestSessionRecheck("ada", "s-1"),)
    stuck, _ = dispatch(opened(Idle(Limits(), Times(idle_s=7))), Tick(), START_NS + 5 * SECOND)
    assert "idle_s" in refused(stuck, Tick(), now=7).detail


def test_one_check_of_the_session_runs_at_a_time() -> None:
    """The next waits for its answer, or until that is late, and a tick asks for no other."""
    start = Idle(Limits(), Times(idle_s=100, session_recheck_s=1, session_check_s=2.5))
    state, actions = dispatch(opened(start), Tick(), START_NS + SECOND)
    assert len(actions) == 1
    assert dispatch(state, Tick(), START_NS + 2 * SECOND) == (state, ())
    assert next_deadline(state) == START_NS + 3 * SECOND + SECOND // 2
    answer = SessionVerdict(Verdict.ACTIVE, False)
    _, actions = dispatch(state, answer, START_NS + 3 * SECOND)
    assert actions == (RequestSessionRecheck("ada", "s-1"),)
    _, actions = dispatch(state, answer, START_NS + 3 * SECOND // 2)
    assert actions == ()
    _, actions = dispatch(state, Tick(), START_NS + 4 * SECOND)
    assert actions == (RequestSessionRecheck("ada", "s-1"),)


def test_what_a_rig_was_held_is_not_its_time() -> None:
    """Neither its bytes nor its next metadata are later for it; the capture is."""
    start = Idle(Limits(), Times(idle_s=5, meta_to_bytes_s=2, session_recheck_s=100))
    for begun, key, times_s in ((opened(start), "idle_s", 5), (None, "meta_to_bytes_s", 2)):
        state = run(begun or opened(start), *([] if begun else [make_meta()]), now=0)
        state = run(state, Held(7 * SECOND), now=9)
        assert next_deadline(state) == START_NS + (7 + times_s) * SECOND
        assert key in refused(state, Tick(), now=7 + times_s).detail
    # It cannot have been held for longer than it was there.
    state = run(opened(start), Held(60 * SECOND), now=3)
    assert next_deadline(state) == START_NS + 8 * SECOND
    state = run(run(state, Held(9 * SECOND), now=12), Held(2 * SECOND), now=14)
    assert "max_duration_s" in refused(state, Tick(), now=15).detail


def test_a_notice_has_the_session_checked_now() -> None:
    """Once, and again when a check was under way, whose answer may be one of before."""
    state, actions = dispatch(opened(), SessionNotice(), START_NS + SECOND)
    assert actions == (RequestSessionRecheck("ada", "s-1"),)
    for _ in range(3):
        state, actions = dispatch(state, SessionNotice(), START_NS + SECOND)
        assert actions == ()
    answer = SessionVerdict(Verdict.ACTIVE, False)
    state, actions = dispatch(state, answer, START_NS + 2 * SECOND)
    assert actions == (RequestSessionRecheck("ada", "s-1"),)
    _, actions = dispatch(state, answer, START_NS + 2 * SECOND)
    assert actions == ()


@pytest.mark.parametrize("at_open", [True, False])
def test_a_verdict_against_the_user_ends_the_capture(at_open: bool) -> None:
    """Closed, uninvited and invalid count at open and later alike."""
    state = opened()
    closed = refused(state, SessionVerdict(Verdict.CLOSED, at_open))
    uninvited = refused(state, SessionVerdict(Verdict.UNINVITED, at_open))
    invalid = refused(state, SessionVerdict(Verdict.INVALID, at_open))
    assert (type(closed), type(invalid)) == (SessionClosed, SessionInvalid)
    # The session may go on: it is told which of the two has ended.
    assert type(uninvited) is SessionClosed
    assert (closed.detail, uninvited.detail) == (SESSION_ENDED, INVITATION_ENDED)


def test_waiting_for_the_first_verdict_is_not_idleness() -> None:
    """The idle time and the re-check count from the verdict on."""
    state = run(opened(), SessionVerdict(Verdict.ACTIVE, True), now=2)
    assert next_deadline(state) == START_NS + 7 * SECOND


def test_an_authority_out_of_reach_at_open_refuses() -> None:
    """Nobody starts unchecked."""
    assert type(refused(opened(), SessionVerdict(Verdict.UNREACHABLE, True))) is SessionInvalid


def test_an_authority_out_of_reach_later_is_tolerated_for_the_grace() -> None:
    """Grace runs from the first failed re-check; an answer ends it."""
    start = Idle(Limits(max_duration_s=100), Times(idle_s=90, session_recheck_s=90))
    away, back = (SessionVerdict(v, False) for v in (Verdict.UNREACHABLE, Verdict.ACTIVE))
    state = run(run(opened(start), away, now=5), away, now=9)
    assert next_deadline(state) == START_NS + 15 * SECOND
    assert type(refused(state, Tick(), now=15)) is SessionClosed
    answered = run(state, back, now=14)
    assert run(answered, Tick(), now=16) == answered


def test_session_grace_comes_before_the_duration_when_both_are_due() -> None:
    """With the default times both end at 15 s, and the session is what is reported."""
    away = SessionVerdict(Verdict.UNREACHABLE, False)
    state = run(opened(), away, now=5)
    assert isinstance(state, Active)
    assert state.terms.grace_until == state.terms.duration_until == START_NS + 15 * SECOND
    assert type(refused(state, Tick(), now=15)) is SessionClosed


# --- the machine as a whole -----------------------------------------------------------------

EVENTS = st.one_of(
    st.builds(make_open),
    st.builds(make_meta, seq=st.integers(0, 3)),
    st.just(jpeg()),
    st.just(b"no picture"),
    st.builds(make_close, timestamp_end=st.sampled_from([at(0.5), at(20)])),
    st.just(Tick()),
    st.builds(Held, st.integers(0, 9 * SECOND)),
    st.just(SessionNotice()),
    st.builds(SessionVerdict, st.sampled_from(Verdict), st.booleans()),
)


@pytest.mark.fuzz
@given(st.lists(st.tuples(EVENTS, st.integers(0, 3 * SECOND)), max_size=12))
def test_any_sequence_of_events_keeps_the_invariants(steps: list[tuple[Event, int]]) -> None:
    """Counters only grow and agree with what is forwarded; an abort is the last of a capture;
    nothing but a domain error is raised, and only in idle; dispatch changes no state."""
    state: State = IDLE
    now, forwarded = START_NS, 0
    for event, later in steps:
        now += later
        before = attrs.asdict(state)
        try:
            after, actions = dispatch(state, event, now)
        except DomainError:
            assert isinstance(state, Idle)
            continue
        assert attrs.asdict(state) == before
        kinds = [type(action) for action in actions]
        if AbortCapture in kinds:
            assert kinds == [AbortCapture, CleanupCapture]
            assert isinstance(after, Idle)
        if isinstance(state, Idle):
            forwarded = 0
        forwarded += kinds.count(ForwardFrame)
        if isinstance(after, Active):
            assert after.frames == forwarded
            due = next_deadline(after)
            assert due is not None
        if isinstance(state, Ending):
            assert ForwardFrame not in kinds
        state = after

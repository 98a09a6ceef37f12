"""One connection, end to end, on the virtual clock."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked

from cfw.errors import ServerShutdown
from cfw.repository import GRACE_S
from cfw.routes.admission import REFUSED_AT_A_TIME
from cfw.sessions import AuthorityUnreachable, SessionStatus
from cfw.testing.fakes import (
    FailingSink,
    Place,
    RecordingSink,
    ScriptedAuthority,
    StallingSink,
)
from cfw.wire.handshake import REFUSE_S
from schemas import ErrorCode, FeedAbort, FeedClose
from tests.factories import at, close_fields, jpeg, meta_fields, open_fields
from tests.planted import Change, planted
from tests.sweep.mutants import READER
from tests.unit.routes.kit import Ending, bench, encode
from tests.unit.wire.peer import MASK, REQUEST, close, header, pair, ping


def whole_capture(count: int = 3, size: int = 200) -> list[dict[str, Any] | bytes]:
    """Every message of a capture."""
    messages: list[dict[str, Any] | bytes] = [open_fields()]
    for seq in range(1, count + 1):
        messages += [meta_fields(seq, size), jpeg(size, fill=seq % 200)]
    return [*messages, close_fields()]


def check_abort(ending: Ending, code: ErrorCode, close_code: int, words: str) -> None:
    """One abort, one close frame, and both say the same: the code for this reason."""
    (abort,) = ending.aborts
    assert (abort.error_code, ending.code) == (code, close_code)
    assert words in (abort.detail or ""), abort
    assert f"{code.value}: {abort.detail}".startswith(ending.reason)
    assert ending.reason.startswith(code.value)
    assert abort.source == "camera_feed_worker"
    assert abort.capture_id == "cap-1"


# --- the happy path -------------------------------------------------------------------------


async def test_one_message_after_another(autojump_clock: MockClock) -> None:
    """A rig that waits between messages gets a receipt with the true counts."""
    async with bench() as b:
        rig = await b.connect()
        for message in whole_capture(3):
            await rig.say(message)
            await wait_all_tasks_blocked()
        ending = await rig.ending()
    assert (ending.aborts, ending.receipt) == ([], {"frames": 3, "bytes": 600})
    seen = b.sink.only
    assert [frame.meta.seq for frame in seen.frames] == [1, 2, 3]
    assert [frame.data for frame in seen.frames] == [jpeg(fill=n) for n in (1, 2, 3)]
    (terminal,) = seen.terminals
    assert isinstance(terminal, FeedClose)
    assert (terminal.frames_accepted, terminal.frames_forwarded) == (3, 3)
    assert (terminal.bytes_accepted, terminal.bytes_forwarded) == (600, 600)


@pytest.mark.parametrize("then_close", [False, True])
@pytest.mark.parametrize("count", [0, 1, 225])
async def test_the_whole_capture_in_one_write(
    autojump_clock: MockClock, count: int, then_close: bool
) -> None:
    """Handshake, capture and, behind it, the rig's close frame in one write is a clean end."""
    async with bench() as b:
        ending = await b.in_one_write(*whole_capture(count), then_close=then_close)
    assert ending.aborts == []
    assert ending.receipt == {"frames": count, "bytes": 200 * count}
    assert len(b.sink.only.frames) == count
    assert isinstance(b.sink.only.terminals[0], FeedClose)


async def test_event_times_are_forwarded_as_written(autojump_clock: MockClock) -> None:
    """Texts of event times reach the sink unchanged, ingest time stands beside them."""
    async with bench() as b:
        text = at(0)[:-1].replace(".000000000", ".000000001") + "+00:00"
        rig = await b.capture(timestamp_start=text, annotation={"intent": "wave"})
        await rig.frame(1, timestamp_frame=text)
        await rig.say(close_fields(timestamp_end=text))
        await rig.ending()
    seen = b.sink.only
    assert seen.opened.timestamp_start.text == text
    assert seen.opened.annotation is not None
    assert seen.opened.annotation.intent == "wave"
    assert seen.frames[0].feed_message().timestamp_frame.text == text
    assert seen.frames[0].feed_message().timestamp_ingest.text == at(0)
    terminal = seen.terminals[0]
    assert isinstance(terminal, FeedClose)
    assert terminal.timestamp_end.text == text


async def test_an_operator_sees_the_running_capture(autojump_clock: MockClock) -> None:
    """The registry shows counts, buffer and state while the capture runs."""
    async with bench(RecordingSink(delay_s=4)) as b:
        rig = await b.capture()
        for seq in (1, 2):
            await rig.frame(seq)
        await trio.sleep(1)
        (status,) = b.registry.statuses()
        assert (status.capture_id, status.user_id, status.session_id) == ("cap-1", "ada", "s-1")
        assert (status.frames, status.bytes, status.state) == (2, 400, "active")
        assert (status.buffer_frames, status.buffer_bytes, status.fps) == (2, 400, 2.0)
        await rig.say(close_fields())
        await trio.sleep(1)
        assert b.registry.statuses()[0].state == "closing"
        await trio.sleep(3)
        assert b.registry.statuses()[0].buffer_frames == 1
        assert (await rig.ending()).code == 1011  # the second frame comes after close_flush_s


async def test_an_operator_sees_how_captures_ended(autojump_clock: MockClock) -> None:
    """The registry remembers clean ends, aborts and refusals, and counts them."""
    async with bench() as b:
        await b.in_one_write(*whole_capture(2), then_close=True)
        await b.in_one_write(open_fields(fps_target=99), then_close=False)
        await b.in_one_write(open_fields(), b"no picture", then_close=False)
        await b.in_one_write(meta_fields(), then_close=False)  # no capture to remember
    codes = [ended.error_code for ended in b.registry.ended]
    assert codes == [None, ErrorCode.LIMIT_FPS_EXCEEDED, ErrorCode.PROTOCOL_VIOLATION]
    assert [ended.frames for ended in b.registry.ended] == [2, 0, 0]
    assert b.registry.ended[1].detail is not None
    assert dict(b.registry.ends) == dict.fromkeys(codes, 1)


async def test_what_follows_capture_close_is_not_looked_at(autojump_clock: MockClock) -> None:
    """The capture is over; more messages change nothing."""
    async with bench() as b:
        messages = [*whole_capture(1), open_fields(), b"noise"]
        ending = await b.in_one_write(*messages, then_close=True)
    assert ending.receipt == {"frames": 1, "bytes": 200}


# --- protocol -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "part"),
    [
        ("{", "is not JSON"),
        ("[1]", "must be a JSON object"),
        ('{"event": NaN}', "is not JSON"),
        ('{"event": ' + "[" * 1000 + "]" * 1000 + "}", "must be one of"),
        ('{"event": ' + '{"a":' * 1000 + "1" + "}" * 1001, "must be one of"),
        (open_fields(encoding=None), "encoding: must be one of jpeg; not null"),
        ('{"event": "capture.start"}', "must be one of"),
        ('{"event": ' + "9" * 5000 + "}", "is not JSON"),
        ("[" * 9000, "is not JSON"),
        (open_fields(fps_target="15"), "fps_target: must be an integer"),
        (open_fields(fps_target=15.0), "fps_target: must be an integer"),
        (open_fields(fps_target=True), "fps_target: must be an integer"),
        (open_fields(width=10**30), "width: must be an integer"),
        (open_fields(timestamp_start=1777890030), "timestamp_start: must be an ISO 8601"),
        (open_fields(schema_version="2.0.0"), "schema_version"),
        (meta_fields(), "before capture.open"),
        (jpeg(), "before capture.open"),
        (close_fields(), "before capture.open"),
    ],
)
async def test_a_bad_first_message_gets_only_a_close_frame(
    autojump_clock: MockClock, message: Any, part: str
) -> None:
    """Without a capture to name there is no abort; the close frame says what was wrong."""
    async with bench() as b:
        rig = await b.connect()
        await rig.say(message)
        ending = await rig.ending()
    assert (ending.aborts, ending.code) == ([], 1008)
    assert ending.reason.startswith("protocol_violation: ")
    assert part in ending.reason
    assert b.sink.captures == []


async def test_a_bad_message_aborts_the_capture(autojump_clock: MockClock) -> None:
    """In a capture the abort names it, and the sink gets the same as its terminal."""
    async with bench() as b:
        rig = await b.capture()
        await rig.frame(1)
        await rig.frame(3)
        ending = await rig.ending()
    check_abort(ending, ErrorCode.PROTOCOL_VIOLATION, 1008, "seq must be 2")
    (abort,) = ending.aborts
    assert (abort.seq, abort.observed) == (2, 3)
    assert abort.record_id == b.sink.only.opened.record_id
    terminal = b.sink.only.terminals[0]
    assert isinstance(terminal, FeedAbort)
    assert terminal.detail == abort.detail
    assert (terminal.frames_accepted, terminal.frames_forwarded) == (1, 1)


async def test_every_record_id_is_new(autojump_clock: MockClock) -> None:
    """A record_id used before on the connection is refused, in whatever case."""
    used = "6F9619FF-8B86-4011-B42D-00C04FC964FF"
    async with bench() as b:
        rig = await b.capture(record_id=used)
        await rig.frame(1, record_id=used.lower())
        ending = await rig.ending()
    check_abort(ending, ErrorCode.PROTOCOL_VIOLATION, 1008, "record_id was used before")


async def test_one_that_opens_nothing_may_leave_in_peace(autojump_clock: MockClock) -> None:
    """A client that connects and closes is answered with 1000."""
    async with bench() as b:
        rig = await b.connect()
        await rig.peer.send(close(1000))
        ending = await rig.ending()
    assert (ending.aborts, ending.code) == ([], 1000)


@pytest.mark.parametrize("opens", [False, True], ids=["nothing opened", "a capture"])
async def test_the_log_says_one_close_code_the_one_that_was_sent(
    autojump_clock: MockClock, opens: bool
) -> None:
    """Why it ended and that it was closed are two lines; they agree with the close frame."""
    logged, sent = [], []
    for leaves_with in (1000, None, 3001, 0):
        with capture_logs() as lines:
            async with bench() as b:
                rig = await (b.capture() if opens else b.connect())
                if leaves_with == 0:  # it shuts its half down without a word
                    await rig.peer.stream.send_eof()
                else:
                    await rig.peer.send(close(leaves_with))
                sent.append((await rig.ending()).code)
                await rig.peer.stream.aclose()
        logged.append([line["close_code"] for line in lines if "close_code" in line])
    usual = 1008 if opens else 1000
    assert sent == [usual, usual, 3001, usual]
    assert logged == [[code, code] for code in sent]


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (None, {}),
        ("bench 3", {"source": "bench 3"}),
        (127 * "x", {"source": 127 * "x"}),
        (128 * "x", {"source": 128 * "x"}),
        (129 * "x", {"source": 128 * "x"}),
    ],
    ids=["none", "short", "127", "128", "129"],
)
async def test_the_log_says_what_opened(
    autojump_clock: MockClock, source: str | None, told: dict[str, str]
) -> None:
    """Who, in which session, what size and rate, and which source, as much as a name has."""
    with capture_logs() as lines:
        async with bench() as b:
            await b.capture(source=source, width=640, height=480, fps_target=12)
            await wait_all_tasks_blocked()
    (line,) = [line for line in lines if line["event"] == "capture.opened"]
    said = {"user_id": "ada", "session_id": "s-1", "width": 640, "height": 480, "fps": 12}
    assert {k: v for k, v in line.items() if k in {*said, "source"}} == said | told


async def test_a_capture_id_has_one_owner(autojump_clock: MockClock) -> None:
    """The second connection with an active capture_id is refused, the first goes on."""
    async with bench() as b:
        first = await b.capture()
        await wait_all_tasks_blocked()
        second = await b.capture()
        ending = await second.ending()
        words = "capture_id is active on another connection"
        check_abort(ending, ErrorCode.PROTOCOL_VIOLATION, 1008, words)
        await first.say(close_fields())
        assert (await first.ending()).receipt == {"frames": 0, "bytes": 0}
        again = await b.capture()
        await again.say(close_fields())
        assert (await again.ending()).code == 1000


async def test_a_rig_that_vanishes_is_client_disconnected(autojump_clock: MockClock) -> None:
    """EOF, or a close frame before capture.close, is the sink's terminal."""
    told = {}
    async with bench() as b:
        gone = await b.capture()
        await gone.frame(1)
        await gone.peer.stream.aclose()
        await wait_all_tasks_blocked()
        for sent in (3001, 1000, None, 0):
            leaving = await b.capture()
            if sent == 0:  # it shuts its half down without a word
                await leaving.peer.stream.send_eof()
            else:
                await leaving.peer.send(close(sent))
            ending = await leaving.ending()
            assert ending.aborts == []
            told[sent] = ending.code
    assert told == {3001: 3001, 1000: 1008, None: 1008, 0: 1008}
    for recorded in b.sink.captures:
        assert isinstance(recorded.terminals[0], FeedAbort)
        assert recorded.terminals[0].error_code is ErrorCode.CLIENT_DISCONNECTED


# --- limits ---------------------------------------------------------------------------------


async def test_a_refused_open_is_named_in_an_abort(autojump_clock: MockClock) -> None:
    """A well-formed capture.open over a limit gets an abort, and the sink sees nothing."""
    async with bench() as b:
        rig = await b.capture(width=641)
        ending = await rig.ending()
    check_abort(ending, ErrorCode.LIMIT_RESOLUTION_EXCEEDED, 1008, "width may be at most")
    assert (ending.aborts[0].observed, ending.aborts[0].limit) == (641, 640)
    assert b.sink.captures == []
    assert b.authority.asked_at == []


async def test_an_oversize_frame_is_refused_at_its_header(autojump_clock: MockClock) -> None:
    """The abort comes before a byte of the payload is sent, with close code 1009."""
    async with bench() as b:
        rig = await b.capture()
        await rig.peer.send(header(0x82, 300_001) + MASK)
        ending = await rig.ending()
    check_abort(ending, ErrorCode.LIMIT_FRAME_BYTES_EXCEEDED, 1009, "over the limit")
    assert (ending.aborts[0].observed, ending.aborts[0].limit) == (300_001, 300_000)


async def test_an_oversize_control_message(autojump_clock: MockClock) -> None:
    """Over max_control_bytes is a protocol violation with 1009; at the limit is not."""
    async with bench() as b:
        rig = await b.capture()
        await rig.peer.send(header(0x81, 16_385) + MASK)
        check_abort(await rig.ending(), ErrorCode.PROTOCOL_VIOLATION, 1009, "over the limit")
        early = await b.connect()
        await early.peer.send(header(0x81, 16_385) + MASK)
        ending = await early.ending()
        assert (ending.aborts, ending.code) == ([], 1009)
        fits = open_fields()
        fits["source"] = "x" * (16_384 - len(str(fits).replace("'", '"')) - 14)
        rig = await b.connect()
        await rig.say(fits)
        await rig.say(close_fields())
        assert (await rig.ending()).code == 1000


async def test_a_slow_sink_overflows_the_buffer(autojump_clock: MockClock) -> None:
    """One frame more than the buffer holds aborts, and what was not forwarded is told."""
    async with bench(RecordingSink(delay_s=3), limits={"max_forward_buffer_frames": 2}) as b:
        rig = await b.capture()
        for seq in (1, 2, 3):
            await rig.frame(seq)
        ending = await rig.ending()
        assert trio.current_time() == b_start(b) + GRACE_S
    check_abort(ending, ErrorCode.LIMIT_FORWARD_BUFFER_EXCEEDED, 1008, "sink is too slow")
    terminal = b.sink.only.terminals[0]
    assert (terminal.frames_accepted, terminal.frames_forwarded) == (2, 0)


@pytest.mark.parametrize(("size", "fits"), [(199, True), (200, True), (201, False)])
async def test_a_frame_without_room_is_refused_at_its_metadata(
    autojump_clock: MockClock, size: int, fits: bool
) -> None:
    """By its own bytes, before they come: they would be held beside a full buffer."""
    limits = {"max_forward_buffer_bytes": 500, "max_frame_bytes": 300}
    async with bench(RecordingSink(delay_s=60), limits=limits) as b:
        rig = await b.capture()
        await rig.frame(1, jpeg(300))
        await rig.say(meta_fields(2, size))
        await wait_all_tasks_blocked()
        await trio.sleep(2 * GRACE_S)
        assert len(b.registry) == (1 if fits else 0)
        ending = await rig.ending()
    if fits:
        check_abort(ending, ErrorCode.PROTOCOL_VIOLATION, 1008, "meta_to_bytes_s")
    else:
        words = "300 bytes wait for the sink"
        check_abort(ending, ErrorCode.LIMIT_FORWARD_BUFFER_EXCEEDED, 1008, words)
        assert ending.aborts[0].observed == 501


def b_start(b: Any) -> float:
    """The instant at which the first session was asked for."""
    start: float = b.authority.asked_at[0]
    return start


# --- time -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "due", "words"),
    [([], 5, "idle_s"), ([meta_fields()], 2, "meta_to_bytes_s")],
    ids=["idle_s", "meta_to_bytes_s"],
)
async def test_timeouts_fire_at_their_exact_instant(
    autojump_clock: MockClock, steps: list[Any], due: float, words: str
) -> None:
    """The abort comes at the deadline to the nanosecond of the virtual clock."""
    async with bench() as b:
        rig = await b.capture()
        await rig.say(*steps)
        start = trio.current_time()
        ending = await rig.ending()
        assert trio.current_time() == start + due
    check_abort(ending, ErrorCode.PROTOCOL_VIOLATION, 1008, words)


async def test_a_capture_that_lasts_too_long_is_aborted_while_it_runs(
    autojump_clock: MockClock,
) -> None:
    """max_duration_s counts from the capture.open, whatever the rig sends meanwhile."""
    async with bench() as b:
        rig = await b.capture()
        start = trio.current_time()
        for seq in range(1, 5):
            await rig.frame(seq)
            await trio.sleep(4)
        ending = await rig.ending()
    check_abort(ending, ErrorCode.LIMIT_DURATION_EXCEEDED, 1008, "capture.open arrived")
    terminal = b.sink.only.terminals[0]
    assert terminal.timestamp_ingest.text == at(start - b_start(b) + 15 + b_start(b))


async def test_a_connection_must_open_a_capture_in_time(autojump_clock: MockClock) -> None:
    """Without capture.open the connection ends after open_s; pings do not prolong it."""
    async with bench() as b:
        rig = await b.connect()
        start = trio.current_time()
        for _ in range(9):
            await trio.sleep(1)
            await rig.peer.send(ping())
        ending = await rig.ending()
        assert trio.current_time() == start + 10
    assert (ending.aborts, ending.code) == ([], 1008)
    assert "open_s" in ending.reason


# --- session --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        (SessionStatus.INVALID, ErrorCode.SESSION_INVALID, "unknown"),
        (SessionStatus.CLOSED, ErrorCode.SESSION_CLOSED, "has ended"),
        (AuthorityUnreachable("down"), ErrorCode.SESSION_INVALID, "could not be checked"),
        (RuntimeError("a bug of theirs"), ErrorCode.SESSION_INVALID, "could not be checked"),
    ],
)
async def test_the_session_at_open(
    autojump_clock: MockClock, answer: Any, code: ErrorCode, words: str
) -> None:
    """A session that is not active, or cannot be checked, does not start a capture."""
    async with bench(authority=ScriptedAuthority([answer])) as b:
        rig = await b.capture()
        check_abort(await rig.ending(), code, 1008, words)
    assert b.sink.captures == []


async def test_frames_wait_for_the_session_and_the_wait_is_bounded(
    autojump_clock: MockClock,
) -> None:
    """Frames sent early are held until the authority answers, at most session_check_s."""
    async with bench(authority=ScriptedAuthority(delay_s=1.5)) as b:
        rig = await b.capture()
        await rig.frame(1)
        await trio.sleep(1.4)
        assert b.sink.captures == []
        await trio.sleep(0.2)
        assert len(b.sink.only.frames) == 1
        await rig.say(close_fields())
        assert (await rig.ending()).receipt["frames"] == 1
    async with bench(authority=ScriptedAuthority(delay_s=2.5)) as b:
        rig = await b.capture()
        start = trio.current_time()
        ending = await rig.ending()
        check_abort(ending, ErrorCode.SESSION_INVALID, 1008, "could not be checked")
        assert trio.current_time() == start + 2


async def test_a_session_that_closes_in_mid_capture(autojump_clock: MockClock) -> None:
    """A re-check ends the capture at once, although the rig is silent."""
    answers: list[SessionStatus | Exception] = [SessionStatus.ACTIVE, SessionStatus.CLOSED]
    async with bench(authority=ScriptedAuthority(answers), times={"idle_s": 14}) as b:
        rig = await b.capture()
        start = trio.current_time()
        check_abort(await rig.ending(), ErrorCode.SESSION_CLOSED, 1008, "has ended")
        assert trio.current_time() == start + 5
    assert b.sink.only.terminals[0].error_code is ErrorCode.SESSION_CLOSED  # type: ignore[union-attr]


@pytest.mark.parametrize("delay_s", [0.0, 1.5], ids=["at once", "after 1.5 s"])
@pytest.mark.parametrize("limit", ["idle_s", "meta_to_bytes_s", "max_duration_s"])
@pytest.mark.parametrize("answer", [SessionStatus.CLOSED, SessionStatus.ACTIVE])
async def test_a_session_that_ended_is_told_and_not_the_silence_of_its_rig(
    autojump_clock: MockClock, limit: str, answer: SessionStatus, delay_s: float
) -> None:
    """A time limit waits for the re-check that is due with it; if there is none, it counts."""
    answers: list[SessionStatus | Exception] = [SessionStatus.ACTIVE, answer]
    authority = ScriptedAuthority(answers)
    async with bench(
        authority=authority, limits={"max_duration_s": 5 if limit == "max_duration_s" else 15}
    ) as b:
        rig = await b.capture()
        start = trio.current_time()
        await wait_all_tasks_blocked()
        authority.delay_s = delay_s
        await trio.sleep(3)
        if limit != "idle_s":
            await rig.say(meta_fields())
        if limit == "max_duration_s":
            await rig.say(jpeg())
        ending = await rig.ending()
        assert trio.current_time() == start + 5 + delay_s
    if answer is SessionStatus.CLOSED:
        check_abort(ending, ErrorCode.SESSION_CLOSED, 1008, "the session has ended")
    elif limit == "max_duration_s":
        check_abort(ending, ErrorCode.LIMIT_DURATION_EXCEEDED, 1008, "since its capture.open")
    else:
        check_abort(ending, ErrorCode.PROTOCOL_VIOLATION, 1008, limit)


@pytest.mark.parametrize("leaves", [False, True], ids=["sends", "leaves"])
async def test_a_limit_waits_for_the_session_no_longer_than_session_check_s(
    autojump_clock: MockClock, leaves: bool
) -> None:
    """An authority that hangs keeps no capture beyond its limit, whatever its rig does then."""
    authority = ScriptedAuthority()
    async with bench(authority=authority) as b:
        rig = await b.capture()
        start = trio.current_time()
        await wait_all_tasks_blocked()
        authority.delay_s = 60
        await trio.sleep(5.5)
        await rig.frame(1)
        if leaves:
            await rig.peer.send(close(1000))
        ending = await rig.ending()
        assert trio.current_time() == start + 5 + 2
    check_abort(ending, ErrorCode.PROTOCOL_VIOLATION, 1008, "idle_s")
    assert b.sink.only.frames == []


async def test_a_recheck_never_delays_frames(autojump_clock: MockClock) -> None:
    """Frames are forwarded while a slow check is under way."""
    async with bench(authority=ScriptedAuthority(delay_s=1.9), times={"idle_s": 14}) as b:
        rig = await b.capture()
        await trio.sleep(2 + 5 + 0.1)  # the re-check began 0.1 s ago
        assert len(b.authority.asked_at) == 2
        await rig.frame(1)
        await wait_all_tasks_blocked()
        assert len(b.sink.only.frames) == 1
        await rig.say(close_fields())
        start = trio.current_time()
        assert (await rig.ending()).code == 1000
        assert trio.current_time() == start


async def test_an_authority_out_of_reach_is_tolerated_for_the_grace(
    autojump_clock: MockClock,
) -> None:
    """The capture goes on for session_grace_s after the first failed re-check."""
    answers: list[SessionStatus | Exception] = [SessionStatus.ACTIVE, AuthorityUnreachable("x")]
    limits, times = {"max_duration_s": 100}, {"idle_s": 99}
    async with bench(authority=ScriptedAuthority(answers), limits=limits, times=times) as b:
        rig = await b.capture()
        start = trio.current_time()
        ending = await rig.ending()
        check_abort(ending, ErrorCode.SESSION_CLOSED, 1008, "session_grace_s")
        assert trio.current_time() == start + 5 + 10


async def test_a_verdict_that_brings_a_deadline_forward_is_in_time(
    autojump_clock: MockClock,
) -> None:
    """The reader waits for the next re-check when a grace begins that is over before it."""
    answers: list[SessionStatus | Exception] = [SessionStatus.ACTIVE, AuthorityUnreachable("x")]
    limits, times = {"max_duration_s": 100}, {"idle_s": 99, "session_grace_s": 1}
    async with bench(authority=ScriptedAuthority(answers), limits=limits, times=times) as b:
        rig = await b.capture()
        start = trio.current_time()
        ending = await rig.ending()
        check_abort(ending, ErrorCode.SESSION_CLOSED, 1008, "session_grace_s")
        assert trio.current_time() == start + 5 + 1


async def test_a_verdict_counts_while_frames_wait_for_room(autojump_clock: MockClock) -> None:
    """In the middle of what one read brought; nothing of the rest is accepted any more."""
    authority = ScriptedAuthority([SessionStatus.ACTIVE, SessionStatus.CLOSED], delay_s=1)
    sink = StallingSink(at=1)
    limits, times = {"max_forward_buffer_frames": 2}, {"idle_s": 99}
    async with bench(sink, authority, limits=limits, times=times) as b:
        rig = await b.capture()
        await trio.sleep(1 + 5 + 1 - GRACE_S / 2)  # the answer comes while frame 3 waits
        frames = [part for seq in (1, 2, 3, 4) for part in (meta_fields(seq), jpeg())]
        await rig.peer.send(b"".join(map(encode, frames)))
        ending = await rig.ending()
        check_abort(ending, ErrorCode.SESSION_CLOSED, 1008, "the session has ended")
    assert sink.only.terminal.frames_accepted == 2


# --- forwarding -----------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["open", 2, "finish", "leave"])
async def test_a_sink_that_raises_is_forward_failed(
    autojump_clock: MockClock, place: Place
) -> None:
    """Wherever the sink raises, the rig gets forward_failed and none of the sink's words."""
    sink = FailingSink(at=place)
    async with bench(sink) as b:
        ending = await b.in_one_write(*whole_capture(3), then_close=False)
    check_abort(ending, ErrorCode.FORWARD_FAILED, 1011, "the sink ")
    assert "disk" not in ending.reason
    assert "disk" not in str(ending.aborts)


@pytest.mark.parametrize(
    ("sink", "took", "words"),
    [
        (RecordingSink(delay_s=6), 5, "close_flush_s"),
        (RecordingSink(finish_s=6), 5, "at an end of the capture"),
    ],
    ids=["frames", "terminal"],
)
async def test_a_sink_that_does_not_flush_in_time(
    autojump_clock: MockClock, sink: RecordingSink, took: float, words: str
) -> None:
    """At close the sink has close_flush_s for what is left, and as long for the terminal."""
    async with bench(sink) as b:
        rig = await b.capture()
        await rig.frame(1)
        await rig.say(close_fields())
        start = trio.current_time()
        ending = await rig.ending()
        assert trio.current_time() == start + took
    check_abort(ending, ErrorCode.FORWARD_FAILED, 1011, words)
    assert len(b.sink.only.terminals) == 1


async def test_the_receipt_comes_after_the_last_frame_and_the_terminal(
    autojump_clock: MockClock,
) -> None:
    """1000 is only sent when the sink has taken everything."""
    async with bench(RecordingSink(delay_s=1, finish_s=1)) as b:
        rig = await b.capture()
        await rig.frame(1)
        await rig.frame(2)
        await rig.say(close_fields())
        start = trio.current_time()
        assert (await rig.ending()).receipt == {"frames": 2, "bytes": 400}
        assert trio.current_time() == start + 3


# --- shutdown and cancellation --------------------------------------------------------------


async def test_drain_lets_captures_finish_and_ends_the_rest(autojump_clock: MockClock) -> None:
    """At shutdown a running capture ends cleanly; a connection without one gets 1001."""
    async with bench() as b:
        busy, waiting = await b.capture(), await b.connect()
        await wait_all_tasks_blocked()
        b.router.drain()
        ending = await waiting.ending()
        assert (ending.aborts, ending.code) == ([], 1001)
        await busy.frame(1)
        await busy.say(close_fields())
        assert (await busy.ending()).receipt["frames"] == 1


async def test_abort_all_names_server_shutdown(autojump_clock: MockClock) -> None:
    """When the drain deadline is over, captures are aborted with 1001."""
    async with bench() as b:
        rig = await b.capture()
        await rig.frame(1)
        await wait_all_tasks_blocked()
        b.router.abort_all()
        check_abort(await rig.ending(), ErrorCode.SERVER_SHUTDOWN, 1001, "shutting down")
    assert b.sink.only.terminals[0].error_code is ErrorCode.SERVER_SHUTDOWN  # type: ignore[union-attr]


async def test_a_cancelled_server_still_tells_sink_and_rig(autojump_clock: MockClock) -> None:
    """Cancelling from outside sends terminal, abort and 1001, under their deadlines."""
    async with bench() as b:
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                b.nursery, outer = nursery, b.nursery
                rig = await b.capture()
                await rig.frame(1)
                await wait_all_tasks_blocked()
                scope.cancel()
        b.nursery = outer
        with trio.fail_after(1):
            ending = await rig.ending()
    check_abort(ending, ErrorCode.SERVER_SHUTDOWN, 1001, "shutting down")


async def test_teardown_is_bounded_when_sink_and_rig_do_nothing(
    autojump_clock: MockClock,
) -> None:
    """A sink that hangs and a cancelled server: over after close_flush_s plus linger_s."""
    async with bench(RecordingSink(finish_s=float("inf"))) as b:
        rig = await b.capture()
        await rig.frame(1)
        await wait_all_tasks_blocked()
        start = trio.current_time()
        b.router.abort_all()
        await b.router.wait_gone()
        assert trio.current_time() <= start + 5 + 2
        check_abort(await rig.ending(), ErrorCode.SERVER_SHUTDOWN, 1001, "shutting down")


async def test_an_abort_from_outside_says_its_own_reason(autojump_clock: MockClock) -> None:
    """The error given to abort is the one reported."""
    async with bench() as b:
        rig = await b.capture()
        await wait_all_tasks_blocked()
        (connection,) = b.router._connections
        connection.abort(ServerShutdown("maintenance at noon"))
        connection.abort(ServerShutdown("too late to count"))
        ending = await rig.ending()
    assert ending.aborts[0].detail == "maintenance at noon"


async def test_a_bug_is_internal_error_and_touches_no_other(autojump_clock: MockClock) -> None:
    """A bug ends its own connection with 1011 and no word of it; others go on."""
    async with bench() as b:
        other = await b.capture(capture_id="other")
        await other.frame(1, capture_id="other")
        await wait_all_tasks_blocked()

        due = "due = next_deadline(state)"
        with planted(Change(READER, due, 'raise ZeroDivisionError("secret")')):
            rig = await b.capture()
            ending = await rig.ending()
        check_abort(ending, ErrorCode.INTERNAL_ERROR, 1011, "")
        assert (ending.aborts[0].detail, ending.reason) == (None, "internal_error")
        await other.say(close_fields(capture_id="other"))
        assert (await other.ending()).receipt["frames"] == 1


async def test_connections_beyond_the_cap_get_503(autojump_clock: MockClock) -> None:
    """max_connections are served; one more is told so in HTTP, and takes nobody's place."""
    async with bench(limits={"max_connections": 2}) as b:
        rigs = [await b.connect(), await b.connect()]
        silent, waiting = pair()
        b.nursery.start_soon(b.router.handle, silent)
        ours, peer = pair()
        b.nursery.start_soon(b.router.handle, ours)
        await peer.send(REQUEST)
        full = (503, "the worker has no room for another connection\n")
        assert await peer.read_answer() == full
        # One that never asks is answered, too, at once.
        assert await waiting.read_answer() == full
        assert trio.current_time() == 0
        await rigs[0].peer.stream.aclose()
        await wait_all_tasks_blocked()
        rigs[0] = await b.connect()  # the silent one beyond the cap does not count
        await trio.sleep(REFUSE_S)
        for rig in rigs:
            await rig.peer.stream.aclose()


async def test_a_flood_beyond_the_cap_is_not_held(autojump_clock: MockClock) -> None:
    """Only so many refused connections are seen off; the others are closed at once."""
    async with bench(limits={"max_connections": 1}) as b:
        rig = await b.connect()
        await wait_all_tasks_blocked()
        before = trio.lowlevel.current_statistics().tasks_living
        peers = []
        for _ in range(REFUSED_AT_A_TIME + 20):
            ours, peer = pair()
            b.nursery.start_soon(b.router.handle, ours)
            peers.append(peer)
        await wait_all_tasks_blocked()
        held = trio.lowlevel.current_statistics().tasks_living - before
        assert held == REFUSED_AT_A_TIME
        answers = [await peer.read_rest() for peer in peers]
        assert [bool(answer) for answer in answers].count(False) == 20
        assert trio.current_time() == 0
        await rig.peer.stream.aclose()
        await trio.sleep(2 * REFUSE_S)
        assert trio.lowlevel.current_statistics().tasks_living < before

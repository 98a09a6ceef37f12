"""The worker in memory: both rigs, both clocks, and what is found when the block is left."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from cfw.api.config import Config, SinkConfig, structure_config
from cfw.client import ForwardFailed, ServerShutdown
from cfw.sinks.null import NullSink
from cfw.state import Frame
from cfw.testing.bytecuts import Recorder, stream_pair
from cfw.testing.fakes import (
    DeafPeer,
    FailingSink,
    RecordingSink,
    ScriptedAuthority,
)
from cfw.testing.rigs import Raw, Worker, jpeg, raw_frame, running_worker
from schemas import ErrorCode
from tests.unit.testing.lab import LabSink, send_three


async def send_by_client(worker: Worker, before: Callable[[], object] = list) -> None:
    async with worker.open_capture() as capture:
        before()
        await wait_all_tasks_blocked()
        for _ in range(3):
            await capture.send_frame(jpeg())


# --- rigs -----------------------------------------------------------------------------------


async def test_a_capture_by_hand(autojump_clock: MockClock) -> None:
    """A receipt, the frames as sent, and event times that are the worker's own."""
    sink = RecordingSink()
    start = datetime(2026, 5, 4, tzinfo=UTC)
    async with running_worker(sink=sink, start=start) as worker, worker.connect() as rig:
        await trio.sleep(1.5)
        await rig.open(source="rig 1")
        await rig.frame(jpeg(2_000))
        await trio.sleep(2)
        await rig.frame()
        await rig.close()
        ending = await rig.ending()
        assert worker.connections == 1
    assert (ending.receipt.frames, ending.receipt.bytes, ending.at) == (2, 2_200, 3.5)
    ending.check_told()
    sink.only.check_prefix(rig.frames, is_whole=True)
    assert sink.only.opened.source == "rig 1"
    assert sink.only.opened.timestamp_start.text == "2026-05-04T00:00:01.500000000Z"
    assert sink.only.opened.timestamp_ingest == sink.only.opened.timestamp_start
    assert [frame.meta.timestamp_frame.text[17:] for frame in sink.only.frames] == [
        "01.500000000Z",
        "03.500000000Z",
    ]


async def test_a_capture_of_the_client_library(autojump_clock: MockClock) -> None:
    """The real client gets its receipt, and is told when the sink fails."""
    async with running_worker() as worker:
        async with worker.open_capture(capture_id="mine") as capture:
            await capture.send_frame(jpeg())
        assert capture.receipt is not None
        assert capture.receipt.frames == 1
    assert worker.captures[0].opened.capture_id == "mine"
    async with running_worker(sink=FailingSink(at=2)) as worker:
        with pytest.raises(ForwardFailed):
            await send_by_client(worker)


async def test_a_client_of_ones_own_can_be_recorded(autojump_clock: MockClock) -> None:
    """A stream given to `open_capture` is used; a recorder around it has the conversation."""
    async with running_worker() as worker:
        recorder = Recorder(worker.dial())
        async with worker.open_capture(stream=recorder) as capture:
            await capture.send_frame(jpeg())
    assert recorder.sent.startswith(b"GET /camera_feed_worker/capture HTTP/1.1\r\n")


async def test_under_the_real_clock() -> None:
    """Nothing needs a virtual clock."""
    async with running_worker() as worker:
        assert (await send_three(worker)).receipt.frames == 3
        async with worker.open_capture() as capture:
            await capture.send_frame(jpeg())


async def test_many_rigs_have_ids_of_their_own(autojump_clock: MockClock) -> None:
    """Rigs do not meet, and a field overridden is sent as it is."""
    async with (
        running_worker() as worker,
        worker.connect() as one,
        worker.connect() as two,
        worker.connect() as three,
    ):
        for rig in (one, two):
            await rig.open()
            await rig.close()
            assert (await rig.ending()).code == 1000
        three.capture_id = "mine"
        await three.open(fps_target="15", annotation=...)
        ending = await three.ending()
    assert [seen.opened.capture_id for seen in worker.captures] == ["cap-1", "cap-2"]
    assert (ending.code, ending.error_code) == (1008, ErrorCode.PROTOCOL_VIOLATION)
    assert "fps_target" in ending.reason
    with pytest.raises(AssertionError, match=r"no receipt: .*fps_target"):
        _ = ending.receipt
    with pytest.raises(AssertionError, match="should be aborted with"):
        ending.check_abort(ErrorCode.PROTOCOL_VIOLATION)


async def test_anything_can_be_said(autojump_clock: MockClock) -> None:
    """Text, a dict, bytes and raw frames reach the worker as they are."""
    async with running_worker() as worker:
        async with worker.connect() as rig:
            await rig.say(rig.open_message(), jpeg())
            (await rig.ending()).check_abort(ErrorCode.PROTOCOL_VIOLATION, 1008)
        async with worker.connect() as rig:
            await rig.say("{")
            assert "JSON" in (await rig.ending()).reason
        async with worker.connect() as rig:
            await rig.say(raw_frame(0xC1, b"a reserved bit"))
            assert (await rig.ending()).code == 1002
        async with worker.connect() as rig:
            await rig.open()
            await rig.leave(3001, "bye")
            ending = await rig.ending()
            assert (ending.code, ending.error_code) == (3001, ErrorCode.CLIENT_DISCONNECTED)
            with pytest.raises(AssertionError, match="no receipt"):
                _ = ending.receipt
        async with worker.connect(handshake=False) as rig:
            await rig.say(Raw(b"BREW /coffee HTTP/1.1\r\n\r\n"))
            ending = await rig.ending()
            ending.check_told()
            assert (ending.status, ending.code) == (404, None)
        async with worker.connect(handshake=False) as rig:
            with pytest.raises(AssertionError, match=r"refused.*HTTP 404, .*only endpoint"):
                await rig.shake_hands("/elsewhere")


async def test_a_rig_that_vanishes_or_resets(autojump_clock: MockClock) -> None:
    """Both are `client_disconnected` for the sink."""
    async with running_worker() as worker:
        for number in range(3):
            async with worker.connect() as rig:
                await rig.open()
                await rig.frame()
                if number == 0:
                    await rig.vanish()
                elif number == 1:
                    rig.reset()
                await worker.wait_gone() if number < 2 else None
    codes = [seen.error_code for seen in worker.captures]
    assert codes == [ErrorCode.CLIENT_DISCONNECTED] * 3


async def test_a_rig_that_never_reads(autojump_clock: MockClock) -> None:
    """The worker gives up after `linger_s`, whoever it is that does not read."""
    async with running_worker() as worker:
        async with worker.connect() as rig:
            rig.stop_reading()
            await rig.say("{")
            start = trio.current_time()
            await worker.wait_gone()
            assert trio.current_time() == start + worker.router.services.times.linger_s
        ours, theirs = stream_pair()
        deaf = DeafPeer(ours)
        worker.serve(deaf)
        await theirs.send_all(rig.request())
        start = trio.current_time()
        await worker.wait_gone()
        assert trio.current_time() == start + worker.router.services.times.handshake_s
        assert deaf.is_closed
        assert len(deaf.sends) == 1


async def test_a_ping_that_does_not_get_out(autojump_clock: MockClock) -> None:
    """A worker whose ping is stuck ends the capture when the pong is late."""
    limits, times = {"max_duration_s": 300}, {"idle_s": 300, "session_recheck_s": 300}
    async with running_worker(limits=limits, times=times) as worker, worker.connect() as rig:
        await rig.open()
        rig.stop_reading()
        await trio.sleep(39.9)
        assert worker.connections == 1
        await worker.wait_gone()
        assert trio.current_time() == 42
    assert worker.captures[0].error_code is ErrorCode.CLIENT_DISCONNECTED


async def test_the_window_pushes_back(autojump_clock: MockClock) -> None:
    """A rig waits while the worker waits, here for the session authority."""
    authority = ScriptedAuthority(delay_s=1)
    async with (
        running_worker(authority=authority) as worker,
        worker.connect(window_bytes=1_000) as rig,
    ):
        await rig.open()
        for _ in range(4):
            await rig.frame(jpeg(1_000))
        assert trio.current_time() == 1
        await rig.close()
        assert (await rig.ending()).receipt.bytes == 4_000


async def test_an_ending_that_does_not_come(autojump_clock: MockClock) -> None:
    """`ending` says what came instead."""
    async with running_worker() as worker, worker.connect() as rig:
        with pytest.raises(AssertionError, match=r"not ended .* within 3 s; .*None"):
            await rig.ending(within_s=3)


# --- the worker -----------------------------------------------------------------------------


async def test_a_configuration_names_sink_and_authority(autojump_clock: MockClock) -> None:
    """With a configuration its URLs count, and its limits with what differs."""
    sections = {"sink": {"url": "null:"}, "sessions": {"static": ["ada:s-1"]}}
    config = structure_config({**sections, "limits": {"max_fps": 20}})
    async with running_worker(config, limits={"max_frames": 2}) as worker:
        assert isinstance(worker.sink, NullSink)
        limits = worker.router.services.limits
        assert (limits.max_fps, limits.max_frames) == (20, 2)
        (await send_three(worker)).check_abort(ErrorCode.LIMIT_FRAME_COUNT_EXCEEDED)
        async with worker.connect() as rig:
            rig.user_id = "eve"
            await rig.open()
            (await rig.ending()).check_abort(ErrorCode.SESSION_INVALID, 1008)
        assert worker.sink.captures == 1
    async with running_worker(Config(sink=SinkConfig(url="null:")), sink=LabSink()) as worker:
        assert isinstance(worker.sink, LabSink)


async def test_a_worker_that_shuts_down_under_a_client(autojump_clock: MockClock) -> None:
    """`abort_all` and a cancelled server are told as `server_shutdown`; then no one gets in."""
    async with running_worker() as worker:
        with pytest.raises(ServerShutdown):
            await send_by_client(worker, worker.router.abort_all)
    async with running_worker() as worker:
        async with worker.connect() as rig, worker.connect() as other:
            for one in (rig, other):
                await one.open()
                await one.frame()
            await wait_all_tasks_blocked()
            other.scope.cancel()
            (await other.ending()).check_abort(ErrorCode.SERVER_SHUTDOWN, 1001)
            assert worker.connections == 2
            worker.scope.cancel()
            (await rig.ending()).check_abort(ErrorCode.SERVER_SHUTDOWN, 1001)
        await worker.wait_gone()
        with pytest.raises(RuntimeError, match="has ended"):
            worker.dial()


async def test_an_exception_of_the_block_leaves_as_it_is(autojump_clock: MockClock) -> None:
    """It comes in no group, with a note of what the sink did."""

    class Broken(LabSink):
        async def send(self, frame: Frame) -> None:
            raise LookupError("no such shelf")

    with pytest.raises(AssertionError, match="no receipt") as caught:
        async with running_worker(sink=Broken()) as worker:
            assert (await send_three(worker)).receipt.frames == 3
    (note,) = caught.value.__notes__
    assert "the sink Broken raised LookupError('no such shelf') in send of frame 1" in note
    with trio.move_on_after(1) as scope:
        async with running_worker() as worker:
            await trio.sleep_forever()
    assert scope.cancelled_caught


def test_a_start_has_a_time_zone() -> None:
    """A wall clock without one would be hours off."""

    async def run() -> None:
        async with running_worker(start=datetime(2026, 5, 4)):
            pass

    with pytest.raises(ValueError, match="time zone"):
        trio.run(run)


@pytest.mark.parametrize("size", [35, 36, 300_000])
async def test_what_jpeg_makes_is_taken(autojump_clock: MockClock, size: int) -> None:
    """The worker takes the smallest and the largest."""
    assert len(jpeg(size)) == size
    async with running_worker() as worker, worker.connect() as rig:
        await rig.open(width=320, height=200)
        await rig.frame(jpeg(size, 320, 200))
        await rig.close()
        assert (await rig.ending()).receipt.bytes == size
    for wrong in ({"size": 30}, {"fill": 0xFF}):
        with pytest.raises(ValueError, match="is none"):
            jpeg(**wrong)

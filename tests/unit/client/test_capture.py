"""`open_capture` against a scripted worker, on a virtual clock."""

# The block of `open_capture` is what is tested, so it stands by itself, whole.
# ruff: noqa: PT012, SIM117

from __future__ import annotations

import gc
import socket
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from itertools import count, pairwise
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock
from trio_websocket import ConnectionClosed

import cfw.client
from cfw.client import (
    CaptureAborted,
    ConnectionLost,
    ConnectionRefused,
    LimitDurationExceeded,
    LimitExceeded,
    ProtocolViolation,
    Receipt,
    SessionClosed,
    SessionError,
    open_capture,
)
from schemas import (
    CaptureClose,
    CaptureFrameMeta,
    CaptureOpen,
    ErrorCode,
    SchemaError,
    Timestamp,
    to_dict,
)
from tests.unit.client.fake_worker import (
    JPEG,
    FakeWorker,
    Script,
    StreamPair,
    fake_worker,
    listening_worker,
    options_of,
    receipt,
    run_script,
)

DETAIL = "the user's session has ended"


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    """No socket or generator is left to the garbage collector, which would warn."""
    yield
    gc.collect()


async def _abort_at_first_frame(worker: FakeWorker) -> None:
    await worker.read_until(bytes)
    await worker.tell_abort(ErrorCode.SESSION_CLOSED, detail=DETAIL, seq=1)
    await worker.close(1008, f"session_closed: {DETAIL}")


# --- a capture that ends well -------------------------------------------------------------


async def test_receipt(autojump_clock: MockClock) -> None:
    """The receipt is there when the block has ended, and not before."""
    async with fake_worker(FakeWorker.confirm) as rig:
        async with open_capture(**rig.options) as capture:
            for _ in range(3):
                await capture.send_frame(JPEG)
            unconfirmed = capture.receipt
        assert unconfirmed is None
        assert capture.receipt == Receipt(3, 3 * len(JPEG))
        assert (capture.frames_sent, capture.bytes_sent) == (3, 3 * len(JPEG))
    assert rig.worker.frames == [JPEG] * 3


async def test_messages_follow_the_protocol(autojump_clock: MockClock) -> None:
    """Ids are made by the rig, frames are counted from 1, times never go back."""
    async with fake_worker(FakeWorker.confirm) as rig:
        async with open_capture(
            **rig.options,
            source="rig-7",
            modality="gesture",
            performer_id="p1",
            annotation={"intent": "wave"},
            headers={"X-Token": "abc"},
        ) as capture:
            await capture.send_frame(JPEG)
            await capture.send_frame(bytearray(JPEG))
            await capture.send_frame(memoryview(JPEG))
    worker = rig.worker
    opening, *metas, closing = worker.messages
    assert worker.path == "/camera_feed_worker/capture"
    assert (b"x-token", b"abc") in [(name.lower(), value) for name, value in worker.headers]
    assert isinstance(opening, CaptureOpen)
    assert isinstance(closing, CaptureClose)
    expected = {
        "user_id": "ada",
        "session_id": "s1",
        "width": 640,
        "height": 480,
        "fps_target": 15,
        "encoding": "jpeg",
        "source": "rig-7",
        "modality": "gesture",
        "performer_id": "p1",
        "annotation": {"intent": "wave"},
        "capture_id": capture.capture_id,
    }
    assert to_dict(opening).items() >= expected.items()
    assert len({message.record_id for message in worker.messages}) == 5
    assert {m.capture_id for m in worker.messages} == {capture.capture_id}
    assert uuid.UUID(capture.capture_id).version == 4
    times = [opening.timestamp_start.ns]
    for seq, meta in enumerate(metas, 1):
        assert isinstance(meta, CaptureFrameMeta)
        assert (meta.seq, meta.byte_length) == (seq, len(JPEG))
        times.append(meta.timestamp_frame.ns)
    times.append(closing.timestamp_end.ns)
    assert all(earlier <= later for earlier, later in pairwise(times))


async def test_event_times_are_kept_to_the_letter(autojump_clock: MockClock) -> None:
    """Text goes out as it came; a recording ends at its last frame, not now."""
    start = "2020-01-01T00:00:00+02:00"
    frame = "2020-01-01T00:00:00.123456789012+02:00"
    later = datetime(2020, 1, 1, 0, 0, 1, tzinfo=UTC)
    async with fake_worker(FakeWorker.confirm) as rig:
        async with open_capture(**rig.options, timestamp_start=start) as capture:
            await capture.send_frame(JPEG, frame)
            await capture.send_frame(JPEG, later)
    opening, first, second, closing = rig.worker.messages
    assert isinstance(opening, CaptureOpen)
    assert isinstance(first, CaptureFrameMeta)
    assert isinstance(second, CaptureFrameMeta)
    assert isinstance(closing, CaptureClose)
    assert opening.timestamp_start.text == start
    assert first.timestamp_frame.text == frame
    assert second.timestamp_frame.text == later.isoformat()
    assert closing.timestamp_end == second.timestamp_frame


async def test_a_capture_never_ends_before_its_last_frame(autojump_clock: MockClock) -> None:
    """A camera clock ahead of ours does not make the close go back in time."""
    ahead = Timestamp.from_ns((round(datetime.now(UTC).timestamp()) + 3600) * 10**9)
    async with fake_worker(FakeWorker.confirm) as rig:
        async with open_capture(**rig.options, timestamp_start=ahead.text):
            pass
    closing = rig.worker.messages[-1]
    assert isinstance(closing, CaptureClose)
    assert closing.timestamp_end == ahead


async def test_a_wall_clock_that_is_set_back_is_not_noticed(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Event times go on with the monotonic clock."""
    async with fake_worker(FakeWorker.confirm) as rig:
        async with open_capture(**rig.options) as capture:
            await capture.send_frame(JPEG)
            monkeypatch.setattr("time.time_ns", lambda: 0)
            await capture.send_frame(JPEG)
    times = [
        m.timestamp_frame.ns for m in rig.worker.messages if isinstance(m, CaptureFrameMeta)
    ]
    assert times[0] <= times[1]


async def test_frames_of_several_tasks_are_not_mixed(autojump_clock: MockClock) -> None:
    """Metadata and bytes stay together whoever sends."""
    images = [JPEG + bytes(n) for n in range(20)]
    async with fake_worker(FakeWorker.confirm, trio.testing.lockstep_stream_pair) as rig:
        async with open_capture(**rig.options) as capture, trio.open_nursery() as nursery:
            for image in images:
                nursery.start_soon(capture.send_frame, image)
    metas = [m for m in rig.worker.messages if isinstance(m, CaptureFrameMeta)]
    assert [m.seq for m in metas] == list(range(1, 21))
    assert [m.byte_length for m in metas] == [len(frame) for frame in rig.worker.frames]
    assert sorted(rig.worker.frames) == sorted(images)


async def test_a_worker_that_keeps_tcp_open_is_not_waited_for(
    autojump_clock: MockClock,
) -> None:
    """With the receipt in hand the rig closes the socket itself."""

    async def linger(worker: FakeWorker) -> None:
        await worker.read_until(CaptureClose)
        reason = receipt(worker.frames).encode()
        await worker.stream.send_all(
            bytes([0x88, 2 + len(reason)]) + (1000).to_bytes(2, "big") + reason
        )
        await trio.sleep(30)

    async with fake_worker(linger) as rig:
        start = trio.current_time()
        async with open_capture(**rig.options) as capture:
            await capture.send_frame(JPEG)
        assert trio.current_time() == start
        assert capture.receipt == Receipt(1, len(JPEG))


# --- aborts -------------------------------------------------------------------------------


def test_every_error_code_has_a_class_of_its_own() -> None:
    """One class per code, importable by name, below CaptureAborted."""
    classes = {
        cls.code: name
        for name, cls in vars(cfw.client).items()
        if isinstance(cls, type) and issubclass(cls, CaptureAborted) and hasattr(cls, "code")
    }
    assert set(classes) == set(ErrorCode)
    for code, name in classes.items():
        assert name.lower() == code.value.replace("_", "")
        assert name in cfw.client.__all__
        assert issubclass(getattr(cfw.client, name), LimitExceeded) == code.startswith("limit_")
        assert issubclass(getattr(cfw.client, name), SessionError) == code.startswith(
            "session_"
        )


@pytest.mark.parametrize("code", ErrorCode)
@pytest.mark.parametrize("is_told", [True, False], ids=["message", "close_frame_alone"])
async def test_abort_with_each_code(
    autojump_clock: MockClock, code: ErrorCode, is_told: bool
) -> None:
    """The message and the close frame lead to the same class; the message knows more."""

    async def script(worker: FakeWorker) -> None:
        await worker.read_until(bytes)
        if is_told:
            await worker.tell_abort(code, detail=DETAIL, seq=7, observed=9.5, limit=3)
        await worker.close(1008, f"{code.value}: {DETAIL}")

    async with fake_worker(script) as rig:
        with pytest.raises(CaptureAborted) as caught:
            async with open_capture(**rig.options) as capture:
                await capture.send_frame(JPEG)
                await trio.sleep(1)
    error = caught.value
    assert (error.code, error.detail, error.close_code) == (code, DETAIL, 1008)
    numbers = (7, 9.5, 3) if is_told else (None, None, None)
    assert (error.seq, error.observed, error.limit) == numbers
    assert type(error.close_code) is int
    shown = "seq 7, observed 9.5, limit 3, close code 1008" if is_told else "close code 1008"
    assert str(error) == f"{code.value}: {DETAIL} ({shown})"


async def test_close_frame_alone_without_why(autojump_clock: MockClock) -> None:
    """An internal error tells its code and nothing else."""

    async def script(worker: FakeWorker) -> None:
        await worker.read_until(CaptureOpen)
        await worker.close(1011, "internal_error")

    async with fake_worker(script) as rig:
        with pytest.raises(cfw.client.InternalError) as caught:
            async with open_capture(**rig.options):
                pass
    assert str(caught.value) == "internal_error (close code 1011)"


async def test_abort_message_without_close_frame(autojump_clock: MockClock) -> None:
    """The close frame is waited for, but not for long."""

    async def script(worker: FakeWorker) -> None:
        await worker.read_until(bytes)
        await worker.tell_abort(ErrorCode.PROTOCOL_VIOLATION)
        await trio.sleep(60)

    async with fake_worker(script) as rig:
        start = trio.current_time()
        with pytest.raises(ProtocolViolation) as caught:
            async with open_capture(**rig.options) as capture:
                while True:
                    await capture.send_frame(JPEG)
        assert trio.current_time() == start + 2
    assert caught.value.close_code is None
    assert str(caught.value) == "protocol_violation"


async def test_abort_message_then_cut(autojump_clock: MockClock) -> None:
    """The abort is what the rig is told, not the broken connection behind it."""

    async def script(worker: FakeWorker) -> None:
        await worker.read_until(bytes)
        await worker.tell_abort(ErrorCode.FORWARD_FAILED, detail="disk full")
        await worker.stream.aclose()

    async with fake_worker(script) as rig:
        with pytest.raises(cfw.client.ForwardFailed, match="disk full"):
            async with open_capture(**rig.options) as capture:
                while True:
                    await capture.send_frame(JPEG)


async def test_abort_between_frames_is_raised_at_the_next(autojump_clock: MockClock) -> None:
    """Nothing of the user's is cancelled: it goes on until it sends."""
    async with fake_worker(_abort_at_first_frame) as rig:
        with pytest.raises(SessionClosed) as at_exit:
            async with open_capture(**rig.options) as capture:
                await capture.send_frame(JPEG)
                start = trio.current_time()
                await trio.sleep(10)
                assert trio.current_time() == start + 10
                with pytest.raises(SessionClosed) as caught:
                    await capture.send_frame(JPEG)
                with pytest.raises(SessionClosed) as again:
                    await capture.send_frame(JPEG)
        assert at_exit.value is again.value is caught.value
    assert len(rig.worker.frames) == 1
    assert capture.receipt is None


async def test_abort_is_raised_at_exit_when_nothing_is_sent(autojump_clock: MockClock) -> None:
    """A block that ends normally ends with a receipt or with an exception."""
    async with fake_worker(_abort_at_first_frame) as rig:
        with pytest.raises(SessionClosed, match=DETAIL):
            async with open_capture(**rig.options) as capture:
                await capture.send_frame(JPEG)
                await trio.sleep(1)


async def test_abort_while_waiting_for_the_receipt(autojump_clock: MockClock) -> None:
    """The capture may still be refused when its last message is out."""

    async def script(worker: FakeWorker) -> None:
        await worker.read_until(CaptureClose)
        await trio.sleep(3)
        await worker.tell_abort(ErrorCode.LIMIT_DURATION_EXCEEDED, observed=16, limit=15)
        await worker.close(1008, "limit_duration_exceeded: too long")

    async with fake_worker(script) as rig:
        with pytest.raises(LimitDurationExceeded) as caught:
            async with open_capture(**rig.options) as capture:
                await capture.send_frame(JPEG)
    assert (caught.value.observed, caught.value.limit) == (16, 15)


@pytest.mark.parametrize("is_told", [True, False], ids=["message", "close_frame_alone"])
async def test_abort_while_a_send_is_blocked(autojump_clock: MockClock, is_told: bool) -> None:
    """A worker that reads no more and aborts ends the send with the abort, at once."""

    async def script(worker: FakeWorker) -> None:
        await worker.read_until(bytes)
        await trio.sleep(5)
        if is_told:
            await worker.tell_abort(ErrorCode.LIMIT_FORWARD_BUFFER_EXCEEDED)
        await worker.close(1008, "limit_forward_buffer_exceeded: the sink is too slow")

    async with fake_worker(script, trio.testing.lockstep_stream_pair) as rig:
        start = trio.current_time()
        with pytest.raises(cfw.client.LimitForwardBufferExceeded) as caught:
            async with open_capture(**rig.options) as capture:
                while True:
                    await capture.send_frame(JPEG)
        assert trio.current_time() == start + 5
    assert caught.value.close_code == 1008
    assert capture.frames_sent > 1


async def test_unknown_messages_are_passed_over(autojump_clock: MockClock) -> None:
    """What a newer worker may say besides does not end the capture."""

    async def script(worker: FakeWorker) -> None:
        await worker.connection.send_message('{"event":"capture.hint"}')
        await worker.connection.send_message(b"\x00")
        await worker.confirm()

    async with fake_worker(script) as rig, open_capture(**rig.options) as capture:
        await capture.send_frame(JPEG)
    assert capture.receipt is not None


class _ResetStream(trio.abc.Stream):
    """A connection that was reset while what the other side said waits to be read."""

    def __init__(self, inner: trio.abc.Stream) -> None:
        self._inner = inner
        self.is_reset = False
        self._send_failed = trio.Event()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self.is_reset:
            self._send_failed.set()
            raise trio.BrokenResourceError
        await self._inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._inner.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        data = await self._inner.receive_some(max_bytes)
        if self.is_reset:
            await self._send_failed.wait()
        return data

    async def aclose(self) -> None:
        await self._inner.aclose()


@pytest.mark.parametrize("is_told", [True, False], ids=["message", "close_frame_alone"])
async def test_abort_behind_a_reset(autojump_clock: MockClock, is_told: bool) -> None:
    """A send that fails does not hide the abort that can still be read."""

    async def script(worker: FakeWorker) -> None:
        await worker.read_until(bytes)
        broken.is_reset = True
        if is_told:
            await worker.tell_abort(ErrorCode.SERVER_SHUTDOWN, detail="bye")
        with trio.move_on_after(1):
            await worker.close(1001, "server_shutdown: bye")

    async with fake_worker(script) as rig:
        broken = _ResetStream(rig.stream)
        start = trio.current_time()
        with pytest.raises(cfw.client.ServerShutdown, match="bye") as caught:
            async with open_capture(**{**rig.options, "stream": broken}) as capture:
                await capture.send_frame(JPEG)
                await trio.sleep(5)
                await capture.send_frame(JPEG)
        assert trio.current_time() == start + 5
    assert caught.value.close_code == 1001


async def test_broken_send_with_nothing_to_read(autojump_clock: MockClock) -> None:
    """A connection that only half ended is given up, not waited for."""

    async def script(worker: FakeWorker) -> None:
        await worker.read_until(bytes)
        broken.is_reset = True
        await trio.sleep(60)

    async with fake_worker(script) as rig:
        broken = _ResetStream(rig.stream)
        start = trio.current_time()
        with pytest.raises(ConnectionLost, match="without a close frame"):
            async with open_capture(**{**rig.options, "stream": broken}) as capture:
                while True:
                    await capture.send_frame(JPEG)
        assert trio.current_time() == start + 2


# --- connections that end -----------------------------------------------------------------


async def test_connection_cut(autojump_clock: MockClock) -> None:
    """No close frame: the connection was lost, and that is all there is to say."""

    async def script(worker: FakeWorker) -> None:
        await worker.read_until(bytes)
        await worker.stream.aclose()

    async with fake_worker(script) as rig:
        with pytest.raises(ConnectionLost, match="without a close frame") as caught:
            async with open_capture(**rig.options) as capture:
                while True:
                    await capture.send_frame(JPEG)
    assert caught.value.close_code is None
    assert not isinstance(caught.value, CaptureAborted | ConnectionRefused)


@pytest.mark.parametrize(
    ("code", "reason", "text"),
    [
        (1000, None, "closed with code 1000"),
        (1000, '{"frames":1}', r"closed with code 1000 \(\{"),
        (1000, '{"frames":true,"bytes":1}', "closed with code 1000"),
        (1000, "[]", "closed with code 1000"),
        (1002, "bad frame", r"closed with code 1002 \(bad frame\)"),
        (1011, "some_new_code: why", "closed with code 1011"),
    ],
)
async def test_close_frames_that_say_nothing_known(
    autojump_clock: MockClock, code: int, reason: str | None, text: str
) -> None:
    """No receipt and no error code: the connection was lost, with its close code."""

    async def script(worker: FakeWorker) -> None:
        await worker.read_until(CaptureClose)
        await worker.close(code, reason)

    async with fake_worker(script) as rig:
        with pytest.raises(ConnectionLost, match=text) as caught:
            async with open_capture(**rig.options):
                pass
    assert caught.value.close_code == code


async def test_a_receipt_before_the_close_is_none(autojump_clock: MockClock) -> None:
    """A worker that ends the capture on its own has not confirmed all of it."""

    async def script(worker: FakeWorker) -> None:
        await worker.read_until(bytes)
        await worker.close(1000, receipt(worker.frames))

    async with fake_worker(script) as rig:
        with pytest.raises(ConnectionLost, match="before the rig did"):
            async with open_capture(**rig.options) as capture:
                while True:
                    await capture.send_frame(JPEG)
    assert capture.receipt is None


async def test_no_receipt_in_time(autojump_clock: MockClock) -> None:
    """The wait for the receipt ends at its deadline, to the instant."""
    async with fake_worker(FakeWorker.read_to_end) as rig:
        start = trio.current_time()
        with pytest.raises(ConnectionLost, match="no receipt within 4 s"):
            async with open_capture(**rig.options, close_timeout=4) as capture:
                await capture.send_frame(JPEG)
        assert trio.current_time() == start + 4


async def test_no_receipt_in_time_with_a_send_blocked(autojump_clock: MockClock) -> None:
    """A worker that never reads cannot hold the rig at its end."""

    async def script(worker: FakeWorker) -> None:
        await trio.sleep(60)

    async with fake_worker(script, trio.testing.lockstep_stream_pair) as rig:
        start = trio.current_time()
        with pytest.raises(ConnectionLost, match="no receipt within 4 s"):
            async with open_capture(**rig.options, close_timeout=4) as capture:
                with trio.move_on_after(1):
                    while True:
                        await capture.send_frame(JPEG)
        assert trio.current_time() == start + 5


async def test_a_fault_inside_does_not_cancel_the_body(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug in the connection ends the capture, with its cause, and nothing of the user's."""

    async def broken(worker: object) -> None:
        raise ZeroDivisionError

    async with fake_worker(FakeWorker.read_to_end) as rig:
        with pytest.raises(ConnectionLost) as caught:
            async with open_capture(**rig.options) as capture:
                monkeypatch.setattr(capture._link.connection, "send_message", broken)
                with pytest.raises(ConnectionLost):
                    await capture.send_frame(JPEG)
                await trio.sleep(1)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


# --- handshakes ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "status", "text"),
    [
        (
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
            404,
            "404; rigs connect to the",
        ),
        (b"HTTP/1.1 503 X\r\nContent-Length: 4\r\n\r\nfull", 503, r"HTTP status 503 \(full\)"),
        (b"HTTP/1.1 502 Bad\r\nConnection: close\r\n\r\n<p>bad", 502, "HTTP status 502"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n", 101, "."),
        (b"SSH-2.0-OpenSSH_9\r\n", None, "."),
        (b"", None, "it closed the connection"),
    ],
)
async def test_handshake_refused(
    autojump_clock: MockClock, answer: bytes, status: int | None, text: str
) -> None:
    """Whatever is not a WebSocket is told at once, with its HTTP status."""
    near, far = trio.testing.memory_stream_pair()

    async def answer_request() -> None:
        await far.receive_some()
        await far.send_all(answer)
        await far.aclose()

    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer_request)
        with pytest.raises(ConnectionRefused, match=f"to worker/.*{text}") as caught:
            async with open_capture(**options_of(near)):
                pytest.fail("there is no capture")
    assert caught.value.status == status
    assert trio.current_time() == start


async def test_where_nothing_listens_the_error_says_what_to_look_at() -> None:
    """A port without a worker, in its own words and with advice."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"ws://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConnectionRefused, match=r"refused; nothing listens .*running"):
            async with open_capture(**options_of(None) | {"url": url}):
                pytest.fail("there is no capture")


async def test_tls_to_a_worker_without_it_is_told_to_use_ws() -> None:
    """A plain answer to a TLS greeting."""

    async def answer(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_tcp, answer, 0, host="127.0.0.1")
        (listener,) = await nursery.start(serve)
        url = f"wss://127.0.0.1:{listener.socket.getsockname()[1]}"
        with pytest.raises(ConnectionRefused, match="nobody speaks TLS there: try ws://"):
            async with open_capture(**options_of(None) | {"url": url}):
                pytest.fail("there is no capture")
        nursery.cancel_scope.cancel()


async def test_handshake_without_an_answer(autojump_clock: MockClock) -> None:
    """A server that takes the connection and says nothing is given up in time."""
    near, _far = trio.testing.memory_stream_pair()
    start = trio.current_time()
    with pytest.raises(ConnectionRefused, match="no answer within 3 s") as caught:
        async with open_capture(**options_of(near), connect_timeout=3):
            pytest.fail("there is no capture")
    assert caught.value.status is None
    assert trio.current_time() == start + 3


async def test_nobody_listens() -> None:
    """A refused TCP connection is told as such."""
    async with listening_worker(trio.aclose_forcefully) as url:
        pass
    with pytest.raises(ConnectionRefused, match="refused") as caught:
        async with open_capture(**{**options_of(None), "url": url}):
            pytest.fail("there is no capture")
    assert caught.value.status is None


async def test_tls_with_a_server_that_has_none() -> None:
    """What is wrong with TLS is told, not that a connection ended."""

    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await stream.aclose()

    async with listening_worker(serve) as url:
        with pytest.raises(ConnectionRefused, match=r"(?i)ssl|tls"):
            async with open_capture(**{**options_of(None), "url": url.replace("ws", "wss", 1)}):
                pytest.fail("there is no capture")


# --- bodies that raise, and cancellation --------------------------------------------------


async def test_exception_of_the_body_leaves_untouched(autojump_clock: MockClock) -> None:
    """The very same object, in no group, with nothing added; the worker sees no close."""
    error = ValueError("mine")
    async with fake_worker(FakeWorker.read_to_end) as rig:
        with pytest.raises(ValueError, match="mine") as caught:
            async with open_capture(**rig.options) as capture:
                await capture.send_frame(JPEG)
                raise error
        await trio.testing.wait_all_tasks_blocked()
        assert rig.worker.closed_at == trio.current_time()
    assert caught.value is error
    assert (error.__context__, error.__cause__) == (None, None)
    assert not any(isinstance(m, CaptureClose) for m in rig.worker.messages)
    assert rig.worker.close_code == 1006
    assert capture.receipt is None


async def test_exception_of_the_body_beats_an_abort(autojump_clock: MockClock) -> None:
    """The body's own exception is not replaced by what the worker said meanwhile."""
    async with fake_worker(_abort_at_first_frame) as rig:
        with pytest.raises(KeyError) as caught:
            async with open_capture(**rig.options) as capture:
                await capture.send_frame(JPEG)
                await trio.sleep(1)
                raise KeyError
    assert caught.value.__context__ is None


async def test_a_cancelled_body_may_still_send(autojump_clock: MockClock) -> None:
    """The connection lives as long as the body, so a shielded last frame goes out."""
    async with fake_worker(FakeWorker.read_to_end) as rig:
        with trio.move_on_after(1) as scope:
            async with open_capture(**rig.options) as capture:
                try:
                    await trio.sleep_forever()
                finally:
                    with trio.move_on_after(1, shield=True):
                        await trio.sleep(0.5)
                        await capture.send_frame(JPEG)
        assert scope.cancelled_caught
    assert rig.worker.frames == [JPEG]


async def test_keyboard_interrupt_of_the_body(autojump_clock: MockClock) -> None:
    """Ctrl-C in the body leaves as KeyboardInterrupt, in no group."""
    async with fake_worker(FakeWorker.read_to_end) as rig:
        with pytest.raises(KeyboardInterrupt):
            async with open_capture(**rig.options):
                raise KeyboardInterrupt


async def test_keyboard_interrupt_inside_the_link(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C may hit any task; it leaves as KeyboardInterrupt all the same."""

    async def interrupted(message: object) -> None:
        raise KeyboardInterrupt

    async with fake_worker(FakeWorker.read_to_end) as rig:
        with pytest.raises(KeyboardInterrupt):
            async with open_capture(**rig.options) as capture:
                monkeypatch.setattr(capture._link.connection, "send_message", interrupted)
                await capture.send_frame(JPEG)
                await trio.sleep_forever()


async def test_send_frame_behind_the_block(autojump_clock: MockClock) -> None:
    """A capture that was closed here is a mistake made here."""
    async with fake_worker(FakeWorker.confirm) as rig:
        async with open_capture(**rig.options) as capture:
            pass
        with pytest.raises(trio.ClosedResourceError):
            await capture.send_frame(JPEG)


async def test_cancelled_send_goes_out_whole(autojump_clock: MockClock) -> None:
    """Recording for a while with `move_on_after` leaves a capture that can be closed."""

    async def script(worker: FakeWorker) -> None:
        await trio.sleep(10)
        await worker.confirm()

    async with fake_worker(script, trio.testing.lockstep_stream_pair) as rig:
        start = trio.current_time()
        async with open_capture(**rig.options) as capture:
            with trio.move_on_after(5) as recording:
                while True:
                    await capture.send_frame(JPEG)
            assert recording.cancelled_caught
            assert trio.current_time() == start + 5
        sent = capture.frames_sent
        assert capture.receipt == Receipt(sent, sent * len(JPEG))
    assert len(rig.worker.frames) == sent > 0


async def test_cancelled_in_the_queue_is_not_sent(autojump_clock: MockClock) -> None:
    """A frame that waited behind another one leaves no gap in the count."""

    async def script(worker: FakeWorker) -> None:
        await trio.sleep(10)
        await worker.confirm()

    async with fake_worker(script, trio.testing.lockstep_stream_pair) as rig:
        async with open_capture(**rig.options) as capture:
            with trio.move_on_after(1):
                while True:
                    await capture.send_frame(JPEG)
            sent = capture.frames_sent
            with trio.move_on_after(1) as waiting:
                await capture.send_frame(JPEG + bytes(1))
            assert waiting.cancelled_caught
            assert capture.frames_sent == sent
    assert JPEG + bytes(1) not in rig.worker.frames
    assert capture.receipt == Receipt(sent, sent * len(JPEG))


@pytest.mark.parametrize("pair", ["memory_stream_pair", "lockstep_stream_pair"])
@pytest.mark.parametrize(
    ("script", "end"),
    [(FakeWorker.confirm, "receipt"), (_abort_at_first_frame, "aborted")],
    ids=["receipt", "abort"],
)
async def test_cancelled_at_any_checkpoint(
    autojump_clock: MockClock, pair: str, script: Script, end: str
) -> None:
    """Wherever it is cancelled: it leaves at once, in no group, and the worker sees the end.

    The scope is cancelled behind the n-th step of any task, for n = 1, 2, ... until a run
    has fewer steps.
    """
    outcomes = set()
    for step in count(1):
        was_cancelled, came_to = await _run_cancelled(step, getattr(trio.testing, pair), script)
        outcomes.add(came_to)
        if not was_cancelled:
            break
    assert came_to == end
    assert outcomes == {"before", "inside", end}
    assert step > 50, "the sweep is too short to have seen all of a capture"


class _CancelAtStep(trio.abc.Instrument):
    def __init__(self, scope: trio.CancelScope, step: int) -> None:
        self._scope, self.left = scope, step

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self.left -= 1
        if self.left == 0:
            self._scope.cancel()


async def _run_cancelled(step: int, pair: StreamPair, script: Script) -> tuple[bool, str]:
    near, far = pair()
    came_to = "before"
    seen: list[FakeWorker] = []

    async def work() -> None:
        try:
            await run_script(far, script, seen)
        except* ConnectionClosed:
            pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(work)
        with trio.CancelScope() as scope:
            instrument = _CancelAtStep(scope, step)
            trio.lowlevel.add_instrument(instrument)
            start = trio.current_time()
            try:
                async with open_capture(**options_of(near)) as capture:
                    came_to = "inside"
                    await capture.send_frame(JPEG)
                    await capture.send_frame(JPEG)
                assert capture.receipt == Receipt(2, 2 * len(JPEG))
                came_to = "receipt"
            except SessionClosed:
                came_to = "aborted"
            except BaseExceptionGroup:
                pytest.fail("it leaves in a group")
            finally:
                trio.lowlevel.remove_instrument(instrument)
                assert trio.current_time() == start
        with pytest.raises(trio.ClosedResourceError):
            await near.send_all(b"x")
        nursery.cancel_scope.deadline = trio.current_time() + 1
    # trio-websocket's server waits on if the rig goes before its request has arrived.
    assert not seen or not nursery.cancel_scope.cancelled_caught, "the end was not seen"
    return instrument.left <= 0, came_to


# --- arguments ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"url": "http://worker"}, ValueError, "not a WebSocket URL"),
        ({"url": "ws://"}, ValueError, "not a WebSocket URL"),
        ({"url": "ws://ada:secret@worker"}, ValueError, "use headers"),
        ({"url": "ws://worker:99999"}, ValueError, "ort"),
        ({"connect_timeout": 0}, ValueError, "connect_timeout"),
        ({"close_timeout": float("nan")}, ValueError, "close_timeout"),
        ({"ssl_context": object()}, ValueError, "wss"),
        ({"user_id": ""}, SchemaError, "user_id"),
        ({"session_id": "x" * 129}, SchemaError, "session_id"),
        ({"capture_id": ""}, SchemaError, "capture_id"),
        ({"capture_id": "a b"}, SchemaError, "capture_id"),
        ({"width": 0}, SchemaError, "width"),
        ({"fps": 15.0}, SchemaError, "fps_target"),
        ({"timestamp_start": "today"}, SchemaError, "timestamp_start"),
        ({"annotation": {"intention": "wave"}}, SchemaError, "annotation"),
    ],
)
async def test_wrong_arguments(
    change: dict[str, Any], error: type[Exception], text: str
) -> None:
    """They are refused before anything is sent."""
    near, far = trio.testing.memory_stream_pair()
    with pytest.raises(error, match=text):
        async with open_capture(**{**options_of(near), **change}):
            pytest.fail("there is no capture")
    await near.aclose()
    assert await far.receive_some() == b""


@pytest.mark.parametrize(
    ("jpeg", "timestamp", "field"),
    [(b"", None, "byte_length"), (JPEG, "now", "timestamp_frame")],
)
async def test_wrong_frame_changes_nothing(
    autojump_clock: MockClock, jpeg: bytes, timestamp: str | None, field: str
) -> None:
    """A refused frame is not counted, and the capture goes on."""
    async with fake_worker(FakeWorker.confirm) as rig:
        async with open_capture(**rig.options) as capture:
            with pytest.raises(SchemaError, match=field):
                await capture.send_frame(jpeg, timestamp)
            await capture.send_frame(JPEG)
        assert capture.receipt == Receipt(1, len(JPEG))


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("ws://worker", "/camera_feed_worker/capture"),
        ("ws://worker/", "/camera_feed_worker/capture"),
        ("ws://worker?room=1", "/camera_feed_worker/capture?room=1"),
        ("ws://[::1]:80/behind/a/proxy?x=1&y=2", "/behind/a/proxy?x=1&y=2"),
    ],
)
async def test_path(autojump_clock: MockClock, url: str, path: str) -> None:
    """A URL without a path means the worker's own."""
    async with fake_worker(FakeWorker.confirm) as rig:
        async with open_capture(**{**rig.options, "url": url}):
            pass
    assert rig.worker.path == path


# --- over real sockets --------------------------------------------------------------------


async def test_over_loopback() -> None:
    """A capture with frames of the largest size, over TCP."""
    frames = [JPEG + bytes(300_000 - len(JPEG))] * 5
    seen: list[FakeWorker] = []
    async with listening_worker(
        lambda stream: run_script(stream, FakeWorker.confirm, seen)
    ) as url:
        async with open_capture(**{**options_of(None), "url": url}) as capture:
            for frame in frames:
                await capture.send_frame(frame)
    assert capture.receipt == Receipt(5, 1_500_000)
    assert seen[0].frames == frames

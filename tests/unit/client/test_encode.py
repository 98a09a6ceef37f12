"""Frames that are arrays: what becomes a JPEG, what is refused, and what it costs others."""

# The block of `open_capture` is what is tested, so it stands by itself, whole.
# ruff: noqa: PT012, SIM117

from __future__ import annotations

import sys
import threading
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import trio
from PIL import Image

from cfw.client import Capture, ProtocolViolation, Receipt, open_capture
from cfw.client._encode import Encoder, FrameEncoder
from schemas import CaptureFrameMeta, ErrorCode
from tests.unit.client.fake_worker import JPEG, FakeWorker, fake_worker

WIDTH, HEIGHT = 32, 16
SIZE: dict[str, Any] = {"width": WIDTH, "height": HEIGHT}
ORANGE = (250, 120, 10)


@pytest.fixture(params=["simplejpeg", "pillow"])
def encode(request: pytest.FixtureRequest) -> Encoder:
    """Each encoder that can be installed."""
    name: Encoder = request.param
    pytest.importorskip("simplejpeg" if name == "simplejpeg" else "PIL")
    return name


def picture(*colors: int) -> Any:
    """A picture of one colour; of one value, a grey one."""
    shape = (HEIGHT, WIDTH, len(colors)) if len(colors) > 1 else (HEIGHT, WIDTH)
    return np.full(shape, colors if len(colors) > 1 else colors[0], np.uint8)


def decoded(jpeg: bytes) -> Any:
    return np.asarray(Image.open(BytesIO(jpeg))).astype(int)


def encoder(encode: Encoder = "auto", **options: Any) -> FrameEncoder:
    return FrameEncoder(
        WIDTH, HEIGHT, **{"encode": encode, "quality": 95, "color": "rgb"} | options
    )


def as_jpeg(encoder: FrameEncoder, frame: Any) -> bytes:
    view = encoder.read(frame)
    assert isinstance(view, memoryview)
    return encoder.encode(view)


# --- the encoders -------------------------------------------------------------------------


@pytest.mark.parametrize("color", ["rgb", "bgr"])
def test_colors_come_out_as_they_are(encode: Encoder, color: Any) -> None:
    """The order of the channels is told, not guessed."""
    given = ORANGE if color == "rgb" else ORANGE[::-1]
    image = decoded(as_jpeg(encoder(encode, color=color), picture(*given)))
    assert image.shape == (HEIGHT, WIDTH, 3)
    assert abs(image - ORANGE).max() < 6


@pytest.mark.parametrize("frame", [picture(77), picture(77)[..., np.newaxis]])
def test_grey(encode: Encoder, frame: Any) -> None:
    """A picture without channels becomes a grey JPEG, whatever the colours would be."""
    image = decoded(as_jpeg(encoder(encode, color="bgr"), frame))
    assert image.shape == (HEIGHT, WIDTH)
    assert abs(image - 77).max() < 3


def test_memory_in_any_order(encode: Encoder) -> None:
    """Mirrored, cut out, column by column, read-only: what is seen is what is sent."""
    left = np.concatenate([picture(0), picture(255)], axis=1)[:, WIDTH // 2 :][:, :WIDTH]
    frozen = left.copy()
    frozen.flags.writeable = False
    mirrored = left[:, ::-1][:, ::-1]
    for frame in (left, np.asfortranarray(left), frozen, mirrored):
        image = decoded(as_jpeg(encoder(encode), frame))
        assert image[:, 0].max() < 10
        assert image[:, -1].min() > 245


def test_quality(encode: Encoder) -> None:
    """A lower quality makes fewer bytes."""
    noise = np.random.default_rng(1).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    sizes = [len(as_jpeg(encoder(encode, quality=q), noise)) for q in (10, 50, 95)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[2] * 0.6


def test_without_simplejpeg_pillow_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """`auto` takes the first that is there."""
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    assert as_jpeg(encoder(), picture(*ORANGE)) == as_jpeg(encoder("pillow"), picture(*ORANGE))


@pytest.mark.parametrize(
    ("frame", "is_same"),
    [(JPEG, True), (bytearray(JPEG), False), (np.frombuffer(JPEG, np.uint8), False)],
    ids=["bytes", "bytearray", "row"],
)
def test_a_row_of_bytes_is_a_jpeg(frame: Any, is_same: bool) -> None:
    """What `cv2.imencode` gives goes out as it is."""
    data = encoder().read(frame)
    assert data == JPEG
    assert isinstance(data, bytes)
    assert (data is frame) == is_same


@pytest.mark.parametrize(
    ("frame", "error", "text"),
    [
        (picture(1, 2, 3).astype(float), ValueError, "uint8, not float64"),
        (picture(1) > 0, ValueError, "uint8, not bool"),
        (np.zeros(4), ValueError, "uint8, not float64"),
        (np.zeros((WIDTH, HEIGHT, 3), np.uint8), ValueError, "16 x 32 x 3 .* not 32 x 16 x 3"),
        (np.zeros((HEIGHT, WIDTH + 1), np.uint8), ValueError, "not 16 x 33"),
        (np.zeros((HEIGHT, WIDTH, 4), np.uint8), ValueError, r"frame\[:, :, :3\]"),
        (np.zeros((HEIGHT, WIDTH, 2), np.uint8), ValueError, "not 16 x 32 x 2"),
        (np.zeros((1, HEIGHT, WIDTH, 3), np.uint8), ValueError, "not 1 x 16 x 32 x 3"),
        (np.zeros((99, 1), np.uint8), ValueError, "tobytes"),
        (np.zeros((), np.uint8), ValueError, "a single number"),
        ("jpeg", TypeError, "not str"),
        (5, TypeError, "not int"),
        (None, TypeError, "not NoneType"),
    ],
)
async def test_what_is_no_picture(frame: Any, error: type[Exception], text: str) -> None:
    """It is refused in words before anything is sent, and the capture goes on."""
    async with fake_worker(FakeWorker.confirm) as rig:
        async with open_capture(**rig.options | SIZE) as capture:
            with pytest.raises(error, match=text):
                await capture.send_frame(frame)
            await capture.send_frame(JPEG)
    assert capture.receipt == Receipt(1, len(JPEG))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"quality": 0}, "quality must be .* 1 to 100, not 0"),
        ({"quality": 101}, "not 101"),
        ({"quality": 85.0}, "not 85.0"),
        ({"color": "hsv"}, "color must be one of .*'rgb', 'bgr'"),
        ({"encode": "opencv"}, "encode must be one of .*'simplejpeg'"),
    ],
)
async def test_wrong_options(options: dict[str, Any], text: str) -> None:
    """They are refused before anything is sent."""
    with pytest.raises(ValueError, match=text):
        async with open_capture(
            "ws://nobody", user_id="a", session_id="s", **SIZE, fps=1, **options
        ):
            pytest.fail("there is no capture")


@pytest.mark.parametrize("encode", ["simplejpeg", "pillow"])
async def test_the_encoder_asked_for_is_missing(
    monkeypatch: pytest.MonkeyPatch, encode: Encoder
) -> None:
    """It is said where it was asked for, with what to install."""
    monkeypatch.setitem(sys.modules, {"pillow": "PIL"}.get(encode, encode), None)
    with pytest.raises(
        ImportError, match=rf"needs {encode} .* pip install 'camera-feed-worker\[numpy\]'"
    ):
        async with open_capture(
            "ws://nobody", user_id="a", session_id="s", **SIZE, fps=1, encode=encode
        ):
            pytest.fail("there is no capture")


async def test_no_encoder_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """JPEGs need none; the first array says what to install, and nothing was sent."""
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    monkeypatch.setitem(sys.modules, "PIL", None)
    async with fake_worker(FakeWorker.confirm) as rig:
        async with open_capture(**rig.options | SIZE) as capture:
            await capture.send_frame(JPEG)
            with pytest.raises(ImportError, match=r"pip install 'camera-feed-worker\[numpy\]'"):
                await capture.send_frame(picture(1))
    assert capture.receipt == Receipt(1, len(JPEG))


# --- in a capture -------------------------------------------------------------------------


class SlowEncoder:
    """Stands in for an encoder; each picture takes until it is released."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.started = trio.Event()
        self.released = threading.Semaphore(0)
        monkeypatch.setattr(FrameEncoder, "encode", lambda _, view: self.encode(view))

    def encode(self, view: memoryview) -> bytes:
        trio.from_thread.run_sync(self.started.set)
        assert self.released.acquire(timeout=10)
        return JPEG + bytes([view.tobytes()[0]])


async def test_frames_keep_their_order(encode: Encoder) -> None:
    """Arrays and JPEGs of several tasks go in the order of the calls."""
    async with fake_worker(FakeWorker.confirm) as rig:
        async with open_capture(**rig.options | SIZE, encode=encode) as capture:
            async with trio.open_nursery() as nursery:
                for value in range(0, 200, 20):
                    nursery.start_soon(capture.send_frame, picture(value))
                    await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(capture.send_frame, JPEG)
    *frames, last = rig.worker.frames
    assert last == JPEG
    assert [round(decoded(frame).mean() / 20) * 20 for frame in frames] == list(
        range(0, 200, 20)
    )
    metas = [m for m in rig.worker.messages if isinstance(m, CaptureFrameMeta)]
    times = [meta.timestamp_frame.ns for meta in metas]
    assert times == sorted(times)


async def test_the_loop_runs_on_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a picture is encoded other tasks run; the event time is that of the call."""
    slow = SlowEncoder(monkeypatch)
    async with fake_worker(FakeWorker.confirm) as rig:
        async with open_capture(**rig.options | SIZE) as capture:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(capture.send_frame, picture(7))
                await slow.started.wait()
                assert capture.frames_sent == 0
                before = capture._header.now()
                slow.released.release()
    assert rig.worker.frames == [JPEG + b"\x07"]
    meta = rig.worker.messages[1]
    assert isinstance(meta, CaptureFrameMeta)
    assert meta.timestamp_frame.ns < before.ns


async def test_cancelled_while_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    """The picture is not sent and leaves no gap in the count."""
    slow = SlowEncoder(monkeypatch)
    async with fake_worker(FakeWorker.confirm) as rig:
        async with open_capture(**rig.options | SIZE) as capture:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(capture.send_frame, picture(7))
                await slow.started.wait()
                nursery.cancel_scope.cancel()
                slow.released.release()
            assert capture.frames_sent == 0
            await capture.send_frame(JPEG)
    assert rig.worker.frames == [JPEG]


async def test_abort_while_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    """The abort is raised by the frame that was being encoded."""
    slow = SlowEncoder(monkeypatch)
    is_told = trio.Event()

    async def script(worker: FakeWorker) -> None:
        await worker.read()
        await is_told.wait()
        await worker.tell_abort(ErrorCode.PROTOCOL_VIOLATION, detail="no")
        await worker.close(1008, "protocol_violation: no")

    async def send_refused(capture: Capture) -> None:
        with pytest.raises(ProtocolViolation):
            await capture.send_frame(picture(7))

    async with fake_worker(script) as rig:
        with pytest.raises(ProtocolViolation):
            async with open_capture(**rig.options | SIZE) as capture:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(send_refused, capture)
                    await slow.started.wait()
                    is_told.set()
                    await capture._ended.wait()
                    slow.released.release()
                # No further picture is encoded for nothing: this one would wait for ever.
                await send_refused(capture)
    assert capture.frames_sent == 0

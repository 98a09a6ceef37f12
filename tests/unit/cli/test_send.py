"""`cfw send` against a scripted worker on loopback."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from click.testing import CliRunner, Result
from trio.testing import MockClock

from cfw.cli import main
from cfw.cli.access import Access
from cfw.cli.send import _Request, _send
from cfw.cli.sources import PatternPainter
from cfw.cli.sources._source import Shot
from cfw.cli.termination import Termination
from cfw.client import Receipt, film
from cfw.recording._verify import read_receipts
from cfw.testing.rigs import Worker, running_worker
from schemas import CaptureClose, CaptureFrameMeta, CaptureOpen, ErrorCode, Timestamp
from tests.patience import PATIENCE_S
from tests.pictures import draw
from tests.unit.client.fake_worker import (
    HOSTILE,
    FakeWorker,
    Script,
    fake_worker,
    listening_worker,
    run_script,
)
from tests.unit.client.test_film import once

USER = ("--user", "ada", "--session", "s1")
PICTURE = draw(32, 16)


async def _abort(worker: FakeWorker) -> None:
    await worker.read_until(bytes)
    await worker.tell_abort(
        ErrorCode.LIMIT_FRAME_BYTES_EXCEEDED, detail="too large", seq=1, observed=9, limit=8
    )
    await worker.close(1009, "limit_frame_bytes_exceeded: too large")


async def _cut(worker: FakeWorker) -> None:
    await worker.read_until(CaptureOpen)
    await worker.stream.aclose()


async def _send_to(script: Script, *arguments: str) -> tuple[Result, FakeWorker]:
    """Run the command in a thread, where Trio can run a second time."""
    seen: list[FakeWorker] = []
    over = trio.Event()

    async def serve(stream: trio.SocketStream) -> None:
        await run_script(stream, script, seen)
        over.set()

    async with listening_worker(serve) as url:
        command = partial(CliRunner().invoke, main, ["send", url, *USER, *arguments])
        result = await trio.to_thread.run_sync(command)
        # Who has left may not have been read to the end yet.
        with trio.fail_after(PATIENCE_S):
            await over.wait()
    return result, seen[0]


@pytest.fixture
def jpegs(tmp_path: Path) -> list[Path]:
    """Three images of 32x16 as files."""
    painter = PatternPainter(32, 16, 15)
    paths = []
    for number in range(1, 4):
        path = tmp_path / f"frame{number}.jpg"
        path.write_bytes(painter.draw(number))
        paths.append(path)
    return paths


async def test_receipt_for_people(jpegs: list[Path]) -> None:
    """One line on stdout, exit code 0, and no progress bar where there is no terminal."""
    result, worker = await _send_to(
        FakeWorker.confirm, *map(str, jpegs), "--fps", "1000", "--capture-id", "c1"
    )
    size = sum(path.stat().st_size for path in jpegs)
    assert result.exit_code == 0
    assert result.stdout == f"c1: the worker has 3 frames, {size} bytes\n"
    assert result.stderr == ""
    assert worker.frames == [path.read_bytes() for path in jpegs]


async def test_receipt_as_json(jpegs: list[Path]) -> None:
    """One JSON object; the size declared is that of the first image."""
    result, worker = await _send_to(FakeWorker.confirm, str(jpegs[0].parent), "--json")
    opening = worker.messages[0]
    assert isinstance(opening, CaptureOpen)
    assert (opening.width, opening.height, opening.fps_target) == (32, 16, 15)
    assert json.loads(result.stdout) == {
        "capture_id": opening.capture_id,
        "frames": 3,
        "bytes": sum(map(len, worker.frames)),
        "close_code": 1000,
    }
    assert result.exit_code == 0


async def test_what_is_declared(jpegs: list[Path]) -> None:
    """Options come before what the image says."""
    result, worker = await _send_to(
        FakeWorker.confirm,
        str(jpegs[0]),
        *("--width", "640", "--height", "480", "--fps", "7"),
    )
    opening = worker.messages[0]
    assert isinstance(opening, CaptureOpen)
    assert (opening.user_id, opening.session_id) == ("ada", "s1")
    assert (opening.width, opening.height, opening.fps_target) == (640, 480, 7)
    assert result.exit_code == 0


async def test_frames_end_an_endless_source() -> None:
    """No more than asked for is sent."""
    result, worker = await _send_to(
        FakeWorker.confirm, "pattern:32x16", "--frames", "4", "--fps", "500"
    )
    assert result.exit_code == 0
    assert len(worker.frames) == 4


async def test_abort() -> None:
    """Exit code 1 and all that the worker said, in one line on stderr."""
    result, _ = await _send_to(_abort, "pattern:32x16")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == (
        "Error: limit_frame_bytes_exceeded: too large "
        "(seq 1, observed 9, limit 8, close code 1009)\n"
    )


async def test_abort_as_json() -> None:
    """The same for programs."""
    result, _ = await _send_to(_abort, "pattern:32x16", "--json", "--capture-id", "c1")
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {
        "capture_id": "c1",
        "error_code": "limit_frame_bytes_exceeded",
        "detail": "too large",
        "seq": 1,
        "observed": 9,
        "limit": 8,
        "close_code": 1009,
    }


async def test_nothing_that_a_worker_says_moves_the_cursor() -> None:
    """An abort's detail, a close reason: escaped for people, the same value for programs."""

    async def abort(worker: FakeWorker) -> None:
        await worker.read_until(bytes)
        await worker.tell_abort(ErrorCode.FORWARD_FAILED, detail=HOSTILE)
        await worker.close(1011, "forward_failed")

    async def close(worker: FakeWorker) -> None:
        await worker.read_until(bytes)
        await worker.close(1011, HOSTILE)

    for script in (abort, close):
        result, _ = await _send_to(script, "pattern:32x16", "--json")
        assert result.exit_code == 1
        for output in (result.stdout, result.stderr):
            assert output.endswith("\n")
            assert output.removesuffix("\n").isprintable(), output
        detail = json.loads(result.stdout)["detail"]
        assert HOSTILE in detail


async def test_connection_lost() -> None:
    """No abort, no receipt: exit code 1 as well."""
    result, _ = await _send_to(_cut, "pattern:32x16", "--json", "--capture-id", "c1")
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {
        "capture_id": "c1",
        "error_code": None,
        "detail": "the connection ended without a close frame",
        "close_code": None,
    }
    assert result.stderr == "Error: the connection ended without a close frame\n"


async def test_nobody_listens() -> None:
    """The address and the reason are told."""
    async with listening_worker(trio.aclose_forcefully) as url:
        pass
    result = CliRunner()
    command = partial(result.invoke, main, ["send", url, "pattern:32x16", *USER, "--json"])
    outcome = await trio.to_thread.run_sync(command)
    assert outcome.exit_code == 1
    assert f"Error: cannot connect to {url[5:]}/camera_feed_worker/capture: " in outcome.stderr
    assert json.loads(outcome.stdout)["status"] is None


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["ws://h", "missing.jpg"], "missing.jpg: No such file"),
        (["ws://h", __file__], "no JPEG image"),
        (["http://h", "pattern:32x16"], "not a WebSocket URL"),
        (["ws://h", "pattern:32x16", "--capture-id", "a b"], "capture_id: must be"),
        (["ws://h", "pattern:32x16", "--fps", "0"], "--fps"),
        (["ws://h", "pattern:32x16", "--frames", "0"], "--frames"),
        (["ws://h"], "SOURCE"),
    ],
)
def test_wrong_usage(arguments: list[str], text: str) -> None:
    """Exit code 2, and nothing on stdout."""
    result = CliRunner().invoke(main, ["send", *arguments, *USER])
    assert result.exit_code == 2
    assert text in result.stderr
    assert result.stdout == ""


async def test_a_source_that_breaks(jpegs: list[Path]) -> None:
    """What was sent is not closed as if it were whole; it is no wrong usage any more."""
    jpegs[1].write_bytes(b"no image")
    result, worker = await _send_to(
        FakeWorker.read_to_end, *map(str, jpegs), "--json", "--capture-id", "c1"
    )
    assert result.exit_code == 1
    assert "Usage" not in result.stderr
    assert str(jpegs[1]) in result.stderr
    assert "after 1 frame; the capture was not closed" in result.stderr
    told = json.loads(result.stdout)
    assert (told["capture_id"], told["error_code"], told["frames"]) == ("c1", None, 1)
    assert told["bytes"] == jpegs[0].stat().st_size
    assert str(jpegs[1]) in told["detail"]
    assert [type(m) for m in worker.messages] == [CaptureOpen, CaptureFrameMeta]


async def test_what_was_left_out_is_told_beside_the_receipt(tmp_path: Path) -> None:
    """On stderr for people, without control characters; as counts for programs."""
    picture = PatternPainter(32, 16, 15).draw(1)
    path = tmp_path / "a\x1b[31m.mjpeg"
    path.write_bytes(picture + b"\x01\x02" + picture[:-9] + picture + picture[:-3])
    result, worker = await _send_to(FakeWorker.confirm, str(path), "--json")
    assert result.exit_code == 0
    assert worker.frames == [picture, picture]
    assert json.loads(result.stdout)["left_out"] == {
        "damaged_images": 1,
        "cut_images": 1,
        "bytes": 2,
    }
    damaged, cut, trailing = result.stderr.splitlines()
    assert damaged.startswith("left out: 1 damaged image; the first: ")
    assert cut.startswith("left out: 1 image cut at the end; the first: ")
    assert trailing == "left out: 2 bytes behind images"
    assert "\x1b" not in result.stderr


class _ThreeHundredFrames:
    """A source that needs no thread, so that the clock can be a virtual one."""

    fps = about = None

    def __init__(self, spec: str, **_: Any) -> None:
        self.name = spec
        self.is_live = spec == "-"
        self._left = 300

    async def next_frame(self) -> Shot | None:
        await trio.lowlevel.checkpoint()
        self._left -= 1
        return Shot(PICTURE) if self._left >= 0 else None

    async def aclose(self) -> None:
        pass


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a.jpg", [0, 0.1, 0.2, 0.75, 0.75, 0.75, 0.75, 0.75, 0.8, 0.9]),
        ("-", [0, 0, 0, 0.75, 0.75, 0.75, 0.75, 0.75, 0.75, 0.75]),
    ],
)
async def test_pacing_does_not_drift(
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    expected: list[float],
) -> None:
    """Frame n is due at n / fps behind the start, however long the others took."""
    times: list[float] = []

    async def stall_once(worker: FakeWorker) -> None:
        for number in range(10):
            if number == 3:
                await trio.sleep_until(times[0] + 0.75)
            await worker.read_until(bytes)
            times.append(trio.current_time())
        await worker.confirm()

    request = _Request(
        url="ws://worker",
        sources=(source,),
        user="ada",
        session="s1",
        fps=10,
        capture_id="c1",
        width=None,
        height=None,
        frames=None,
        access=Access(None, None),
    )
    monkeypatch.setattr("cfw.cli.sources._frames.open_source", _ThreeHundredFrames)
    async with fake_worker(stall_once, trio.testing.lockstep_stream_pair) as rig:
        dial = once(rig.stream)
        monkeypatch.setattr("cfw.cli.send.film", partial(film, dial=dial))
        capture = await _send(request, lambda capture: None, Termination())
    assert capture is not None
    assert [time - times[0] for time in times] == pytest.approx(expected)
    assert capture.receipt == Receipt(300, 300 * len(PICTURE))


# --- films ------------------------------------------------------------------------------------


@asynccontextmanager
async def _worker(**limits: Any) -> AsyncIterator[tuple[Worker, str]]:
    """A real worker, on loopback."""
    async with running_worker(limits=limits) as worker:

        async def serve(stream: trio.SocketStream) -> None:
            worker.serve(stream)
            await worker.wait_gone(60)

        async with listening_worker(serve) as url:
            yield worker, url


@attrs.frozen
class _Ran:
    exit_code: int
    stdout: str
    stderr: str


async def _run(*arguments: str) -> _Ran:
    """The command in a process: a runner in this one would catch what the worker logs."""
    ran = await trio.run_process(
        [sys.executable, "-m", "cfw.cli", "send", *arguments],
        capture_stdout=True,
        capture_stderr=True,
        check=False,
    )
    return _Ran(ran.returncode, ran.stdout.decode(), ran.stderr.decode())


async def test_a_film_in_captures_as_short_as_they_must_be() -> None:
    """A receipt for each as an object of its own, and the sum; no frame twice."""
    async with _worker(max_frames=5, max_fps=1000) as (worker, url):
        film_of_12 = ("pattern:32x16?frames=12", "--split", "--fps", "200", *USER)
        result = await _run(url, *film_of_12, "--json", "--capture-id", "f")
        *parts, whole = map(json.loads, result.stdout.splitlines())
        assert [(part["capture_id"], part["frames"]) for part in parts] == [
            ("f", 5),
            ("f.2", 5),
            ("f.3", 2),
        ]
        assert all(part["close_code"] == 1000 for part in parts)
        size = sum(part["bytes"] for part in parts)
        assert whole == {
            "film_id": "f",
            "captures": 3,
            "frames_sent": 12,
            "bytes_sent": size,
            "frames_confirmed": 12,
            "bytes_confirmed": size,
        }
        painter = PatternPainter(32, 16, 200)
        sent = [frame.data for capture in worker.captures for frame in capture.frames]
        assert sent == [painter.draw(number) for number in range(1, 13)]
        known = read_receipts(result.stdout.splitlines())
        assert {name: receipt.frames for name, receipt in known.items()} == {
            "f": 5,
            "f.2": 5,
            "f.3": 2,
        }
        result = await _run(url, *film_of_12, "--capture-id", "g")
        assert (result.exit_code, result.stderr) == (0, "")
        assert result.stdout == f"g: the worker has 12 frames, {size} bytes, in 3 captures\n"


async def test_a_capture_that_was_lost_is_told_and_the_film_goes_on() -> None:
    """On stderr at once and in the result; it makes the exit code 1."""
    seen: list[FakeWorker] = []

    async def cut_the_first(worker: FakeWorker) -> None:
        if len(seen) > 1:
            await worker.confirm()
        else:
            for _ in range(3):
                await worker.read_until(bytes)
            await worker.stream.aclose()

    async with listening_worker(lambda stream: run_script(stream, cut_the_first, seen)) as url:
        asked = ("pattern:32x16?frames=40", "--fps", "100", "--capture-id", "f", *USER)
        result = await _run(url, *asked, "--retry", "--json")
    assert result.exit_code == 1
    lost, rest, whole = map(json.loads, result.stdout.splitlines())
    assert (lost["capture_id"], rest["capture_id"]) == ("f", "f.2")
    assert lost["error_code"] is None
    assert 3 <= lost["frames_sent"] == 40 - rest["frames"]
    assert (whole["captures"], whole["captures_lost"], whole["frames_sent"]) == (2, 1, 40)
    assert whole["frames_confirmed"] == rest["frames"] == len(seen[1].frames)
    first, *_ = result.stderr.splitlines()
    assert first.startswith("f: lost, ")
    assert "sent and not confirmed" in first
    assert not {*seen[0].frames} & {*seen[1].frames}
    assert list(read_receipts(result.stdout.splitlines())) == ["f.2"]


async def test_without_retry_a_loss_is_the_end() -> None:
    """As ever; `--split` alone tries nothing again."""
    seen: list[FakeWorker] = []
    async with listening_worker(lambda stream: run_script(stream, _cut, seen)) as url:
        result = await _run(url, "pattern:32x16", "--fps", "100", *USER)
    assert result.exit_code == 1
    assert len(seen) == 1


@pytest.mark.timeout(240)  # its leads alone may take more than a test is given
async def test_it_starts_when_it_is_told_to() -> None:
    """And says how well the instant is known; frames of a pipe that come before it pass by."""
    async with _worker() as (worker, url):
        for lead_s in (10, 30, 90):  # a process takes a while to begin, beside others
            at = worker.now(lead_s)
            result = await _run(url, "pattern:32x16?frames=3", "--start-at", at, *USER)
            if "over by the worker's clock" not in result.stderr:
                break
        assert result.exit_code == 0
        assert result.stderr.startswith(f"started on {at}, to within ")
        frames = worker.captures[0].frames
        start = Timestamp.parse(at).ns
        assert start - 5e8 < frames[0].ingest_ns < start + 10e9
        result = await _run(url, "pattern:32x16", "--start-at", worker.now(-5), *USER)
        assert result.exit_code == 1
        assert "over by the worker's clock" in result.stderr
        result = await _run(url, "pattern:32x16", "--start-at", "soon", *USER)
        assert result.exit_code == 2


async def test_what_a_pipe_gives_before_the_start_is_left_out(jpegs: list[Path]) -> None:
    """A camera films on while its rig waits: those pictures are not of the time asked for."""
    picture = jpegs[0].read_bytes()
    async with _worker() as (worker, url):
        at = Timestamp.parse(worker.now(10)).ns
        process = await _spawn(
            url,
            *("-", "--json", "--start-at", Timestamp.from_ns(at).text),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        before = 0
        async with process.stdin:
            # Until the rig has opened its capture, and to the start; the pipe is empty by then.
            while Timestamp.parse(worker.now()).ns < at:
                if not worker.captures:
                    await process.stdin.send_all(picture)
                    before += 1
                await trio.sleep(0.1)
            await trio.sleep(0.5)
            for path in jpegs[1:]:
                await process.stdin.send_all(path.read_bytes())
        told = json.loads(await process.stdout.receive_some())
        assert await process.wait() == 0
        assert told["left_out"] == {"early_images": before}
        assert [frame.data for frame in worker.captures[0].frames] == [
            path.read_bytes() for path in jpegs[1:]
        ]


async def _spawn(url: str, *arguments: str, **options: Any) -> Any:
    return await trio.lowlevel.open_process(
        [sys.executable, "-m", "cfw.cli", "send", url, *USER, *arguments], **options
    )


async def test_frames_of_a_pipe_go_as_they_come(jpegs: list[Path]) -> None:
    """Neither held back for the frame rate nor for the end of the pipe."""
    seen: list[FakeWorker] = []
    arrived = trio.Event()

    async def script(worker: FakeWorker) -> None:
        await worker.read_until(bytes)
        await worker.read_until(bytes)
        arrived.set()
        await worker.confirm()

    async with listening_worker(lambda stream: run_script(stream, script, seen)) as url:
        process = await _spawn(url, "-", "--fps", "1", stdin=subprocess.PIPE)
        with trio.fail_after(PATIENCE_S):
            await process.stdin.send_all(jpegs[0].read_bytes() + jpegs[1].read_bytes())
            await arrived.wait()
            await process.stdin.aclose()
            assert await process.wait() == 0
    assert len(seen[0].frames) == 2


async def test_ctrl_c_leaves_files_open_and_says_so() -> None:
    """Exit code 130, no traceback, and the capture is not closed as if it were whole."""
    seen: list[FakeWorker] = []
    ended = trio.Event()

    async def script(worker: FakeWorker) -> None:
        await worker.read_until(bytes)
        process.send_signal(signal.SIGINT)
        await worker.read_to_end()
        ended.set()

    async with listening_worker(lambda stream: run_script(stream, script, seen)) as url:
        arguments = ("pattern:32x16?frames=100000", "--capture-id", "c1")
        process = await _spawn(url, *arguments, stderr=subprocess.PIPE)
        with trio.fail_after(PATIENCE_S):
            told = b"".join([part async for part in process.stderr])
            assert await process.wait() == 130
            await ended.wait()
    words = (
        rb"c1: ended by Ctrl-C without a receipt; \d+ frames? of it were sent and not confirmed"
    )
    assert re.fullmatch(words, told.strip()), told
    assert {type(m) for m in seen[0].messages} == {CaptureOpen, CaptureFrameMeta}


@pytest.mark.parametrize("confirms", [True, False])
async def test_ctrl_c_closes_a_pipe_that_has_no_end(jpegs: list[Path], confirms: bool) -> None:
    """With a receipt, or at the second Ctrl-C without one; 130 either way."""
    seen: list[FakeWorker] = []

    async def script(worker: FakeWorker) -> None:
        await worker.read_until(bytes)
        process.send_signal(signal.SIGINT)
        if confirms:
            await worker.confirm()
        else:
            await worker.read_until(CaptureClose)
            process.send_signal(signal.SIGINT)
            await worker.read_to_end()

    async with listening_worker(lambda stream: run_script(stream, script, seen)) as url:
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        process = await _spawn(url, "-", "--capture-id", "c1", **pipes)
        with trio.fail_after(PATIENCE_S):
            # Two: it is the beginning of the next one that ends a picture.
            await process.stdin.send_all(2 * jpegs[0].read_bytes())
            out = b"".join([part async for part in process.stdout])
            err = b"".join([part async for part in process.stderr])
            assert await process.wait() == 130
        await process.stdin.aclose()
    first, *rest = err.decode().splitlines()
    assert first == "closing what runs, in at most 10 s; Ctrl-C again ends it"
    if confirms:
        assert re.match(rb"c1: the worker has \d frames?, \d+ bytes", out), out
        assert rest == []
    else:
        assert out == b""
        assert rest[0].startswith("c1: ended by Ctrl-C without a receipt; ")
    assert CaptureClose in {type(m) for m in seen[0].messages}


@pytest.mark.parametrize("is_wanted", [True, False])
async def test_progress_on_a_terminal(is_wanted: bool) -> None:
    """Frames, bytes and rate are shown on stderr while the capture runs."""
    pty = pytest.importorskip("pty")
    master, slave = pty.openpty()
    arguments = ["pattern:32x16", "--frames", "8"] + ["--no-progress"] * (not is_wanted)
    seen: list[FakeWorker] = []
    try:
        async with listening_worker(
            lambda stream: run_script(stream, FakeWorker.confirm, seen)
        ) as url:
            environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
            process = await _spawn(
                url, *arguments, stderr=slave, stdout=subprocess.PIPE, env=environment
            )
            with trio.fail_after(PATIENCE_S):
                told = b"".join([part async for part in process.stdout])
                assert await process.wait() == 0
        os.write(slave, b"the end")
        shown = os.read(master, 100_000)
    finally:
        os.close(master)
        os.close(slave)
    assert told.endswith(b" bytes\n")
    assert (b"8 frames" in shown) == is_wanted
    assert (b" fps" in shown) == is_wanted

"""`cfw tap` against a scripted feed on loopback."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import attrs
import pytest
import trio
from click.testing import CliRunner, Result
from trio_websocket import ConnectionClosed

from cfw.cli import main
from schemas import CameraFeedWorkerFeed, parse_feed, to_json
from tests.patience import PATIENCE_S
from tests.unit.client.fake_worker import (
    HOSTILE,
    JPEG,
    FakeWorker,
    Script,
    feed_messages,
    listening_worker,
    run_script,
)

OPENED, FRAME, CLOSED, ABORTED = feed_messages()
CAPTURE = (OPENED, FRAME, JPEG, FRAME, JPEG, CLOSED)
GONE = "Error: the worker closed the feed; with --reconnect this waits for the next one\n"


def _feed(
    *items: CameraFeedWorkerFeed | bytes, code: int | None = 1001, reason: str = "the reason"
) -> Script:
    """A feed of these messages that then closes, or stays open if the code is None."""

    async def script(worker: FakeWorker) -> None:
        with suppress(ConnectionClosed):  # tap leaves as soon as it has seen enough
            for item in items:
                text = item if isinstance(item, bytes) else to_json(item)
                await worker.connection.send_message(text)
        if code is None:
            await worker.read_to_end()
        else:
            await worker.close(code, reason)

    return script


@asynccontextmanager
async def _serve(script: Script, seen: list[FakeWorker]) -> AsyncIterator[str]:
    async with listening_worker(lambda stream: run_script(stream, script, seen)) as url:
        yield url.replace("ws://", "http://")


async def _tap(script: Script, *arguments: str) -> tuple[Result, FakeWorker]:
    seen: list[FakeWorker] = []
    async with _serve(script, seen) as url:
        command = partial(CliRunner().invoke, main, ["tap", url, *arguments])
        result = await trio.to_thread.run_sync(command)
    return result, seen[0]


def told(result: Result) -> str:
    """Standard error behind the line that every tap begins with."""
    first, _, rest = result.stderr.partition("\n")
    assert first.startswith("connected to "), result.stderr
    return rest


async def _spawn(url: str, *arguments: str, **options: Any) -> Any:
    return await trio.lowlevel.open_process(
        [sys.executable, "-m", "cfw.cli", "tap", url, *arguments], **options
    )


async def test_mjpeg() -> None:
    """The images back to back and nothing else; a worker that goes away is a failure."""
    result, worker = await _tap(_feed(*CAPTURE), "--captures", "1")
    assert (result.exit_code, result.stdout_bytes, told(result)) == (0, JPEG * 2, "")
    result, worker = await _tap(_feed(*CAPTURE))
    assert (result.exit_code, result.stdout_bytes, told(result)) == (1, JPEG * 2, GONE)
    assert worker.path == "/feed?mode=lossless"


async def test_json() -> None:
    """One line per message, each a message of the feed."""
    result, _ = await _tap(_feed(*CAPTURE), "--format", "json", "--captures", "1")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert [parse_feed(line) for line in lines] == [OPENED, FRAME, FRAME, CLOSED]
    assert all("event" in json.loads(line) for line in lines)


async def test_nothing_that_a_worker_says_moves_the_cursor() -> None:
    """What it escapes, in ids and details, parses to what it was; each message is one line."""
    opened = attrs.evolve(OPENED, user_id=HOSTILE, session_id=HOSTILE)
    aborted = attrs.evolve(ABORTED, user_id=HOSTILE, detail=HOSTILE)
    result, _ = await _tap(_feed(opened, aborted), "--format", "json", "--captures", "1")
    lines = result.stdout.removesuffix("\n").split("\n")
    assert [parse_feed(line) for line in lines] == [opened, aborted]
    for line in (*lines, *result.stderr.removesuffix("\n").split("\n")):
        assert line.isprintable(), line
    assert told(result).count("\n") == 1
    closing, _ = await _tap(_feed(*CAPTURE, code=1008, reason=HOSTILE))
    assert told(closing).removesuffix("\n").isprintable()


async def test_what_is_asked_for() -> None:
    """Capture and mode reach the worker."""
    result, worker = await _tap(_feed(*CAPTURE), "--mode", "live", "--capture-id", "c:1")
    assert result.exit_code == 0
    assert worker.path == "/feed?capture_id=c%3A1&mode=live"


async def test_stops_after_so_many_captures() -> None:
    """Aborted ones count, and are told on stderr."""
    script = _feed(*CAPTURE, OPENED, ABORTED, OPENED, code=None)
    with trio.fail_after(PATIENCE_S):
        result, worker = await _tap(script, "--captures", "2")
    assert result.exit_code == 0
    assert result.stdout_bytes == JPEG * 2
    assert told(result) == "capture c1 was aborted: client_disconnected: gone\n"
    assert worker.close_code == 1006


async def test_feed_ends_before_so_many_captures() -> None:
    """Fewer than asked for is a failure."""
    result, _ = await _tap(_feed(*CAPTURE), "--captures", "2")
    assert result.exit_code == 1
    assert told(result) == GONE.replace(";", " after 1 of 2 captures;")


async def test_reconnect_waits_for_the_next_worker() -> None:
    """It says what it knows of the time between; of one never reached it says no more."""
    feeds = [_feed(*CAPTURE), _feed(*CAPTURE, code=1008), _feed(*CAPTURE, code=None)]
    seen: list[FakeWorker] = []

    async def script(worker: FakeWorker) -> None:
        await feeds.pop(0)(worker)

    async with _serve(script, seen) as url:
        arguments = ["tap", url, "--reconnect", "--captures", "3"]
        command = partial(CliRunner().invoke, main, arguments)
        result = await trio.to_thread.run_sync(command)
    assert (result.exit_code, result.stdout_bytes) == (0, JPEG * 6)
    lines = told(result).splitlines()
    assert lines[0] == "the worker closed the feed; trying again"
    assert lines[2] == "the worker closed the feed with code 1008 (the reason); trying again"
    for line in (lines[1], lines[3]):
        assert re.fullmatch(
            r"connected again after \d+\.\d s; what was sent meanwhile is missing", line
        )
    # Nobody listens there any more.
    result = await trio.to_thread.run_sync(command)
    assert result.exit_code == 1
    assert "trying again" not in result.stderr


@pytest.mark.parametrize("mode", ["lossless", "live"])
async def test_an_output_that_nobody_reads_is_told(mode: str) -> None:
    """Where captures wait for it, and once; a live feed holds nothing up."""
    large = JPEG + bytes(500_000 - len(JPEG))
    text = to_json(FRAME).replace(f'"byte_length":{len(JPEG)}', f'"byte_length":{len(large)}')

    async def script(worker: FakeWorker) -> None:
        with suppress(ConnectionClosed):
            await worker.connection.send_message(text)
            await worker.connection.send_message(large)
            await worker.read_to_end()

    async with _serve(script, []) as url:
        process = await _spawn(
            url, "--mode", mode, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        err = b""
        with trio.move_on_after(PATIENCE_S if mode == "lossless" else 3):
            while b"--mode live" not in err:
                err += await process.stderr.receive_some()
        process.kill()
        await process.wait()
    assert (b"captures wait for this reader" in err) == (mode == "lossless"), err


async def test_feed_that_breaks() -> None:
    """The worker's reason is told; what came before is written."""
    result, _ = await _tap(_feed(*CAPTURE, code=1008))
    assert result.exit_code == 1
    assert result.stdout_bytes == JPEG * 2
    assert told(result) == "Error: the worker closed the feed with code 1008 (the reason)\n"


async def test_nobody_listens() -> None:
    """Exit code 1 and the address."""
    async with listening_worker(trio.aclose_forcefully) as url:
        pass
    result = await trio.to_thread.run_sync(
        partial(CliRunner().invoke, main, ["tap", url.replace("ws", "http", 1)])
    )
    assert result.exit_code == 1
    assert f"Error: cannot connect to {url[5:]}/feed: " in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [["127.0.0.1:1"], ["ws://h", "--mode", "all"], ["ws://h", "--captures", "0"]],
)
def test_wrong_usage(arguments: list[str]) -> None:
    """Exit code 2."""
    result = CliRunner().invoke(main, ["tap", *arguments])
    assert result.exit_code == 2
    assert "Error: " in result.stderr


async def test_closed_pipe() -> None:
    """A reader that has seen enough ends it with one line more, and exit code 0."""
    seen: list[FakeWorker] = []

    async def endless(worker: FakeWorker) -> None:
        with suppress(ConnectionClosed):
            while True:
                await worker.connection.send_message(to_json(FRAME))
                await worker.connection.send_message(JPEG)

    async with _serve(endless, seen) as url:
        process = await _spawn(url, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        with trio.fail_after(PATIENCE_S):
            assert (await process.stdout.receive_some(2)) == JPEG[:2]
            await process.stdout.aclose()
            errors = b"".join([part async for part in process.stderr])
            assert await process.wait() == 0
    assert errors.splitlines()[1:] == [b"the reader of standard output has left"], errors


@pytest.mark.parametrize("is_stalled", [False, True])
async def test_ctrl_c(is_stalled: bool) -> None:
    """Exit code 130 at once, also while the reader of the pipe takes nothing."""
    seen: list[FakeWorker] = []
    large = JPEG + bytes(1_000_000 - len(JPEG))
    text = to_json(FRAME).replace(f'"byte_length":{len(JPEG)}', f'"byte_length":{len(large)}')

    async def script(worker: FakeWorker) -> None:
        await worker.connection.send_message(text)
        await worker.connection.send_message(large)
        await worker.read_to_end()

    async with _serve(script, seen) as url:
        process = await _spawn(url, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        with trio.fail_after(PATIENCE_S):
            assert await process.stdout.receive_some(1) == JPEG[:1]
            if not is_stalled:
                rest = len(large) - 1
                while rest:
                    rest -= len(await process.stdout.receive_some(rest))
            process.send_signal(signal.SIGINT)
            errors = b"".join([part async for part in process.stderr])
            assert await process.wait() == 130
            await process.stdout.aclose()
    assert len(errors.splitlines()) == 1, errors


async def test_a_pipe_that_does_not_block() -> None:
    """A pipe that another process made non-blocking gets every byte all the same."""
    large = JPEG + bytes(500_000 - len(JPEG))
    text = to_json(FRAME).replace(f'"byte_length":{len(JPEG)}', f'"byte_length":{len(large)}')
    seen: list[FakeWorker] = []

    async def script(worker: FakeWorker) -> None:
        await worker.connection.send_message(text)
        await worker.connection.send_message(large)
        await worker.close(1001)

    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    async with _serve(script, seen) as url:
        process = await _spawn(url, stdout=write_end)
        os.close(write_end)
        got = b""
        async with trio.lowlevel.FdStream(read_end) as pipe:
            with trio.fail_after(PATIENCE_S):
                while data := await pipe.receive_some():
                    got += data
                assert await process.wait() == 1  # the worker has closed the feed
    assert got == large

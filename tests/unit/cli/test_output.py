"""Commands whose standard output is closed, full, or read no longer."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from schemas import to_json
from tests.patience import PATIENCE_S
from tests.unit.client.fake_worker import (
    JPEG,
    FakeWorker,
    Script,
    feed_messages,
    listening_worker,
    run_script,
)

CFW = [sys.executable, "-m", "cfw.cli"]
#: What is wrong with it -> the exit code of a command that has something to say, and why.
OUTPUTS = {
    "full": (1, "Error: standard output cannot be written: No space left on device\n"),
    "closed": (1, "Error: standard output is closed\n"),
    "left": (0, "the reader of standard output has left\n"),
}


@contextmanager
def output(wrong: str) -> Iterator[dict[str, Any]]:
    """Arguments for `Popen`: what to run it with, and its standard output."""
    if wrong == "closed":
        yield {"before": ["sh", "-c", 'exec "$@" >&-', "sh"]}
    elif wrong == "full":
        with Path("/dev/full").open("wb") as full:
            yield {"stdout": full}
    else:
        reader, writer = os.pipe()
        os.close(reader)
        yield {"stdout": writer}
        os.close(writer)


def ran(wrong: str, *arguments: str) -> tuple[int, str]:
    """Exit code and standard error."""
    with output(wrong) as options:
        command = [*options.pop("before", []), *CFW, *arguments]
        done = subprocess.run(
            command,
            **options,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
    return done.returncode, done.stderr


@pytest.mark.parametrize("wrong", OUTPUTS)
@pytest.mark.parametrize(
    "arguments",
    [
        ["config"],
        ["config", "--reference"],
        ["explain"],
        ["explain", "limit_fps_exceeded"],
        ["schema"],
        ["token"],
        ["demo", "--port", "0", "--admin-port", "0"],
        ["--help"],
        ["--version"],
    ],
    ids=" ".join,
)
def test_one_line_says_what_is_wrong_with_it(arguments: list[str], wrong: str) -> None:
    """No traceback, nothing about ignored exceptions; a reader that left is no failure."""
    assert ran(wrong, *arguments) == OUTPUTS[wrong]


async def against(script: Script, wrong: str, *arguments: str) -> tuple[int, str]:
    """Run a command with the URL of a scripted worker in the place of `URL`."""
    seen: list[FakeWorker] = []
    async with listening_worker(lambda stream: run_script(stream, script, seen)) as url:
        urls = {"WS": url, "HTTP": url.replace("ws", "http", 1)}
        words = [urls.get(word, word) for word in arguments]
        return await trio.to_thread.run_sync(partial(ran, wrong, *words))


SEND = ["send", "WS", "pattern:32x16", "--frames", "3", "--user", "ada", "--session", "s1"]


@pytest.mark.parametrize("wrong", OUTPUTS)
@pytest.mark.parametrize("options", [[], ["--json"]], ids=["", "json"])
async def test_a_receipt_that_was_got_is_told_all_the_same(
    options: list[str], wrong: str
) -> None:
    """On standard error, in one line; the capture has not failed."""
    code, told = await against(FakeWorker.confirm, wrong, *SEND, *options)
    assert (code, told.count("\n")) == (0, 1), told
    reason = OUTPUTS[wrong][1].removeprefix("Error: ").removesuffix("\n")
    assert told.startswith(f"{reason}: ")
    assert ('"frames": 3' if options else "has 3 frames") in told


@pytest.mark.parametrize("wrong", OUTPUTS)
async def test_a_capture_that_failed_has_failed_all_the_same(wrong: str) -> None:
    """The line says how."""

    async def script(worker: FakeWorker) -> None:
        await worker.read_until(bytes)
        await worker.close(1011, "too bad")

    code, told = await against(script, wrong, *SEND, "--json")
    assert (code, told.count("\n")) == (1, 1), told
    assert "too bad" in told


@pytest.mark.parametrize("wrong", OUTPUTS)
@pytest.mark.parametrize("output_format", ["mjpeg", "json"])
async def test_tap_ends_with_one_line(output_format: str, wrong: str) -> None:
    """Behind the one that says what it reads."""
    opened, frame, _, _ = feed_messages()

    async def script(worker: FakeWorker) -> None:
        for message in (to_json(opened), to_json(frame), JPEG):
            await worker.connection.send_message(message)
        await worker.read_to_end()

    code, told = await against(script, wrong, "tap", "HTTP", "--format", output_format)
    connected, _, rest = told.partition("\n")
    assert connected.startswith("connected to ")
    assert (code, rest) == OUTPUTS[wrong]


def test_images_are_not_written_to_a_terminal() -> None:
    """They are bytes of a stranger; the error says what to do instead."""
    controller, terminal = pty.openpty()
    try:
        done = subprocess.run(
            [*CFW, "tap", "http://127.0.0.1:1"],
            stdout=terminal,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
    finally:
        os.close(controller)
        os.close(terminal)
    assert done.returncode == 2
    assert "--format json" in done.stderr


@pytest.mark.parametrize("words", ["2>&-", "2>/dev/full", "0<&- >&- 2>&-"])
def test_standard_error_is_not_needed(words: str) -> None:
    """A command that works does so without it, and one that does not has its exit code."""
    for arguments, code in ((["token"], 0), (["explain", "nonsense"], 2)):
        command = ["sh", "-c", f'exec "$@" {words}', "sh", *CFW, *arguments]
        done = subprocess.run(command, stdout=subprocess.PIPE, timeout=PATIENCE_S, check=False)
        is_mute = ">&- " in words
        assert done.returncode == (1 if is_mute and code == 0 else code)
        assert bool(done.stdout) == (code == 0 and not is_mute)


def test_no_file_gets_the_number_of_a_stream_that_is_closed() -> None:
    """What code below Python says in its last moment would else reach a rig."""
    code = (
        "import os, socket, sys; from cfw.cli._streams import own_streams; own_streams();"
        "s = socket.socket(); sys.exit(s.fileno())"
    )
    command = ["sh", "-c", 'exec "$@" 0<&- >&- 2>&-', "sh", sys.executable, "-c", code]
    assert subprocess.run(command, timeout=PATIENCE_S, check=False).returncode > 2

"""SIGTERM to the commands that run on and on, also as the first process of a container."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.factories import jpeg
from tests.patience import PATIENCE_S, soon
from tests.serving import CFW, serving

if sys.platform == "win32":
    pytest.skip("Windows has no SIGTERM", allow_module_level=True)

TERMINATED = 143
RIG = ["--user", "ada", "--session", "s-1"]


def _unshared() -> list[str]:
    """What runs a command as process 1; nothing where that is not allowed."""
    if shutil.which("unshare") is None:
        return []
    command = ["unshare", "--user", "--map-root-user", "--fork", "--pid", "--kill-child"]
    tried = subprocess.run([*command, "true"], capture_output=True, check=False)
    return command if tried.returncode == 0 else []


UNSHARED = _unshared()
as_first = pytest.mark.parametrize(
    "prefix",
    [
        pytest.param([], id="as any process"),
        pytest.param(
            UNSHARED,
            id="as process 1",
            marks=pytest.mark.skipif(not UNSHARED, reason="`unshare --user` may not be run"),
        ),
    ],
)


@contextmanager
def command(prefix: list[str], *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command, as process 1 of its own if there is a prefix."""
    with subprocess.Popen(
        [*prefix, *CFW, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as running:
        try:
            yield running
        finally:
            running.kill()


def terminate(running: subprocess.Popen[bytes], prefix: list[str]) -> None:
    """SIGTERM to the command itself, which below `unshare` is its child."""
    pid = running.pid
    if prefix:
        with open(f"/proc/{pid}/task/{pid}/children") as children:
            pid = int(children.read().split()[0])
    os.kill(pid, signal.SIGTERM)


def code_of(running: subprocess.Popen[bytes]) -> tuple[int, bytes, bytes]:
    out, err = running.communicate(timeout=PATIENCE_S)
    assert b"Traceback" not in err, err
    return running.returncode, out, err


@as_first
def test_a_tap_ends_with_sigterm(prefix: list[str]) -> None:
    """With 143, while it waits for captures."""
    with serving() as worker, command(prefix, "tap", worker.admin) as running:
        assert running.stderr is not None
        assert b"connected" in running.stderr.readline()
        terminate(running, prefix)
        assert code_of(running)[0] == TERMINATED


@as_first
def test_a_demo_ends_with_sigterm(prefix: list[str]) -> None:
    """With 143; its worker and rigs go with it."""
    with command(prefix, "demo", "--port", "0", "--admin-port", "0") as running:
        assert running.stdout is not None
        while b"Ctrl-C ends it" not in running.stdout.readline():
            pass
        time.sleep(0.5)
        terminate(running, prefix)
        assert code_of(running)[0] == TERMINATED


@as_first
def test_a_camera_piped_in_has_its_receipt_after_sigterm(prefix: list[str]) -> None:
    """What it has sent is closed, while its pipe stays open; then 143."""
    with serving() as worker:
        with command(prefix, "send", worker.url, "-", *RIG, "--json") as running:
            assert running.stdin is not None
            for _ in range(3):
                running.stdin.write(jpeg())
            running.stdin.flush()
            wait_for_frames(worker.admin, 2)
            terminate(running, prefix)
            assert running.stdout is not None
            told = json.loads(running.stdout.readline())
            running.stdin.close()
            assert running.wait(PATIENCE_S) == TERMINATED
        assert told["close_code"] == 1000
        assert told["frames"] >= 2


@as_first
def test_files_that_are_cut_off_by_sigterm_are_no_whole_capture(prefix: list[str]) -> None:
    """No receipt and no close: the worker is told nothing, and the exit code is 143."""
    source = "pattern:?frames=1000"
    with serving() as worker:
        with command(prefix, "send", worker.url, source, *RIG, "--json") as running:
            wait_for_frames(worker.admin, 2)
            terminate(running, prefix)
            code, out, _ = code_of(running)
        assert (code, out) == (TERMINATED, b"")
        worker.next_line("capture.opened")
        line = worker.next_line("capture.")
        assert (line["event"], line["error_code"]) == (
            "capture.aborted",
            "client_disconnected",
        )


@as_first
def test_a_command_without_an_end_of_its_own_obeys_too(prefix: list[str]) -> None:
    """One that waits for a server which says nothing, for example."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"valkey://127.0.0.1:{silent.getsockname()[1]}"
        arguments = ["session", "set", "ada", "s-1", "active", "--url", url]
        with command(prefix, *arguments) as running:
            silent.settimeout(PATIENCE_S)
            peer, _ = silent.accept()
            with peer:
                terminate(running, prefix)
                code = running.wait(PATIENCE_S)
    assert code in (TERMINATED, -signal.SIGTERM)


def wait_for_frames(admin: str, count: int) -> None:
    """Wait until a running capture has so many frames."""

    def has_them() -> bool:
        with urllib.request.urlopen(f"{admin}/captures", timeout=PATIENCE_S) as answer:
            told = json.load(answer)
        captures = told["captures"] if isinstance(told, dict) else told
        return any(each["frames"] >= count for each in captures)

    soon(has_them)

"""`cfw serve` as a process: its ready line, its exit codes, its signals, its logs."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from cfw import code_in_use
from tests.factories import jpeg
from tests.whole.smoke.worker import closing, meta, opening

CFW = [sys.executable, "-m", "cfw.cli"]


@contextmanager
def process(*options: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """A `cfw serve` on free ports, and what its ready line says."""
    command = [*CFW, "serve", "--port", "0", "--admin-port", "0", "--log-format", "json"]
    with subprocess.Popen(
        [*command, "--session", "ada:s-1", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        try:
            assert running.stdout is not None
            line = running.stdout.readline()
            assert line, running.stderr and running.stderr.read()
            yield running, json.loads(line)
        finally:
            running.kill()


def ended(running: subprocess.Popen[str]) -> tuple[int, str, list[dict[str, Any]]]:
    """Exit code, standard output and the lines of the log."""
    out, err = running.communicate(timeout=30)
    return running.returncode, out, [json.loads(line) for line in err.splitlines()]


def test_it_boots_takes_a_capture_and_stops() -> None:
    """The route is there, a capture gets its receipt, SIGTERM ends with 0."""
    with process() as (running, ready):
        assert re.fullmatch(
            r"ws://127\.0\.0\.1:\d+/camera_feed_worker/capture", ready["capture"]
        )
        with urllib.request.urlopen(f"{ready['admin']}/readyz", timeout=10) as answer:
            assert json.load(answer) == {"status": "ready"}
        with connect(ready["capture"], proxy=None) as ws:
            for message in (opening(), meta(), jpeg(), closing()):
                ws.send(message)
            with pytest.raises(ConnectionClosed) as caught:
                ws.recv(timeout=10)
        assert caught.value.rcvd is not None
        assert (caught.value.rcvd.code, json.loads(caught.value.rcvd.reason)) == (
            1000,
            {"frames": 1, "bytes": 200},
        )
        running.send_signal(signal.SIGTERM)
        code, out, log = ended(running)
    assert (code, out) == (0, "")
    events = [line["event"] for line in log]
    assert (events[0], log[0]["build"]) == ("server.starting", code_in_use())
    assert [e for e in events if e.startswith("capture")] == [
        "capture.opened",
        "capture.closed",
    ]
    opened = next(line for line in log if line["event"] == "capture.opened")
    assert (opened["connection"], opened["capture_id"]) == (1, "cap-1")
    assert events[-2:] == ["server.draining", "server.stopped"]


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("wss://cams.example.org", "wss://cams.example.org/camera_feed_worker/capture"),
        (
            "wss://cams.example.org:8443/",
            "wss://cams.example.org:8443/camera_feed_worker/capture",
        ),
        ("ws://10.0.0.7/lab/in", "ws://10.0.0.7/lab/in"),
    ],
)
def test_behind_a_proxy_the_public_url_is_named(given: str, named: str) -> None:
    """The ready line and the pages name it; the worker listens where it did."""
    with process("--set", f"server.public_url={given}") as (_, ready):
        assert ready["public"] == named
        with urllib.request.urlopen(f"{ready['admin']}/info", timeout=10) as answer:
            assert json.load(answer)["capture_url"] == named
        with connect(ready["capture"], proxy=None) as ws:
            ws.send(opening())
            ws.send(closing())
            with pytest.raises(ConnectionClosed):
                ws.recv(timeout=10)


def test_a_second_signal_does_not_wait_for_captures() -> None:
    """SIGINT lets a capture run; another one aborts it with 1001, and the exit code is 0."""
    with process() as (running, ready):
        with connect(ready["capture"], proxy=None) as ws:
            ws.send(opening())
            assert running.stderr is not None
            events = [json.loads(running.stderr.readline())["event"] for _ in range(4)]
            told = ["server.limits", "connection.opened", "capture.opened"]
            assert events[1:] == told
            running.send_signal(signal.SIGINT)
            assert json.loads(running.stderr.readline())["event"] == "server.draining"
            with pytest.raises(OSError, match=r"refused|reset"):
                connect(ready["capture"], proxy=None)
            ws.send(meta())
            ws.send(jpeg())
            running.send_signal(signal.SIGINT)
            assert json.loads(ws.recv(timeout=10))["error_code"] == "server_shutdown"
            with pytest.raises(ConnectionClosed) as caught:
                ws.recv(timeout=10)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1001
        assert ended(running)[0] == 0


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--set", "limits.max_fps=abc"], "limits.max_fps: must be an integer"),
        (["--set", "limits.max_fsp=1"], "did you mean max_fps?"),
        (["--sink", "tape:"], "hub:, null:"),
        (["--port", "99999"], "0 (any free port) to 65535"),
        (["--session", "ada"], "USER:SESSION"),
        (["--config", "does-not-exist.toml"], "cannot be read"),
    ],
)
def test_a_wrong_configuration_exits_with_2(options: list[str], part: str) -> None:
    """One line names the key, the value and what is allowed; nothing has started."""
    ran = subprocess.run(
        [*CFW, "serve", *options], capture_output=True, text=True, timeout=30, check=False
    )
    assert (ran.returncode, ran.stdout) == (2, "")
    assert part in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("option", ["--port", "--admin-port"])
def test_a_port_in_use_exits_with_1(option: str) -> None:
    """The line says which address could not be had."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        other = {"--port": "--admin-port", "--admin-port": "--port"}[option]
        ran = subprocess.run(
            [*CFW, "serve", option, port, other, "0"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert ran.returncode == 1
    assert "cannot listen" in ran.stderr
    assert port in ran.stderr
    assert "Traceback" not in ran.stderr


def test_with_no_session_the_log_says_why_nobody_may_send() -> None:
    """Started without sessions the worker refuses every open, and warned at the start."""
    command = [*CFW, "serve", "--port", "0", "--admin-port", "off", "--log-format", "json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        try:
            assert running.stdout is not None
            ready = json.loads(running.stdout.readline())
            assert ready["admin"] is None
            with connect(ready["capture"], proxy=None) as ws:
                ws.send(opening())
                assert json.loads(ws.recv(timeout=10))["error_code"] == "session_invalid"
            running.send_signal(signal.SIGTERM)
            log = ended(running)[2]
        finally:
            running.kill()
    warning = next(line for line in log if line["level"] == "warning")
    assert warning["event"] == "sessions.static_empty"


def test_neither_payload_nor_secret_is_in_the_log() -> None:
    """At the most talkative level no frame byte, annotation or password of a URL appears."""
    url = "http://user:hunter2@127.0.0.1:9/check"
    command = ["--log-level", "debug", "--sessions", url]
    with subprocess.Popen(
        [*CFW, "serve", "--port", "0", "--admin-port", "off", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        try:
            assert running.stdout is not None
            match = re.search(r"ws://\S+capture", running.stdout.readline())
            assert match
            with connect(match[0], proxy=None) as ws:
                ws.send(opening(annotation={"intent": "a very private wave"}))
                assert json.loads(ws.recv(timeout=10))["error_code"] == "session_invalid"
            running.send_signal(signal.SIGTERM)
            out, err = running.communicate(timeout=30)
        finally:
            running.kill()
    assert "session.unreachable" in err
    for secret in ("hunter2", "very private wave"):
        assert secret not in out + err

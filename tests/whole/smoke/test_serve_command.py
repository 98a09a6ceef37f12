"""`cfw serve` as a process: its ready line, its exit codes, its signals, its logs."""

from __future__ import annotations

import json
import re
import signal
import socket
import urllib.request

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from cfw import code_in_use
from tests.factories import jpeg
from tests.patience import PATIENCE_S
from tests.serving import Served, refused, serving
from tests.whole.smoke.worker import closing, meta, opening


def test_it_boots_takes_a_capture_and_stops() -> None:
    """The route is there, a capture gets its receipt, SIGTERM ends with 0."""
    with serving() as worker:
        assert re.fullmatch(r"ws://127\.0\.0\.1:\d+/camera_feed_worker/capture", worker.url)
        with urllib.request.urlopen(f"{worker.admin}/readyz", timeout=PATIENCE_S) as answer:
            assert json.load(answer) == {"status": "ready"}
        with connect(worker.url, proxy=None) as ws:
            for message in (opening(), meta(), jpeg(), closing()):
                ws.send(message)
            with pytest.raises(ConnectionClosed) as caught:
                ws.recv(timeout=PATIENCE_S)
        assert caught.value.rcvd is not None
        assert (caught.value.rcvd.code, json.loads(caught.value.rcvd.reason)) == (
            1000,
            {"frames": 1, "bytes": 200},
        )
        code, out, log = worker.stopped()
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
    with serving("--set", f"server.public_url={given}") as worker:
        assert worker.ready["public"] == named
        with urllib.request.urlopen(f"{worker.admin}/info", timeout=PATIENCE_S) as answer:
            assert json.load(answer)["capture_url"] == named
        with connect(worker.url, proxy=None) as ws:
            ws.send(opening())
            ws.send(closing())
            with pytest.raises(ConnectionClosed):
                ws.recv(timeout=PATIENCE_S)


def test_a_second_signal_does_not_wait_for_captures() -> None:
    """SIGINT lets a capture run; another one aborts it with 1001, and the exit code is 0."""
    with serving() as worker:
        with connect(worker.url, proxy=None) as ws:
            ws.send(opening())
            events = [worker.next_line()["event"] for _ in range(4)]
            told = ["server.limits", "connection.opened", "capture.opened"]
            assert events[1:] == told
            worker.process.send_signal(signal.SIGINT)
            assert worker.next_line()["event"] == "server.draining"
            with pytest.raises(OSError, match=r"refused|reset"):
                connect(worker.url, proxy=None)
            ws.send(meta())
            ws.send(jpeg())
            worker.process.send_signal(signal.SIGINT)
            assert json.loads(ws.recv(timeout=PATIENCE_S))["error_code"] == "server_shutdown"
            with pytest.raises(ConnectionClosed) as caught:
                ws.recv(timeout=PATIENCE_S)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1001
        assert worker.ended()[0] == 0


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
    ran = refused(*options)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert part in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("option", ["--port", "--admin-port"])
def test_a_port_in_use_exits_with_1(option: str) -> None:
    """The line says which address could not be had."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ran = refused(option, port)
    assert ran.returncode == 1
    assert "cannot listen" in ran.stderr
    assert port in ran.stderr
    assert "Traceback" not in ran.stderr


def test_with_no_session_the_log_says_why_nobody_may_send() -> None:
    """Started without sessions the worker refuses every open, and warned at the start."""
    with serving("--admin-port", "off", sessions=()) as worker:
        assert worker.ready["admin"] is None
        with connect(worker.url, proxy=None) as ws:
            ws.send(opening())
            assert json.loads(ws.recv(timeout=PATIENCE_S))["error_code"] == "session_invalid"
        log = worker.stopped()[2]
    warning = next(line for line in log if line["level"] == "warning")
    assert warning["event"] == "sessions.static_empty"


def test_neither_payload_nor_secret_is_in_the_log() -> None:
    """At the most talkative level no frame byte, annotation or password of a URL appears."""
    url = "http://user:hunter2@127.0.0.1:9/check"
    loud = ["--log-level", "debug", "--log-format", "console", "--admin-port", "off"]
    with Served.start(*loud, "--sessions", url, sessions=()) as worker:
        match = re.search(r"ws://\S+capture", worker.first_line())
        assert match
        with connect(match[0], proxy=None) as ws:
            ws.send(opening(annotation={"intent": "a very private wave"}))
            assert json.loads(ws.recv(timeout=PATIENCE_S))["error_code"] == "session_invalid"
        worker.process.send_signal(signal.SIGTERM)
        worker.process.wait(PATIENCE_S)
        out, err = worker.out_file.read_text(), worker.said()
    assert "session.unreachable" in err
    for secret in ("hunter2", "very private wave"):
        assert secret not in out + err

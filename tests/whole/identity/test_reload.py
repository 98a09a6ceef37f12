"""SIGHUP, and files that cannot be read: a pipe, a file system that is gone."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from cfw.api.access import READ_S
from cfw.identity import make_token
from tests.factories import jpeg
from tests.patience import PATIENCE_S
from tests.serving import Served, refused, serving
from tests.unit.identity.certificates import issued
from tests.whole.hostile.figures import figure
from tests.whole.identity.test_process import film
from tests.whole.smoke.worker import closing, meta, opening

if sys.platform == "win32":
    pytest.skip("Windows has neither SIGHUP nor pipes in files", allow_module_level=True)


@contextmanager
def gone(path: Path) -> Iterator[None]:
    """A file whose `open` waits, as on a file system that does not answer: its lease is held.

    The kernel breaks it after /proc/sys/fs/lease-break-time, 45 s.
    """
    if not hasattr(fcntl, "F_SETLEASE"):
        pytest.skip("fcntl has no F_SETLEASE on this platform")
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    with path.open("r+b") as file:
        try:
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        except OSError as exc:
            pytest.skip(f"this file system leases no files: {exc}")
        try:
            yield
        finally:
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
            signal.signal(signal.SIGIO, before)


def receipt(ws: ClientConnection) -> dict[str, int]:
    """End a capture cleanly."""
    ws.send(closing())
    with pytest.raises(ConnectionClosed) as caught:
        ws.recv(timeout=PATIENCE_S)
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1000
    told: dict[str, int] = json.loads(caught.value.rcvd.reason)
    return told


@contextmanager
def begun(url: str, **options: Any) -> Iterator[ClientConnection]:
    """A capture of one frame that is not ended."""
    with connect(url, proxy=None, **options) as ws:
        for message in (opening(), meta(), jpeg()):
            ws.send(message)
        yield ws


@pytest.mark.parametrize("times", [1, 3])
def test_a_hang_up_with_nothing_to_read_again_ends_no_capture(times: int) -> None:
    """`systemctl reload` of a worker without tokens and certificates, in mid-capture."""
    with serving() as worker:
        with begun(worker.url) as ws:
            for _ in range(times):
                worker.process.send_signal(signal.SIGHUP)
                assert "no tokens" in worker.next_line("reload.nothing")["detail"]
            assert receipt(ws) == {"frames": 1, "bytes": 200}
        assert worker.stopped()[0] == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_the_end_of_the_terminal_lets_captures_finish(workers: int) -> None:
    """A window that is closed is a stop like another: with drain, and exit code 0."""
    master, slave = pty.openpty()
    at_terminal = "import fcntl, os, sys, termios; fcntl.ioctl(2, termios.TIOCSCTTY, 0); "
    at_terminal += "os.execv(sys.argv[1], sys.argv[1:])"
    with Served.start(
        *("--sink", "null:", "--workers", str(workers)),
        prefix=[sys.executable, "-c", at_terminal],
        stderr=slave,
        start_new_session=True,
    ) as worker:
        os.close(slave)
        worker.until_ready()
        with begun(worker.url) as ws:
            os.close(master)  # the window is closed
            time.sleep(0.5)
            assert receipt(ws) == {"frames": 1, "bytes": 200}
        assert worker.ended()[0] == 0


def test_a_pipe_as_a_file_of_tokens_ends_the_start(tmp_path: Path) -> None:
    """It would wait for whoever writes it, at the start and again at each SIGHUP."""
    path = tmp_path / "rigs.tokens"
    os.mkfifo(path)
    ran = refused("--admin-port", "off", "--token-file", str(path))
    assert ran.returncode == 2
    assert f"server.token_file: {path}: is a pipe; it has to be a regular file" in ran.stderr


def test_a_pipe_in_the_place_of_tokens_leaves_the_old_ones_and_is_said(
    tmp_path: Path,
) -> None:
    """The reload ends at once, and the next one takes the file that is there then."""
    old, new = make_token(), make_token()
    path = tmp_path / "rigs.tokens"
    path.write_text(old)
    with serving("--token-file", str(path)) as worker:
        path.unlink()
        os.mkfifo(path)
        worker.process.send_signal(signal.SIGHUP)
        told = worker.next_line("reload.failed")
        assert (told["key"], told["level"]) == ("server.token_file", "error")
        assert "is a pipe" in told["detail"]
        assert "also those that are no longer in the file" in told["detail"]
        assert film(worker.url, old) == 1000
        path.unlink()
        path.write_text(new)
        worker.process.send_signal(signal.SIGHUP)
        assert worker.next_line("reload.done")["key"] == "server.token_file"
        assert film(worker.url, old) == 401
        assert film(worker.url, new) == 1000


def test_a_reload_that_hangs_is_said_and_is_not_the_last(tmp_path: Path) -> None:
    """A capture goes on meanwhile, and the next SIGHUP reads what is there then."""
    old, new, last = (make_token() for _ in range(3))
    path = tmp_path / "rigs.tokens"
    path.write_text(old)
    patient = ["--set", "times.idle_s=60", "--set", "limits.max_duration_s=60"]
    with serving("--token-file", str(path), *patient) as worker:
        auth = {"Authorization": f"Bearer {old}"}
        path.write_text(new)
        with gone(path):
            with begun(worker.url, additional_headers=auth) as ws:
                began = time.monotonic()
                worker.process.send_signal(signal.SIGHUP)
                told = worker.next_line("reload.failed")
                took = time.monotonic() - began
                assert receipt(ws) == {"frames": 1, "bytes": 200}
            assert told["key"] == "server.token_file"
            assert f"{path} was not read within {READ_S:g} s" in told["detail"]
            assert "the old tokens stay in force" in told["detail"]
            assert film(worker.url, old) == 1000
            # The file comes to its place anew, as on a file system that was mounted again.
            (tmp_path / "new").write_text(last)
            (tmp_path / "new").replace(path)
            worker.process.send_signal(signal.SIGHUP)
            worker.next_line("reload.done")
        time.sleep(0.3)  # the read that hung comes back with what is not so any more
        assert [film(worker.url, token) for token in (old, new, last)] == [401, 401, 1000]
    figure(
        "reload of tokens on a file system that is gone",
        f"said after {took:.1f} s, captures go on; the next SIGHUP counts",
    )


@pytest.mark.parametrize("hung", ["server.token_file", "server.key_file", "admin.cert_file"])
def test_a_start_that_hangs_names_the_file_and_its_key(tmp_path: Path, hung: str) -> None:
    """With exit code 2, after `READ_S`."""
    (tmp_path / "rigs.tokens").write_text(make_token())
    files = issued(tmp_path)
    paths = {"server.token_file": tmp_path / "rigs.tokens"}
    for section in ("server", "admin"):
        paths |= {f"{section}.cert_file": files.cert, f"{section}.key_file": files.key}
    section = hung.split(".")[0]
    words = []
    for key, path in paths.items():
        if key.startswith(section):
            words += ["--set", f"{key}={path}"]
    with gone(paths[hung]):
        ran = refused(*words)
    assert ran.returncode == 2
    assert f"{hung}: {paths[hung]} was not read within {READ_S:g} s" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("workers", [1, 2])
def test_a_start_that_hangs_obeys_sigterm(tmp_path: Path, workers: int) -> None:
    """Long before its deadline."""
    path = tmp_path / "rigs.tokens"
    path.write_text(make_token())
    words = ["--token-file", str(path), "--sink", "null:", "--workers", str(workers)]
    with gone(path), Served.start(*words, sessions=()) as worker:
        for _ in range(1 if workers == 1 else workers + 1):
            worker.next_line("server.starting")
        time.sleep(0.5)
        code, _, log = worker.stopped()
    # At its deadline the start would end with 2, and this would not be said.
    assert code == 0
    stops = [line["detail"] for line in log if line["event"] == "server.stopped"]
    assert stops == ["it was asked to before it was ready"] * len(stops)
    assert len(stops) >= workers

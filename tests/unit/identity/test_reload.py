"""SIGHUP, and files that cannot be read: a pipe, a file system that is gone."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest
import trio
from structlog.testing import capture_logs
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from cfw.api.access import MAX_HANGING, READ_S, Access, Door, Kept, Reader, Reload
from cfw.api.config import ConfigError
from cfw.identity import (
    Gate,
    Origins,
    TlsFileError,
    TlsFiles,
    TokenFileError,
    Tokens,
    make_token,
)
from cfw.identity.files import MAX_FILE_BYTES, read_regular
from tests.factories import jpeg
from tests.patience import PATIENCE_S, until
from tests.serving import Served, refused, serving
from tests.unit.identity.certificates import issued
from tests.unit.identity.test_process import film
from tests.whole.hostile.figures import figure
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


async def test_reads_that_hang_are_a_bounded_number_of_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """n of them hang, the one behind them is not begun, and one is once they came back."""
    monkeypatch.setattr("cfw.api.access.READ_S", 0.5)
    path = tmp_path / "file"
    path.write_text("x")
    reader, release = Reader("server", {"token_file": path}), threading.Event()
    begun: list[int] = []

    def hang() -> bool:
        begun.append(1)
        return release.wait(PATIENCE_S)

    async def fail() -> None:
        with pytest.raises(ConfigError, match=r"was not read within 0\.5 s") as caught:
            await reader.read(hang)
        assert caught.value.key == "server.token_file"

    with trio.fail_after(PATIENCE_S):
        while len(begun) < MAX_HANGING:
            await fail()
    await fail()
    assert len(begun) == MAX_HANGING
    release.set()
    monkeypatch.setattr("cfw.api.access.READ_S", float(PATIENCE_S))
    assert await reader.read(hang)


async def test_a_file_that_hangs_holds_up_no_other(tmp_path: Path) -> None:
    """The other listener's is in force while the first one is still waited for."""
    path, release = tmp_path / "tokens", threading.Event()
    path.write_text(make_token())
    path.chmod(0o600)
    good, hanging = Tokens(path), Tokens(path)

    def hang() -> NoReturn:
        release.wait(PATIENCE_S)
        raise TokenFileError(path, "late")

    hanging.read_again = hang  # type: ignore[method-assign]
    at_server, at_admin = (
        Door(None, None, (Kept(Reader(name, {"token_file": path}), tokens, "old ones stay"),))
        for name, tokens in (("server", hanging), ("admin", good))
    )
    reload = Reload()
    access = Access(at_server, at_admin, Gate(Origins(()), None), reload)
    with capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(access.keep)
            reload.request()
            await until(lambda: logs)
            assert [line["event"] for line in logs] == ["reload.done"]
            release.set()
            await until(lambda: len(logs) == 2)
            assert logs[1]["detail"] == f"{path}: late; old ones stay"
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("size", [MAX_FILE_BYTES - 1, MAX_FILE_BYTES, MAX_FILE_BYTES + 1])
def test_a_file_is_read_up_to_a_length(tmp_path: Path, size: int) -> None:
    """n - 1 and n are read, n + 1 is refused."""
    path = tmp_path / "file"
    path.write_bytes(b"#" * size)
    if size <= MAX_FILE_BYTES:
        assert len(read_regular(path)[0]) == size
    else:
        with pytest.raises(TokenFileError, match="is larger than"):
            Tokens(path)


@pytest.mark.parametrize("kind", ["a pipe", "a directory", "a device"])
def test_only_a_regular_file_is_read(tmp_path: Path, kind: str) -> None:
    """For tokens and for certificates, which are named by their key."""
    path = {"a device": Path("/dev/zero"), "a directory": tmp_path}.get(kind, tmp_path / "pipe")
    if kind == "a pipe":
        os.mkfifo(path)
    with pytest.raises(TokenFileError, match=f"{path}: is {kind}; it has to be a regular file"):
        Tokens(path)
    with pytest.raises(TlsFileError, match=f"^cert_file: {path} is {kind}; it has to be"):
        TlsFiles(path, path)

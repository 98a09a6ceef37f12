"""`cfw serve` as a process: what its files of tokens do to a whole run, logs included."""

from __future__ import annotations

import signal
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from cfw.identity import make_token
from tests.factories import jpeg
from tests.patience import PATIENCE_S
from tests.serving import refused, serving
from tests.unit.identity.certificates import client_context, issued
from tests.whole.smoke.worker import closing, meta, opening

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="Windows has no SIGHUP, by which files are read again"
)


def film(url: str, token: str, **options: Any) -> int:
    """One capture; the close code, or the HTTP status it is refused with."""
    try:
        with connect(
            url,
            proxy=None,
            compression=None,
            additional_headers={"Authorization": f"Bearer {token}"},
            **options,
        ) as ws:
            for message in (opening(), meta(), jpeg(), closing()):
                ws.send(message)
            while True:
                ws.recv()
    except InvalidStatus as exc:
        return exc.response.status_code
    except ConnectionClosed as exc:
        return 0 if exc.rcvd is None else exc.rcvd.code


def get(url: str, token: str) -> str:
    """A page of the admin listener."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        text: str = answer.read().decode()
    return text


def test_no_token_shows_in_anything_a_whole_run_says(tmp_path: Path) -> None:
    """Captures, refusals, bad files, reloads, an abort: in no log, page or metric."""
    rig, bound, admin, wrong, late = tokens = [make_token() for _ in range(5)]
    rigs, admins = tmp_path / "rigs.tokens", tmp_path / "admin.tokens"
    rigs.write_text(f"{rig}\n{bound} bob\n")
    admins.write_text(admin)
    files = issued(tmp_path)
    options = ["--token-file", str(rigs), "--set", f"admin.token_file={admins}"]
    options += ["--cert-file", str(files.cert), "--key-file", str(files.key)]
    context = client_context()
    with serving(*options, "--log-level", "debug") as worker:
        url, said = worker.url, [str(worker.ready)]
        assert url.startswith("wss://")
        assert film(url, rig, ssl=context) == 1000
        assert film(url, bound, ssl=context) == 1008
        assert film(url, wrong, ssl=context) == 401
        assert film(f"{url}?token={wrong}", wrong, ssl=context) == 401
        offered: Any = ["cfw.v1", f"cfw.bearer.{late}"]
        assert film(url, wrong, ssl=context, subprotocols=offered) == 401
        rigs.write_text(f"{late}\n{late}\n")
        worker.process.send_signal(signal.SIGHUP)
        time.sleep(0.5)
        rigs.write_text(f"{late}\n")
        deadline = time.monotonic() + PATIENCE_S
        while film(url, late, ssl=context) != 1000:
            assert time.monotonic() < deadline, "the new token never counted"
            worker.process.send_signal(signal.SIGHUP)
            time.sleep(0.05)
        assert film(url, rig, ssl=context) == 401
        said += [get(worker.admin + path, admin) for path in ("/metrics", "/ended", "/info")]
        code, out, logs = worker.stopped()
    assert code == 0
    said += [out, *map(repr, logs)]
    assert not [text for text in said if any(token in text for token in tokens)]
    events = {line["event"] for line in logs}
    assert {"reload.failed", "reload.done", "connection.refused", "capture.aborted"} <= events


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "server.token_file: {path}: holds no token"),
        ("secret-of-mine\n", "{path}: line 1: a token has at least 22 characters, not 14"),
    ],
)
def test_a_bad_file_ends_the_start_with_2(tmp_path: Path, text: str, words: str) -> None:
    """One line says which, where and why, and holds no word of the file."""
    path = tmp_path / "rigs.tokens"
    path.write_text(text)
    ran = refused("--token-file", str(path))
    assert ran.returncode == 2
    assert words.format(path=path) in ran.stderr
    assert "secret-of-mine" not in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_key_with_a_passphrase_ends_the_start_instead_of_asking(tmp_path: Path) -> None:
    """Nobody sits at the terminal of a service."""
    files = issued(tmp_path)
    key = serialization.load_pem_private_key(files.key.read_bytes(), None)
    files.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"x"),
        )
    )
    ran = refused("--cert-file", str(files.cert), "--key-file", str(files.key))
    assert ran.returncode == 2
    assert "server.key_file: the key has a passphrase; give one without" in ran.stderr

"""The client library and the commands at a worker that asks who they are."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from cfw.client import (
    AccessDenied,
    ConnectionRefused,
    open_capture,
    open_capture_sync,
    open_feed,
)
from cfw.identity import make_token
from tests.factories import jpeg
from tests.patience import PATIENCE_S
from tests.unit.identity.certificates import Files, bound_context, client_context, issued
from tests.whole.smoke.worker import Worker, running

TOKEN, WRONG = make_token(), make_token()
WHO: dict[str, Any] = {"user_id": "ada", "session_id": "s-1"}
WHO |= {"width": 640, "height": 480, "fps": 15}


@pytest.fixture
def token_file(tmp_path: Path) -> str:
    """One token, for both listeners."""
    path = tmp_path / "tokens"
    path.write_text(f"{TOKEN} ada\n")
    path.chmod(0o600)
    return str(path)


def guarded(files: Files, token_file: str) -> dict[str, Any]:
    """TLS and tokens at both listeners."""
    settings = files.settings() | files.settings("admin")
    return settings | {"server__token_file": token_file, "admin__token_file": token_file}


async def test_a_rig_and_a_consumer_with_token_and_certificate(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, token_file: str
) -> None:
    """Both ends of one capture; the synchronous twin likewise."""
    with trio.fail_after(PATIENCE_S):
        async with running(monkeypatch, **guarded(issued(tmp_path), token_file)) as worker:
            assert worker.addresses.admin is not None
            access: dict[str, Any] = {"token": TOKEN, "ssl_context": client_context()}
            async with open_feed(worker.addresses.admin, **access) as feed:
                async with open_capture(worker.addresses.capture, **WHO, **access) as capture:
                    await capture.send_frame(jpeg())
                events = [(await anext(feed))[0].event for _ in range(3)]
            assert events == ["capture.opened", "capture.frame", "capture.close"]
            film = partial(film_sync, worker.addresses.capture, access)
            assert await trio.to_thread.run_sync(film) == 1


def film_sync(url: str, access: dict[str, Any]) -> int:
    with open_capture_sync(url, **WHO, **access) as capture:
        capture.send_frame(jpeg())
    assert capture.receipt is not None
    return capture.receipt.frames


@pytest.mark.parametrize("token", [None, WRONG], ids=["none", "wrong"])
async def test_who_is_not_let_in_is_told_by_an_exception_of_its_own(
    monkeypatch: pytest.MonkeyPatch, token_file: str, token: str | None
) -> None:
    """With the status and the worker's words, and no word of the token."""
    both: dict[str, Any] = {"server__token_file": token_file, "admin__token_file": token_file}
    async with running(monkeypatch, **both) as worker:
        assert worker.addresses.admin is not None
        with pytest.raises(AccessDenied, match="needs one of its tokens") as caught:
            async with open_capture(worker.addresses.capture, **WHO, token=token):
                raise AssertionError("it is open")
        with pytest.raises(AccessDenied) as of_feed:
            async with open_feed(worker.addresses.admin, token=token):
                raise AssertionError("it is open")
    assert caught.value.status == of_feed.value.status == 401
    assert WRONG not in str(caught.value) + str(of_feed.value)


async def test_a_page_that_may_not_connect_is_told_so_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """403 is an access denied as well; other refusals are none."""
    async with running(monkeypatch) as worker:
        url = worker.addresses.capture
        with pytest.raises(AccessDenied) as caught:
            async with open_capture(url, **WHO, headers={"Origin": "http://evil.example"}):
                raise AssertionError("it is open")
        assert caught.value.status == 403
        with pytest.raises(ConnectionRefused) as other:
            async with open_capture(url + "/other", **WHO):
                raise AssertionError("it is open")
        assert type(other.value) is ConnectionRefused


@pytest.mark.parametrize("token", ["", "a b", "a\r\nX: y", "t\xf6ken"])
async def test_what_cannot_be_a_token_is_not_sent(token: str) -> None:
    """Nor repeated: it may be one with a typing error."""
    with pytest.raises(ValueError, match="a token has no spaces") as caught:
        async with open_capture("ws://127.0.0.1:1", **WHO, token=token):
            raise AssertionError("it is open")
    assert not token or token not in str(caught.value)


async def test_a_token_is_given_once() -> None:
    """Two headers of the same name would leave it to chance which one counts."""
    headers = {"authorization": "Basic eA=="}
    with pytest.raises(ValueError, match="either a token or the header Authorization"):
        async with open_capture("ws://127.0.0.1:1", **WHO, token=TOKEN, headers=headers):
            raise AssertionError("it is open")


async def cfw(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command; what it said and how it ended."""
    command = [sys.executable, "-m", "cfw.cli", *arguments]
    env = {k: v for k, v in os.environ.items() if k != "CFW_TOKEN"} | environment
    run = partial(
        subprocess.run, command, env=env, capture_output=True, text=True, timeout=PATIENCE_S
    )
    return await trio.to_thread.run_sync(run)


def send(worker: Worker, *options: str) -> list[str]:
    who = ["--user", "ada", "--session", "s-1", "--frames", "2"]
    return ["send", worker.addresses.capture, "pattern:", *who, *options]


async def test_the_commands_take_a_token_from_a_file_or_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, token_file: str
) -> None:
    """And whom to trust; without them they say what is missing and end with 1."""
    files = issued(tmp_path)
    trusted = ["--ca-file", str(files.ca)]
    async with running(monkeypatch, **guarded(files, token_file)) as worker:
        assert worker.addresses.admin is not None
        ran = await cfw(*send(worker, *trusted, "--token-file", token_file))
        assert (ran.returncode, "2 frames" in ran.stdout) == (0, True), ran.stderr
        async with trio.open_nursery() as nursery:
            tapped: list[subprocess.CompletedProcess[str]] = []

            async def tap() -> None:
                options = ["--captures", "1", "--format", "json", *trusted]
                tapped.append(
                    await cfw("tap", str(worker.addresses.admin), *options, CFW_TOKEN=TOKEN)
                )

            nursery.start_soon(tap)
            while not tapped:
                ran = await cfw(*send(worker, *trusted), CFW_TOKEN=TOKEN)
                assert ran.returncode == 0, ran.stderr
        assert tapped[0].returncode == 0, tapped[0].stderr
        assert "capture.close" in tapped[0].stdout
        ran = await cfw(*send(worker, *trusted), CFW_TOKEN=WRONG)
        assert ran.returncode == 1
        assert "HTTP status 401 (this worker needs one of its tokens" in ran.stderr
        assert WRONG not in ran.stdout + ran.stderr
        ran = await cfw(*send(worker, "--token-file", token_file))
        assert ran.returncode == 1
        assert "certificate verify failed" in ran.stderr.lower().replace("_", " ")


async def test_the_commands_show_a_certificate(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where the worker asks for one; key and certificate may be one file."""
    files = issued(tmp_path)
    bound_context(tmp_path, "urn:cfw:user:ada")
    shown = ["--ca-file", str(files.ca), "--cert-file", str(tmp_path / "client.pem")]
    async with running(monkeypatch, **files.settings(is_mutual=True)) as worker:
        ran = await cfw(*send(worker, *shown))
        assert ran.returncode == 0, ran.stderr
        ran = await cfw(*send(worker, *shown[:2]))
        assert ran.returncode == 1
        assert "certificate required" in ran.stderr.lower()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--token-file", "none"], "none: cannot be read"),
        (["--token-file", "two"], "two: holds 2 tokens; give a file with the one to send"),
        (["--key-file", "none"], "--key-file needs --cert-file"),
        (["--ca-file", "none"], "none cannot be used: No such file"),
        (["--cert-file", "two"], "two cannot be used: "),
        (["--ca-file", "ca.pem"], "needs a wss:// URL"),
    ],
)
async def test_wrong_files_end_a_command_with_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], words: str
) -> None:
    """One line says which."""
    monkeypatch.chdir(tmp_path)
    issued(tmp_path)
    (tmp_path / "two").write_text(f"{TOKEN}\n{WRONG}\n")
    who = ["--user", "ada", "--session", "s-1"]
    ran = await cfw("send", "ws://127.0.0.1:1", "pattern:", *who, *options)
    assert ran.returncode == 2
    assert words in ran.stderr
    assert TOKEN not in ran.stderr
    assert "Traceback" not in ran.stderr

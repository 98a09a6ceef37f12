"""The commands at a worker that asks who they are."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.patience import PATIENCE_S
from tests.unit.identity.certificates import bound_context, issued
from tests.unit.identity.test_clients import (  # a fixture, too
    TOKEN,
    WRONG,
    guarded,
    token_file,  # noqa: F401
)
from tests.whole.smoke.worker import Worker, running


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
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    token_file: str,  # noqa: F811
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

"""`cfw invite`: the link for one person, the list, and taking back."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner, Result
from structlog.testing import capture_logs

from cfw.cli import main
from cfw.cli.invite import invitation_text
from tests.unit.film.kit import inviting, joined
from tests.whole.smoke.worker import Worker, running


async def invite(worker: Worker, *arguments: str) -> Result:
    """Run the command, in a thread: it waits for the worker, which runs here."""
    command = ["invite", *arguments, "--url", str(worker.addresses.admin)]
    return await trio.to_thread.run_sync(partial(CliRunner().invoke, main, command))


async def test_it_prints_a_link_lists_and_takes_back(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The link alone, for other programs; what is listed holds no secret."""
    # What the worker logs would stand in between.
    with capture_logs():
        await _lists_and_takes_back(monkeypatch, tmp_path)


async def _lists_and_takes_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with inviting(monkeypatch, tmp_path) as worker:
        assert (await invite(worker, "--list")).output == "nobody is invited\n"
        first, second = [await invite(worker, "ada", "s-1") for _ in range(2)]
        secrets = [each.output.strip().partition("#i=")[2] for each in (first, second)]
        assert first.output.startswith(f"{worker.addresses.film}#i=")
        await joined(worker, tmp_path, secrets[0])
        listed = await invite(worker, "--list")
        newest, oldest = listed.output.splitlines()
        assert "  open  user ada, session s-1, " in newest
        assert "  used  user ada, session s-1, " in oldest
        assert not any(secret in listed.output for secret in secrets)
        name = newest.split()[0]
        assert (await invite(worker, "--take-back", name)).exit_code == 0
        assert f"{name}  taken_back  " in (await invite(worker, "--list")).output
        again = await invite(worker, "--take-back", name)
        assert again.exit_code == 1
        assert "no invitation that lets anybody in" in again.output
        assert (await joined(worker, tmp_path, secrets[1])).status_code == 403


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("ada",),
        ("ada", "s-1", "--list"),
        ("--list", "--take-back", "1"),
        ("--take-back", "../x"),
        ("ada", "\udcff"),
        ("a" * 129, "s-1"),
    ],
    ids=["nothing", "no-session", "both", "two", "no-id", "no-text", "too-long"],
)
async def test_what_is_asked_wrongly_is_told(arguments: tuple[str, ...]) -> None:
    """With exit code 2, before anybody is asked."""
    ran = CliRunner().invoke(main, ["invite", *arguments, "--url", "http://127.0.0.1:1"])
    assert ran.exit_code == 2
    assert re.search("--list|Unicode text|1 to 128 characters", ran.output)


@pytest.mark.parametrize("status", [200, 204, 500])
@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'"x"', b'{"x": 1}', b"<html>"])
async def test_what_is_no_worker_is_told_as_that(status: int, body: bytes) -> None:
    """Whatever else answers there; in one line, and nothing is said to be taken back."""

    async def answer(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            size = f"Content-Length: {len(body)}\r\n" if status != 204 else ""
            head = f"HTTP/1.1 {status} X\r\n{size}Connection: close\r\n\r\n"
            await stream.send_all(head.encode() + (body if status != 204 else b""))

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, answer, 0, host="127.0.0.1"))
        url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        for asked in (("ada", "s-1"), ("--list",), ("--take-back", "1")):
            command = ["invite", *asked, "--url", url]
            ran = await trio.to_thread.run_sync(partial(CliRunner().invoke, main, command))
            if asked[0] == "--take-back" and status == 204:
                assert ran.exit_code == 0
            else:
                assert (ran.exit_code, ran.output.count("\n")) == (1, 1), ran.output
                assert "is no worker" in ran.output
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0.6, "1 seconds"),
        (29.99, "30 seconds"),
        (119.4, "119 seconds"),
        (119.6, "2 minutes"),
        (179, "2 minutes"),
        (599.999, "10 minutes"),
    ],
)
def test_an_invitation_says_how_long_there_is(seconds: float, told: str) -> None:
    """No longer than there is, but for what it took to say it."""
    invitation = {"user_id": "a", "session_id": "s", "invitation_id": "1", "ends_in_s": seconds}
    text = invitation_text(invitation, "https://x/#i=1", None)
    assert f"within {told};" in text


async def test_why_nobody_was_invited_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """No worker there, one that invites nobody, a URL that is none."""
    async with running(monkeypatch) as worker:
        ran = await invite(worker, "ada", "s-1")
        assert (ran.exit_code, "--lan" in ran.output) == (1, True)
    for url in ("http://127.0.0.1:1", "ftp://x", "http://["):
        ran = CliRunner().invoke(main, ["invite", "ada", "s-1", "--url", url])
        assert (ran.exit_code, "no worker answers" in ran.output) == (1, True), ran.output

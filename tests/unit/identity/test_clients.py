"""The client library at a worker that asks who it is."""

from __future__ import annotations

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
from tests.unit.identity.certificates import Files, client_context, issued
from tests.whole.smoke.worker import running

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

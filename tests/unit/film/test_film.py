"""Who was invited films, with a page at the port for rigs; and gets nothing else there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest
import trio
from structlog.testing import capture_logs
from websockets.exceptions import InvalidStatus

from cfw.api.config import ConfigError, load_config
from cfw.errors import INVITATION_ENDED
from cfw.identity import make_token
from cfw.limits import Limits, Times, limits_told
from tests.factories import jpeg
from tests.patience import PATIENCE_S
from tests.unit.film.kit import (
    USER,
    invited,
    inviting,
    joined,
    operator,
    phone,
    secret_of,
    trusting,
)
from tests.whole.smoke.worker import LONG_S, Worker, closing, ending, meta, opening, running


def carrying(worker: Worker, tmp_path: Path, token: str) -> dict[str, Any]:
    """How the page opens its socket."""
    assert worker.addresses.film is not None
    return {
        "ssl": trusting(tmp_path),
        "subprotocols": ["cfw.v1", f"cfw.bearer.{token}"],
        "origin": worker.addresses.film.removesuffix("/capture"),
    }


async def film(
    worker: Worker, tmp_path: Path, token: str, **fields: str
) -> tuple[int | None, str]:
    """One capture as the page sends it; close code and reason."""
    with trio.fail_after(PATIENCE_S):
        async with worker.connect(**carrying(worker, tmp_path, token)) as ws:
            await ws.send(opening(**fields))
            if not fields:
                for message in (meta(), jpeg(), closing()):
                    await ws.send(message)
            _, code, reason = await ending(ws)
    return code, reason


async def let_in(worker: Worker, tmp_path: Path) -> str:
    """The pass of somebody who has come with an invitation."""
    answer = await joined(worker, tmp_path, secret_of(await invited(worker)))
    token: str = answer.json()["token"]
    return token


async def test_who_was_invited_films(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """From the link to the receipt, on one port; nobody has typed anything."""
    async with inviting(monkeypatch, tmp_path) as worker:
        told = await invited(worker)
        assert told["url"].startswith(f"{worker.addresses.film}#i=")
        assert told["fingerprint"] == worker.addresses.fingerprint
        async with phone(worker, tmp_path) as browser:
            page = await browser.get("/capture")
            assert page.headers["content-type"].startswith("text/html")
            assert page.headers["referrer-policy"] == "no-referrer"
        answer = (await joined(worker, tmp_path, secret_of(told))).json()
        assert {name: answer[name] for name in USER} == USER
        assert await film(worker, tmp_path, answer["token"]) == (
            1000,
            '{"frames":1,"bytes":200}',
        )
        async with phone(worker, tmp_path) as browser:
            again = {"Authorization": f"Bearer {answer['token']}"}
            assert (await browser.get("/joined", headers=again)).json() == USER


async def test_an_invitation_that_was_used_lets_nobody_in(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nor does one that was taken back, or one that was never made."""
    async with inviting(monkeypatch, tmp_path) as worker:
        first, second = await invited(worker), await invited(worker)
        assert (await joined(worker, tmp_path, secret_of(first))).status_code == 200
        async with operator(worker) as admin:
            name = second["invitation_id"]
            assert (await admin.delete(f"/invitations/{name}")).status_code == 204
            assert (await admin.delete(f"/invitations/{name}")).status_code == 404
        for secret, why in (
            (secret_of(first), "this invitation was used already"),
            (secret_of(second), "this invitation was taken back"),
            (make_token(), "this invitation is not known here, or has ended long ago"),
        ):
            answer = await joined(worker, tmp_path, secret)
            assert (answer.status_code, answer.json()) == (403, {"error": why})


async def test_an_invitation_that_has_ended_lets_nobody_in(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By the shortest time that is allowed, which is over as soon as it is made."""
    async with inviting(monkeypatch, tmp_path, invitations__valid_s=1e-9) as worker:
        answer = await joined(worker, tmp_path, secret_of(await invited(worker)))
        assert answer.json() == {"error": "this invitation has ended"}


async def test_what_is_taken_back_is_ended_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What it films is over at the next check, and told as that; nothing more begins."""
    async with inviting(monkeypatch, tmp_path, times__session_recheck_s=0.05) as worker:
        told = await invited(worker)
        token = (await joined(worker, tmp_path, secret_of(told))).json()["token"]
        async with worker.connect(**carrying(worker, tmp_path, token)) as ws:
            await ws.send(opening())
            async with operator(worker) as admin:
                await admin.delete(f"/invitations/{told['invitation_id']}")
            with trio.fail_after(PATIENCE_S):
                abort, code, reason = await ending(ws)
            assert (code, reason) == (1008, f"session_closed: {INVITATION_ENDED}")
            assert abort is not None
            assert abort.error_code.value == "session_closed"
            assert abort.detail == INVITATION_ENDED
        async with operator(worker) as admin:
            (ended,) = (await admin.get("/ended")).json()["ended"]
        assert (ended["error_code"], ended["detail"]) == ("session_closed", INVITATION_ENDED)
        with pytest.raises(InvalidStatus) as caught:
            await film(worker, tmp_path, token)
        assert caught.value.response.status_code == 401
        async with phone(worker, tmp_path) as browser:
            headers = {"Authorization": f"Bearer {token}"}
            answer = await browser.get("/joined", headers=headers)
            assert (answer.status_code, answer.json()) == (401, {"error": INVITATION_ENDED})


@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        ({"user_id": "bob"}, "bound to another user_id"),
        ({"session_id": "s-2"}, "the invitation of this connection is for another session_id"),
    ],
)
async def test_who_was_invited_films_as_nobody_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fields: dict[str, str], detail: str
) -> None:
    """Whatever the session authority knows of others."""
    known = ("ada:s-1", "ada:s-2", "bob:s-1")
    async with inviting(monkeypatch, tmp_path, sessions__static=known) as worker:
        token = (await joined(worker, tmp_path, secret_of(await invited(worker)))).json()[
            "token"
        ]
        code, reason = await film(worker, tmp_path, token, **fields)
        assert code == 1008
        assert reason.startswith("session_invalid")
        assert detail in reason


async def test_nobody_is_let_in_without_an_invitation(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Neither with nothing, nor with the secret of one that was not used."""
    async with inviting(monkeypatch, tmp_path) as worker:
        secret = secret_of(await invited(worker))
        for token in (secret, make_token()):
            with pytest.raises(InvalidStatus) as caught:
                await film(worker, tmp_path, token)
            assert caught.value.response.status_code == 401
            assert b"cfw invite" in (caught.value.response.body or b"")


async def test_who_only_films_gets_nothing_of_the_feed_or_an_admin(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """At the port for rigs every path of the admin listener is unknown, also with a pass."""
    async with inviting(monkeypatch, tmp_path) as worker:
        token = (await joined(worker, tmp_path, secret_of(await invited(worker)))).json()[
            "token"
        ]
        headers = {"Authorization": f"Bearer {token}"}
        async with phone(worker, tmp_path) as browser:
            for path in ("/metrics", "/captures", "/ended", "/feed", "/invitations", "/readyz"):
                for method in ("GET", "POST", "DELETE"):
                    answer = await browser.request(method, path, headers=headers)
                    assert answer.status_code == 404, path
            for path in ("/static/live.js", "/static/invite.js", "/static/feed.js"):
                assert (await browser.get(path)).status_code == 404
            page = (await browser.get("/")).text
            assert "/static/capture.js" in page
            told = (await browser.get("/info")).json()
        # What every rig is told, and nothing of the operator's.
        assert told["limits"] == attrs.asdict(
            limits_told(Limits(max_duration_s=LONG_S), Times(idle_s=PATIENCE_S))
        )


async def test_who_films_learns_why_it_was_refused_and_of_nobody_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What its own page could not read; other addresses are the operator's."""
    async with inviting(monkeypatch, tmp_path) as worker:
        with pytest.raises(InvalidStatus):
            await film(worker, tmp_path, make_token())
        async with operator(worker) as admin, phone(worker, tmp_path) as browser:
            with trio.fail_after(PATIENCE_S):
                # Remembered once the other side is gone, which nobody here is told.
                while not (ours := (await browser.get("/refused")).json()["refused"]):  # noqa: ASYNC110
                    await trio.sleep(0.05)
            (told,) = (await admin.get("/refused")).json()["refused"]
            assert (told["status"], told["why"]) == (401, "identity")
            assert told["detail"] == ours[0]["detail"]
            monkeypatch.setattr("cfw.film.app.group_of", lambda _: "192.0.2.9")
            assert (await browser.get("/refused")).json() == {"refused": []}


async def test_a_page_of_another_origin_uses_no_invitation_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Though it had the secret; and it opens no socket with a pass."""
    async with inviting(monkeypatch, tmp_path) as worker:
        secret = secret_of(await invited(worker))
        async with phone(worker, tmp_path) as browser:
            for origin in ("https://evil.example", "null", "https://127.0.0.1:1"):
                answer = await browser.post(
                    "/join", json={"invitation": secret}, headers={"Origin": origin}
                )
                assert answer.status_code == 403
                assert "another origin" in answer.text
        token = (await joined(worker, tmp_path, secret)).json()["token"]
        options = carrying(worker, tmp_path, token) | {"origin": "https://evil.example"}
        with pytest.raises(InvalidStatus) as caught:
            async with worker.connect(**options):
                pass
        assert caught.value.response.status_code == 403


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{", b'{"invitation": 3}', b"\xff", b"[" * 4_000],
    ids=["empty", "list", "cut", "number", "no-text", "deep"],
)
async def test_what_is_no_invitation_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, body: bytes
) -> None:
    """In words, and without a traceback."""
    async with inviting(monkeypatch, tmp_path) as worker, phone(worker, tmp_path) as browser:
        answer = await browser.post("/join", content=body)
    assert answer.status_code == 400
    assert "invitation" in answer.json()["error"]


async def test_an_invitation_is_for_a_session_that_is_active(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Else whoever scans it would be refused; and for names that may be."""
    async with inviting(monkeypatch, tmp_path) as worker, operator(worker) as admin:
        answer = await admin.post("/invitations", json=USER | {"session_id": "other"})
        assert answer.status_code == 409
        assert "unknown to the session authority" in answer.json()["error"]
        wrong: list[object] = [{}, [], USER | {"user_id": ""}, {**USER, "user_id": 3}]
        for body in (*wrong, USER | {"user_id": "\ud800"}):
            answer = await admin.post("/invitations", content=json.dumps(body))
            assert answer.status_code == 400
        assert (await admin.get("/invitations")).json() == {"invitations": []}


async def test_a_page_of_another_origin_invites_nobody(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Though it is open on the operator's machine."""
    async with inviting(monkeypatch, tmp_path) as worker, operator(worker) as admin:
        for origin in ("https://evil.example", str(worker.addresses.film).rpartition("/")[0]):
            answer = await admin.post("/invitations", json=USER, headers={"Origin": origin})
            assert answer.status_code == 403


async def test_a_pass_gives_no_admin_s_rights(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Film rights and admin rights are two things, either way round."""
    admins = make_token()
    path = tmp_path / "people.tokens"
    path.write_text(admins)
    path.chmod(0o600)
    async with inviting(monkeypatch, tmp_path, admin__token_file=str(path)) as worker:
        async with operator(worker) as admin:
            admin.headers["Authorization"] = f"Bearer {admins}"
            told = (await admin.post("/invitations", json=USER)).json()
            token = (await joined(worker, tmp_path, secret_of(told))).json()["token"]
            for secret in (token, secret_of(told)):
                admin.headers["Authorization"] = f"Bearer {secret}"
                for method, place in (("GET", "/captures"), ("POST", "/invitations")):
                    assert (await admin.request(method, place)).status_code == 401
        with pytest.raises(InvalidStatus) as caught:
            await film(worker, tmp_path, admins)
        assert caught.value.response.status_code == 401


async def test_a_link_is_in_no_log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither its secret nor the pass; what is logged names the invitation."""
    with capture_logs() as logs:
        async with inviting(monkeypatch, tmp_path) as worker:
            told = await invited(worker)
            token = (await joined(worker, tmp_path, secret_of(told))).json()["token"]
            await joined(worker, tmp_path, secret_of(told))
            await film(worker, tmp_path, token)
    written = json.dumps(logs, default=repr)
    assert secret_of(told) not in written
    assert token not in written
    events = [line["event"] for line in logs if line["event"].startswith("invitation.")]
    assert events == ["invitation.made", "invitation.used", "invitation.refused"]
    assert told["invitation_id"] in written


async def test_a_worker_that_invites_nobody_has_no_page(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As it always was: the port for rigs has one endpoint."""
    async with running(monkeypatch) as worker:
        assert worker.addresses.film is None
        async with operator(worker) as admin:
            assert (await admin.get("/info")).json()["needs_invitation"] is False
            answer = await admin.post("/invitations", json=USER)
            assert answer.status_code == 404
            assert "--lan" in answer.json()["error"]
        here = worker.addresses.capture.replace("ws:", "http:").partition("/camera")[0]
        async with httpx.AsyncClient(base_url=here, trust_env=False) as browser:
            answer = await browser.get("/capture")
            assert answer.status_code == 404
            assert answer.text.startswith("the only endpoint here is ")


def test_a_phone_has_no_certificate_to_show() -> None:
    """So people cannot be invited where every rig has to show one."""
    files = [(f"server.{name}_file", "x.pem") for name in ("cert", "key", "client_ca")]
    with pytest.raises(ConfigError, match="no phone has a certificate"):
        load_config(None, [*files, ("invitations.enabled", True)])

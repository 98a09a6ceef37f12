"""A session authority that answers what it likes, and rigs that choose what it is asked."""

from __future__ import annotations

import contextlib
import json

import pytest
import trio

from cfw.routes.session import OWN_QUESTION
from cfw.sessions import UnusableAnswer
from cfw.sessions.http import open_http
from tests.unit.sessions.readiness import capture, readyz
from tests.unit.sessions.scripted import Answer, http, raw, says, scripted_server
from tests.whole.hostile.figures import figure
from tests.whole.smoke.worker import running

#: What an authority may answer to an id that it cannot read.
ODD: dict[str, Answer] = {
    "422": http(b"", status="422 Unprocessable"),
    "404": http(b"", status="404 Not Found"),
    "302": http(b"", status="302 Found", headers="Location: /signin\r\n"),
    "no status": http(b"{}"),
    "too long": http(b"x" * 70_000),
    "500": http(b"", status="500 Oops"),
    "hangs up": raw(b"", hang_up=True),
}


@pytest.mark.parametrize("name", ODD)
async def test_one_odd_id_does_not_make_a_worker_unready(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Whatever the authority makes of it: others film, and a balancer must send them."""

    async def answer(stream: trio.abc.Stream) -> None:
        user_id = json.loads(server.requests[-1].body)["user_id"]
        known = {"ada": says("active"), OWN_QUESTION[0]: says("invalid")}
        await known.get(user_id, ODD[name])(stream)

    async with (
        scripted_server(answer) as server,
        running(monkeypatch, sessions__url=server.url, sessions__static=[]) as worker,
    ):
        seen = set()
        assert await capture(worker) == 1000
        assert await capture(worker, "strange") == 1008
        with trio.move_on_after(0.5):
            while True:
                seen.add((await readyz(worker))["status"])
        assert await capture(worker) == 1000
    figure(f"/readyz behind an authority with one odd answer ({name})", ", ".join(seen))
    assert seen == {"ready"}


async def test_nothing_of_an_answer_comes_back_with_a_later_question() -> None:
    """No cookie, redirect or challenge, however many checks there are; a thousand bytes are
    enough for any question."""
    number = 0

    async def sticky(stream: trio.abc.Stream) -> None:
        nonlocal number
        number += 1
        headers = (
            f"Set-Cookie: c{number}={'x' * 1000}; Path=/\r\nSet-Cookie: same=1\r\n"
            'WWW-Authenticate: Digest realm="r", nonce="n"\r\nLocation: http://[bad\r\n'
            'Alt-Svc: h2=":443"\r\nRefresh: 0\r\nKeep-Alive: max=1\r\n'
        )
        status = ("200 OK", "302 Found", "401 No", "201 Created")[number % 4]
        await http(b'{"status":"active"}', status=status, headers=headers)(stream)

    async with (
        scripted_server(sticky) as server,
        open_http(server.url, sessions=[]) as authority,
    ):
        for _ in range(400):
            with contextlib.suppress(UnusableAnswer):
                await authority.check("ada", "s1")
    heads = {request.head for request in server.requests}
    figure("400 checks whose answers set a cookie each", f"{len(heads)} form of question")
    assert len(server.requests) == 400
    assert len(heads) == 1
    assert "cookie" not in heads.pop().lower()

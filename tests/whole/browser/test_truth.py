"""What the pages say when the worker is gone, stops, refuses or ends something."""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

import httpx
import pytest
import trio
import trio.lowlevel

from cfw.admin.words import WORDS
from cfw.errors import INVITATION_ENDED, OPERATOR_ENDED
from cfw.explanations import EXPLANATIONS
from cfw.identity import make_token
from schemas import ErrorCode
from tests.factories import jpeg
from tests.patience import PATIENCE_S
from tests.pictures import draw
from tests.serving import Served, serving_beside
from tests.unit.film.kit import invited, operator
from tests.whole.browser.chromium import Page, open_page
from tests.whole.browser.sight import judge, prefer
from tests.whole.browser.test_pages import admin, check_page, film, opened, result
from tests.whole.browser.visits import Visit
from tests.whole.smoke.worker import Worker, running

#: Stands where there is no number.
NOTHING = "\u2013"
STATE = ".card [data-part=state]"


async def until_text(page: Page, selector: str, text: str) -> None:
    """Wait until an element says this."""
    await page.until(f"document.querySelector({selector!r}).textContent === {json.dumps(text)}")


async def delete(worker: Worker, capture_id: str) -> int:
    async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE_S) as client:
        url = admin(worker.addresses, f"/captures/{capture_id}")
        return (await client.delete(url)).status_code


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot stop a process so")
async def test_a_worker_that_stands_still_is_told_as_gone(devtools: str) -> None:
    """Its sockets stay open and nothing comes: title, rates and count say that it is gone."""
    async with serving_beside(Served.start()) as worker, open_page(devtools) as page:
        await page.goto(worker.admin)
        await until_text(page, "#connection", "Connected")
        await page.until("document.title === 'cfw live'")
        os.kill(worker.process.pid, signal.SIGSTOP)
        try:
            await page.until("document.title === 'No worker - cfw live'")
            notice = await page.text("#absence")
            assert notice.startswith("The worker does not answer. What is shown is of ")
            rates = "[...document.querySelectorAll('[data-now]')].map(e => e.textContent)"
            assert await page.run(rates) == [NOTHING, NOTHING]
            assert await page.text("#running") == NOTHING
        finally:
            os.kill(worker.process.pid, signal.SIGCONT)
        await page.until("document.title === 'cfw live'")
        assert await page.run("document.querySelector('#absence').hidden")
        await until_text(page, "#running", "0")


async def test_a_draining_worker_is_told_as_that_and_then_as_stopped(visit: Visit) -> None:
    """While a capture may finish, in title, bar, notice and tile; then it is not there."""
    async with visit(times__drain_s=120) as (worker, page):
        await page.goto(admin(worker.addresses))
        async with opened(worker.addresses) as capture:
            await capture.send_frame(draw(320, 240))
            await until_text(page, STATE, "live")
            await page.until("document.title === '(1) cfw live'")
            worker.shutdown.request()
            await until_text(page, STATE, "live, worker draining")
            await page.until("document.title === 'Draining - (1) cfw live'")
            assert await page.text("#connection") == "Draining, no new captures"
            assert (await page.text("#absence")).startswith("The worker is shutting down: ")
            await capture.send_frame(draw(320, 240))
        await page.until("document.title === 'No worker - cfw live'")
        notice = "document.querySelector('#absence').textContent"
        await page.until(f"{notice}.startsWith('The worker has stopped. ')")
        assert await page.text("#running") == NOTHING
        # What is old looks old, and can be read.
        for scheme in ("light", "dark"):
            await prefer(page, scheme)
            assert await judge(page) == []


async def test_tiles_of_a_worker_that_is_gone_say_so(visit: Visit) -> None:
    """What was last seen stays there, and is not shown as live."""
    async with visit() as (worker, page):
        await page.goto(admin(worker.addresses))
        async with opened(worker.addresses) as capture:
            await capture.send_frame(draw(320, 240))
            await until_text(page, STATE, "live")
            await page.call("Network.emulateNetworkConditions", **OFFLINE)
            # A socket that is open stays so; who asks learns that nobody is there.
            await until_text(page, STATE, "no contact with the worker")
            assert await page.run("document.title") == "No worker - cfw live"
            await page.call("Network.emulateNetworkConditions", **ONLINE)
            await until_text(page, STATE, "live")


OFFLINE = {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
ONLINE = OFFLINE | {"offline": False}


async def test_what_an_operator_ended_is_told_as_that(
    devtools: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To who films and on the live page; the session could be checked, and goes on."""
    async with (
        running(monkeypatch) as worker,
        open_page(devtools) as live,
        open_page(devtools) as camera,
    ):
        await live.goto(admin(worker.addresses))
        await film(camera, worker.addresses, length="50")
        await live.until(f"document.querySelector('{STATE}').textContent === 'live'")
        capture_id = await live.text(".card .id")
        assert await delete(worker, capture_id) == 204
        kind, facts = await result(camera)
        assert (kind, facts["Code"]) == ("bad", "session_closed")
        case = EXPLANATIONS[ErrorCode.SESSION_CLOSED].cases[OPERATOR_ENDED]
        assert await camera.text("#result h2") == case.meaning.removesuffix(".")
        told = await camera.text("#result")
        assert case.rig in told
        assert "checked" not in told
        await live.until("document.querySelector('#ended-rows .badge')")
        assert await live.text("#ended-rows .badge") == "ended by operator"
        assert await live.text("#ended-rows .why") == OPERATOR_ENDED
        await until_text(live, STATE, "ended by operator")
        assert await live.text(".card [data-part=meaning]") == "An operator ended this capture"
        await live.until("document.querySelector('#announcement').textContent")
        assert await live.text("#announcement") == (
            "1 capture ended; ada was aborted: An operator ended this capture."
        )
        check_page(live, worker.addresses)


async def test_what_an_invitation_ended_with_is_told_as_that(
    devtools: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To who films and on the live page; the session has not ended."""
    settings: dict[str, Any] = {
        "invitations__enabled": True,
        "times__session_recheck_s": 0.05,
    }
    async with (
        running(monkeypatch, **settings) as worker,
        open_page(devtools) as live,
        open_page(devtools) as camera,
    ):
        await live.goto(admin(worker.addresses))
        made = await invited(worker)
        await camera.goto(made["url"])
        await camera.until("!document.querySelector('#turn-on').disabled")
        await camera.click("#turn-on")
        await camera.until("document.querySelector('#preview').videoWidth > 0")
        await camera.click("#go")
        await live.until(f"document.querySelector('{STATE}')?.textContent === 'live'")
        async with operator(worker) as client:
            await client.delete(f"/invitations/{made['invitation_id']}")
        kind, facts = await result(camera)
        assert (kind, facts["Code"]) == ("bad", "session_closed")
        case = EXPLANATIONS[ErrorCode.SESSION_CLOSED].cases[INVITATION_ENDED]
        assert await camera.text("#result h2") == case.meaning.removesuffix(".")
        told = await camera.text("#result")
        assert case.rig in told
        assert "new session" not in told
        await live.until("document.querySelector('#ended-rows .badge')")
        assert await live.text("#ended-rows .badge") == case.label
        assert await live.text("#ended-rows .why") == INVITATION_ENDED
        await until_text(live, STATE, case.label)


async def test_a_picture_that_no_browser_decodes_is_told_as_that(visit: Visit) -> None:
    """Not as one that has not come yet; and the next good one is shown."""
    async with visit() as (worker, page):
        await page.goto(admin(worker.addresses))
        async with opened(worker.addresses) as capture:
            await page.until("document.querySelector('.card')")
            nothing = ".card [data-part=nothing]"
            assert await page.text(nothing) == "No picture yet"
            await capture.send_frame(jpeg())  # begins and ends as one, with nothing between
            text = "No browser can decode the pictures of this rig"
            await until_text(page, nothing, text)
            assert await page.run("document.querySelector('.card canvas').hidden")
            await capture.send_frame(draw(320, 240))
            await page.until("!document.querySelector('.card canvas').hidden")
            assert await page.run("document.querySelector('.card canvas').width") == 320
            assert await page.run(f"document.querySelector('{nothing}').hidden")
        check_page(page, worker.addresses)


@pytest.mark.parametrize("why", ["no room", "no token"])
async def test_a_refused_handshake_is_told_with_its_reason(
    why: str, devtools: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """Though a browser keeps it from the page: where one films, and on the live page."""
    settings: dict[str, Any] = {}
    if why == "no room":
        settings["limits__max_connections"] = 1
        answer, said = 503, "the worker has no room for another connection"
    else:
        (tmp_path / "rigs").write_text(make_token())
        (tmp_path / "rigs").chmod(0o600)
        settings["server__token_file"] = str(tmp_path / "rigs")
        answer, said = 401, "this worker needs one of its tokens"
    async with (
        running(monkeypatch, **settings) as worker,
        open_page(devtools) as live,
        open_page(devtools) as camera,
        trio.open_nursery() as nursery,
    ):
        await live.goto(admin(worker.addresses))
        if why == "no room":
            capture = opened(worker.addresses)
            nursery.start_soon(_hold, capture)
            await live.until("document.querySelector('.card')")
        await camera.goto(admin(worker.addresses, "/capture#user=ada&session=s-1"))
        await camera.until("!document.querySelector('#go').disabled")
        await camera.click("#turn-on")
        await camera.until("document.querySelector('#preview').videoWidth > 0")
        if why == "no token":
            await camera.type("#token", make_token())
        await camera.click("#go")
        kind, facts = await result(camera)
        assert (kind, facts["Status"]) == ("bad", str(answer))
        assert await camera.text("#result h2") == "The worker refused the connection"
        assert facts["It says"].startswith(said)
        assert facts["Address"] == worker.addresses.capture
        assert str(WORDS["en"].film[f"refused_{answer}"]) in await camera.text("#result")
        await live.until("document.querySelector('#refused li')")
        assert await live.text("#refused .badge") == f"HTTP {answer}"
        assert said in await live.text("#refused li")
        nursery.cancel_scope.cancel()


async def _hold(capture: Any) -> None:
    async with capture as opened_one:
        await opened_one.send_frame(draw(320, 240))
        await trio.sleep_forever()


async def test_a_feed_that_is_refused_is_told_with_its_reason(visit: Visit) -> None:
    """The numbers go on; that there are no pictures, and why, is said."""
    async with visit() as (worker, page):
        # As a proxy does that passes no WebSocket on.
        no_feed = """const own = window.fetch;
            window.fetch = (path, ...rest) => path.startsWith("/feed?")
              ? Promise.resolve(new Response('no WebSocket goes through here', {status: 502}))
              : own(path, ...rest);
            window.WebSocket = class {
              constructor() { setTimeout(() => this.onclose({reason: ""}), 0); }
            };"""
        await page.call("Page.addScriptToEvaluateOnNewDocument", source=no_feed)
        await page.goto(admin(worker.addresses))
        notice = "The worker answers, but its feed does not: no WebSocket goes through here."
        await until_text(page, "#absence", notice)
        assert await page.run("document.title") == "No pictures - cfw live"
        assert await page.text("#running") == "0"

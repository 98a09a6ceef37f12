"""A phone films because of a code on a screen: two browsers that share nothing, no typing."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import trio
import trio.lowlevel
import zxingcpp
from PIL import Image

import cfw
from tests.serving import serving_at_terminal
from tests.unit.film.kit import invited
from tests.whole.browser.chromium import Page, open_page, running_chromium
from tests.whole.browser.test_pages import admin, result
from tests.whole.browser.visits import Visit

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such terminal")

#: Half blocks of a code in a terminal, as their upper and lower square: True is light.
BLOCKS = {" ": (0, 0), "▀": (1, 0), "▄": (0, 1), "█": (1, 1)}


def readme(heading: str) -> list[list[str]]:
    """The commands of the README below a heading, as they stand there."""
    page = (Path(cfw.__file__).parent.parent / "README.md").read_text("utf-8")
    part = page.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    blocks = re.findall(r"^```\n(.*?)^```", part, re.DOTALL | re.MULTILINE)
    return [shlex.split(line) for block in blocks for line in block.splitlines()]


def lab(data: Path) -> AbstractContextManager[str]:
    """What the README says, at a terminal, with a data folder and ports of its own.

    Gives what it shows there.
    """
    (program, *arguments), _ = readme("Phones")
    assert (program, arguments) == ("cfw", ["serve", "--lan"])
    options = (*arguments[1:], "--host", "127.0.0.1")
    return serving_at_terminal(*options, home=data, until="Another code:")


def admin_of(shown: str) -> str:
    """Where the live page is, by the ready line."""
    found = re.search(r"admin at (http://\S+),", shown)
    assert found is not None
    return found[1]


def seen_in(picture: Any) -> str:
    """What a camera reads from a picture that has one code."""
    (code,) = zxingcpp.read_barcodes(picture)
    assert code.format == zxingcpp.BarcodeFormat.QRCode
    return str(code.text)


def seen_at(shown: str) -> str:
    """What a camera reads from a terminal."""
    rows = []
    for line in re.findall("\x1b\\[97;40m(.*?)\x1b\\[0m", shown):
        pairs = [BLOCKS[letter] for letter in line]
        rows += [[upper for upper, _ in pairs], [lower for _, lower in pairs]]
    squares = np.array(rows, dtype=np.uint8) * 255
    return seen_in(np.kron(squares, np.ones((8, 8), dtype=np.uint8)))


@pytest.fixture
def phone(tmp_path: Path) -> Iterator[str]:
    """A browser of its own, that was never here and shares nothing with another."""
    with running_chromium(tmp_path / "phone") as devtools:
        yield devtools


async def scan(page: Page, link: str) -> None:
    """Open what was scanned, and go on where the browser warns of the certificate."""
    await page.call("Page.navigate", url=link)
    await go_on(page)


async def go_on(page: Page) -> None:
    """Past the warning of the certificate, if there is one, to the page that films."""
    if await page.until("document.querySelector('#proceed-link, #main')?.id") == "proceed-link":
        await page.until("document.body.innerText.includes('ERR_CERT_AUTHORITY_INVALID')")
        await page.click("#details-button")
        await page.click("#proceed-link")
    await page.until(
        "document.querySelector('#main') && !document.querySelector('#proceed-link')"
    )


async def films(page: Page, link: str) -> dict[str, str]:
    """Open what was scanned, and press the two buttons; what it says in the end."""
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    await page.call("Emulation.setDeviceMetricsOverride", **size)
    await scan(page, link)
    await page.until("!document.querySelector('#turn-on').disabled")
    assert await page.run("location.href") == link.partition("#")[0]
    await page.click("#turn-on")
    await page.until("document.querySelector('#preview').videoWidth > 0")
    await page.run("document.querySelector('#duration').value = '60'")
    await page.click("#go")
    await page.until("parseInt(document.querySelector('#sent').textContent) > 5")
    await page.click("#go")
    kind, facts = await result(page)
    assert kind in {"good", "warn"}
    return facts


async def refusal(page: Page, link: str) -> str:
    """What the page says to whom it does not let in."""
    await page.goto("about:blank")
    await scan(page, link)
    await page.until("!document.querySelector('#uninvited').hidden")
    assert await page.run("document.querySelector('#turn-on').disabled")
    return await page.text("#uninvited")


async def test_a_phone_films_by_the_code_of_the_live_page(
    devtools: str, phone: str, tmp_path: Path
) -> None:
    """From the start of the worker to the receipt nobody types; a code used twice is none."""
    with lab(tmp_path / "data") as shown:
        async with open_page(devtools) as live, open_page(phone) as camera:
            await live.goto(admin_of(shown))
            await live.until("!document.querySelector('#invite-open').hidden")
            await live.click("#invite-open")
            await live.until("document.querySelector('#invite-code path')")
            link = seen_in(Image.open(BytesIO(await live.screenshot())))
            fingerprint = await live.text("#invite-fingerprint")
            assert fingerprint in shown
            facts = await films(camera, link)
            assert int(facts["Frames"]) > 5
            await live.until("document.querySelector('#invite-state').textContent")
            await live.until("!document.querySelector('#invite-another').hidden")
            assert await live.text("#invite-state") == "guest, session lan has joined."
            await live.click("#invite-close")
            await live.until("document.querySelector('#ended-rows .user')")
            assert await live.text("#ended-rows .user") == "guest"
            # What is kept is kept for this tab: a reload films on, another tab does not.
            await camera.call("Page.reload")
            await camera.until("!document.querySelector('#go').disabled")
            assert await camera.run("document.querySelector('#user').value") == "guest"
            secret = link.partition("#")[2]
            for page in (live, camera):
                assert not [url for url in page.urls if secret in url.partition("#")[0]]
            own = urlsplit(link).netloc
            # Pictures of the warning are the browser's own.
            asked = [url for url in camera.urls if not url.startswith("data:")]
            assert {urlsplit(url.removeprefix("blob:")).netloc for url in asked} <= {own}
            async with open_page(phone) as other:
                assert await refusal(other, link) == (
                    "this invitation was used already. Ask for another code, and scan it."
                )
        assert live.problems == []


async def test_who_sits_at_the_live_page_films_there_by_an_invitation_too(
    phone: str, tmp_path: Path
) -> None:
    """*Film* leads to the page at the port for rigs, signed in; there it stands in the list."""
    with lab(tmp_path / "data") as shown:
        async with open_page(phone) as page, open_page(phone) as live:
            for each in (page, live):
                await each.goto(admin_of(shown))
                await each.until("!document.querySelector('#invite-open').hidden")
            await page.click("nav a[href='/capture']")
            await page.until("location.protocol !== 'http:'")
            await go_on(page)
            await page.until("!document.querySelector('#go').disabled")
            assert await page.run("[user.value, session.value]") == ["guest", "lan"]
            assert await page.run("user.readOnly && session.readOnly")
            # The secret of the link is used up, and no longer in the address.
            assert await page.run("location.hash") == ""
            await live.click("#invite-open")
            used = "[...document.querySelectorAll('#invite-list li')].map(e => e.textContent)"
            await live.until(f"{used}.some(text => text.includes('guest, session lan: films'))")
            assert live.problems == []


async def test_nobody_is_asked_for_a_token_that_there_is_not(
    devtools: str, tmp_path: Path
) -> None:
    """At the address of the page that films which stands beside the live page."""
    with lab(tmp_path / "data") as shown:
        async with open_page(devtools) as page:
            await page.goto(f"{admin_of(shown)}/capture")
            await page.until("document.querySelector('#uninvited:not([hidden])')")
            assert (await page.text("#uninvited")).startswith("Here films who was invited.")
            assert await page.run("document.querySelector('#form').hidden")


async def test_a_phone_films_by_the_code_of_the_terminal(phone: str, tmp_path: Path) -> None:
    """The first thing that `cfw serve --lan` shows; the link stands below it."""
    with lab(tmp_path / "data") as shown:
        link = seen_at(shown)
        assert link in shown.split()
        async with open_page(phone) as camera:
            facts = await films(camera, link)
            assert int(facts["Frames"]) > 5


async def test_the_command_of_the_readme_invites_the_next_phone(
    phone: str, tmp_path: Path
) -> None:
    """As it stands there; its output is the link alone where nobody stands before it."""
    with lab(tmp_path / "data") as shown:
        _, (program, *arguments) = readme("Phones")
        assert program == "cfw"
        command = [sys.executable, "-m", "cfw.cli", *arguments, "--url", admin_of(shown)]
        ran = await trio.run_process(command, capture_stdout=True)
        link = ran.stdout.decode().strip()
        assert link.startswith("https://127.0.0.1:")
        async with open_page(phone) as camera:
            assert int((await films(camera, link))["Frames"]) > 5


async def test_a_code_that_was_taken_back_lets_nobody_in(
    devtools: str, phone: str, tmp_path: Path
) -> None:
    """From the list of the live page; and what is no invitation lets nobody in either."""
    with lab(tmp_path / "data") as shown:
        async with open_page(devtools) as live, open_page(phone) as camera:
            await live.goto(admin_of(shown))
            await live.until("!document.querySelector('#invite-open').hidden")
            await live.click("#invite-open")
            link = await live.until("document.querySelector('#invite-link').textContent")
            await live.until("document.querySelectorAll('#invite-list button').length === 2")
            await live.click("#invite-list button")
            await live.until(
                "document.querySelector('#invite-state').textContent.includes('back')"
            )
            ask = " Ask for another code, and scan it."
            assert await refusal(camera, link) == f"this invitation was taken back.{ask}"
            nothing = link.partition("#")[0]
            assert (await refusal(camera, nothing)).startswith("Here films who was invited.")
            await trio.lowlevel.checkpoint()


#: A network, or a worker, that answers to who shows an invitation as a test says, until it is
#: well again.
NOT_JOINED = """const own = window.fetch;
window.fetch = async (path, how) => {
  if (path !== "/join" || sessionStorage.isWell) return own(path, how);
  return ANSWER;
};"""
NO_ROOM = "the worker has no room for another connection"
OUT_OF_REACH = "invitations cannot be looked up now; try again"
#: What the page keeps of an invitation that it was given.
KEPT = "JSON.stringify(sessionStorage)"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (f"new Response('{NO_ROOM}', {{status: 503}})", NO_ROOM),
        (f"Response.json({{error: '{OUT_OF_REACH}'}}, {{status: 503}})", OUT_OF_REACH),
        ("Promise.reject(new TypeError('Failed to fetch'))", "does not answer"),
        ("Promise.reject(new DOMException('late', 'TimeoutError'))", "does not answer"),
    ],
)
async def test_an_invitation_that_was_not_heard_is_there_after_a_reload(
    visit: Visit, answer: str, words: str
) -> None:
    """Though no longer in the address; the page says to try again, and it is used up then."""
    async with visit(invitations__enabled=True) as (worker, page):
        link: str = (await invited(worker))["url"]
        address, _, secret = link.partition("#i=")
        source = NOT_JOINED.replace("ANSWER", answer)
        await page.call("Page.addScriptToEvaluateOnNewDocument", source=source)
        await page.goto(link)
        for is_well in (False, True):
            await page.until("document.querySelector('#uninvited:not([hidden])')")
            told = await page.text("#uninvited")
            assert words in told
            assert "Reload this page" in told
            assert await page.run("location.href") == address
            await page.run("document.querySelector('#uninvited').hidden = true")
            if is_well:
                await page.run("sessionStorage.isWell = 'yes'")
            await page.call("Page.reload")
        await page.until("document.querySelector('#user').readOnly")
        assert await page.run("document.querySelector('#user').value") == "ada"
        assert secret not in await page.run(KEPT)


@pytest.mark.parametrize("status", [400, 403])
async def test_an_invitation_that_lets_nobody_in_is_kept_no_longer(
    visit: Visit, status: int
) -> None:
    """A reload does not show it again."""
    async with visit(invitations__enabled=True) as (worker, page):
        link: str = (await invited(worker))["url"]
        secret = link.partition("#i=")[2]
        answer = f"Response.json({{error: 'this invitation has ended'}}, {{status: {status}}})"
        source = NOT_JOINED.replace("ANSWER", answer)
        await page.call("Page.addScriptToEvaluateOnNewDocument", source=source)
        await page.goto(link)
        await page.until("document.querySelector('#uninvited:not([hidden])')")
        told = await page.text("#uninvited")
        assert told == "this invitation has ended. Ask for another code, and scan it."
        assert secret not in await page.run(KEPT)


#: The worker of an invitation's dialog: `hand.made` and `hand.list` answer in its place, if a
#: test has set them.
HAND = """
const own = window.fetch;
window.hand = {made: null, list: null, looks: 0};
window.fetch = async (path, how) => {
  const answer = how?.method === "POST" ? hand.made : hand.list;
  const isAsked = path === "/invitations";
  const told = await (isAsked && answer !== null ? answer() : own(path, how));
  if (isAsked && how?.method !== "POST") hand.looks += 1;
  return told;
};
window.held = () => new Promise((resolve) => { hand.release = resolve });
"""
NONE = "async () => Response.json({invitations: []})"
SHOWN = "!document.querySelector('#invite-scan').hidden"
STATE = "document.querySelector('#invite-state').textContent"
PROBLEM = "document.querySelector('#invite-problem').textContent"
LINK = "document.querySelector('#invite-link').textContent"
MAKE = "#invite-form button"


async def open_dialog(page: Page, url: str) -> None:
    """That of the live page, filled in, before a code was asked for."""
    await page.call("Page.addScriptToEvaluateOnNewDocument", source=HAND)
    await page.goto(url)
    await page.until("!document.querySelector('#invite-open').hidden")
    await page.run(
        "document.querySelectorAll('#invite-form input').forEach(each => { each.value = '' })"
    )
    await page.click("#invite-open")
    await page.type("#invite-user", "ada")
    await page.type("#invite-session", "s-1")


async def look(page: Page) -> None:
    """Until the dialog has looked once more, and told what it found."""
    looks = await page.run("hand.looks")
    await page.until(f"hand.looks > {looks + 1}")


async def test_a_code_that_the_worker_does_not_know_is_shown_no_longer(visit: Visit) -> None:
    """One that was started again; and what it said while it was away is over, too."""
    async with visit(invitations__enabled=True) as (worker, page):
        await open_dialog(page, admin(worker.addresses))
        await page.click(MAKE)
        await page.until(SHOWN)
        await page.until("document.querySelector('#invite-list li')")
        assert await page.run(SHOWN)
        await page.run("hand.list = () => Promise.reject(new TypeError('Failed to fetch')), 1")
        await page.until(f"{PROBLEM} === 'The worker does not answer.'")
        assert await page.run(SHOWN)
        await page.run("hand.list = null, 1")
        await page.until(f"{PROBLEM} === ''")
        assert await page.run(SHOWN)
        await page.run(f"hand.list = {NONE}, 1")
        await page.until(f"{STATE} === 'This code has ended.'")
        assert await page.run(f"[{SHOWN}, {LINK}]") == [False, ""]
        # What a code was refused for stays, however often the list is well.
        refused = "async () => Response.json({error: 'too many are open'}, {status: 409})"
        await page.run(f"hand.made = {refused}, 1")
        await page.until("!document.querySelector('#invite-another').hidden")
        await page.click("#invite-another")
        await page.until(f"{PROBLEM} === 'too many are open'")
        await look(page)
        assert await page.run(PROBLEM) == "too many are open"
        await page.run("hand.made = hand.list = null")
        await page.click(MAKE)
        await page.until(f"{SHOWN} && {PROBLEM} === ''")
        assert page.problems == []


async def test_a_code_that_is_younger_than_the_list_has_not_ended(visit: Visit) -> None:
    """It was asked for when there was none; the next list has it."""
    async with visit(invitations__enabled=True) as (worker, page):
        await open_dialog(page, admin(worker.addresses))
        await page.run("hand.list = held, 1")
        await page.until("Boolean(hand.release)")
        await page.click(MAKE)
        await page.until(SHOWN)
        await page.run("hand.list = null; hand.release(Response.json({invitations: []})), 1")
        await look(page)
        assert await page.run(SHOWN)


async def test_a_link_that_comes_after_the_dialog_was_closed_is_not_kept(visit: Visit) -> None:
    """Neither is it the one of a dialog that was opened again meanwhile, nor its problem."""
    async with visit(invitations__enabled=True) as (worker, page):
        made = json.dumps(await invited(worker))
        await open_dialog(page, admin(worker.addresses))
        for answer in (f"Response.json({made})", "Promise.reject(new TypeError('lost'))"):
            for opens in (False, True):
                await page.run("hand.made = held; hand.release = null")
                await page.click(MAKE)
                await page.until("Boolean(hand.release)")
                await page.run("window.first = hand.release; 1")
                await page.click("#invite-close")
                if opens:
                    await page.click("#invite-open")
                    await page.until("hand.release !== first")
                await page.run(f"first({answer}), 1")
                # By then it has been read.
                await page.run("new Promise((resolve) => setTimeout(resolve, 200))")
                assert await page.run(f"[{LINK}, {SHOWN}, {PROBLEM}]") == ["", False, ""]
                if not opens:
                    await page.click("#invite-open")

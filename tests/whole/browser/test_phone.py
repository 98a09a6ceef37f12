"""A phone films because of a code on a screen: two browsers that share nothing, no typing."""

from __future__ import annotations

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
from tests.whole.browser.chromium import Page, open_page, running_chromium
from tests.whole.browser.test_pages import result

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
    await page.run("document.querySelector('#duration').value = '1'")
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
            assert int(facts["Frames"]) > 0
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


async def test_a_phone_films_by_the_code_of_the_terminal(phone: str, tmp_path: Path) -> None:
    """The first thing that `cfw serve --lan` shows; the link stands below it."""
    with lab(tmp_path / "data") as shown:
        link = seen_at(shown)
        assert link in shown.split()
        async with open_page(phone) as camera:
            facts = await films(camera, link)
            assert int(facts["Frames"]) > 0


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
            assert int((await films(camera, link))["Frames"]) > 0


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

"""The page that films and the invitation of a phone, for who does not see them as we do."""

from __future__ import annotations

from io import BytesIO

import pytest
from PIL import Image

from tests.unit.film.kit import invited, operator
from tests.whole.browser.cameras import bring_camera
from tests.whole.browser.chromium import Page
from tests.whole.browser.sight import borders, contrast, judge, prefer, resize, sticks_out
from tests.whole.browser.test_capture import begin, ready, stop
from tests.whole.browser.test_pages import admin
from tests.whole.browser.test_truth import delete
from tests.whole.browser.visits import Visit
from tests.whole.smoke.worker import Worker

FILMING = "document.querySelector('#sent').textContent"
KIND = "document.querySelector('#result').dataset.kind"
#: What is pressed, filled in, or frames something that is told.
EDGED = "button:not(:disabled), input:not(:disabled), select:not(:disabled), .notice, .result"
schemes = pytest.mark.parametrize("scheme", ["light", "dark"])


async def look(page: Page, edged: str = EDGED, fewest: int = 1) -> None:
    """Axe finds nothing, borders have 3:1, and there is room on a phone, for large text too."""
    assert await judge(page) == []
    edges = await borders(page, edged)
    assert len(edges) >= fewest
    assert {name: ratio for name, ratio in edges.items() if ratio < 3} == {}
    await resize(page, 320, 640, mobile=True)
    assert await sticks_out(page) == []
    await page.run("document.documentElement.style.fontSize = '200%'")
    assert await sticks_out(page) == []
    await page.run("document.documentElement.style.fontSize = ''")
    await page.call("Emulation.clearDeviceMetricsOverride")


@schemes
async def test_the_page_that_films_is_for_everybody(scheme: str, visit: Visit) -> None:
    """Before, while it films, without pictures, green, amber, aborted and refused."""
    async with visit() as (worker, page):
        await prefer(page, scheme)
        await bring_camera(page, torch=1)
        await page.goto(admin(worker.addresses, "/capture#user=ada&session=s-1"))
        await page.until("!document.querySelector('#turn-on').disabled")
        await look(page, fewest=6)
        await ready(page, worker, fps=1)
        await look(page, fewest=6)
        await begin(page)
        await page.run("fake.pictures(3, 50)")
        await page.until(f"parseInt({FILMING}) === 3")
        await look(page)
        await page.run("fake.mute(true)")
        await page.until("document.querySelector('#now').textContent")
        await look(page)
        await page.run("fake.mute(false); fake.hide(true)")
        await page.run("fake.hide(false); fake.picture()")
        kind, told, _ = await stop(page)
        assert (kind, "not in front" in told) == ("warn", True)
        await look(page, fewest=6)
        await begin(page)
        await page.run("fake.pictures(3, 50)")
        kind, _, facts = await stop(page)
        assert kind == "good"
        await look(page, fewest=6)
        await begin(page)
        await page.run("fake.pictures(3, 50)")
        await page.until(f"parseInt({FILMING}) === 3")
        capture_id = await running_id(worker)
        assert capture_id != facts["Capture"]
        assert await delete(worker, capture_id) == 204
        await page.until(f"{KIND} === 'bad'")
        await look(page, fewest=6)
        # A session that nobody knows is refused before the first picture.
        await page.run("document.querySelector('#result').dataset.kind = 'none'")
        await page.type("#session", "wrong")
        await page.click("#go")
        await page.until(f"{KIND} === 'bad'")
        await look(page, fewest=6)
        assert page.problems == []


async def running_id(worker: Worker) -> str:
    async with operator(worker) as asked:
        (capture,) = (await asked.get("/captures")).json()["captures"]
    return str(capture["capture_id"])


@schemes
async def test_who_is_not_let_in_is_told_for_everybody(scheme: str, visit: Visit) -> None:
    """Without an invitation, and on a page that may not use the camera."""
    async with visit(invitations__enabled=True) as (worker, page):
        await prefer(page, scheme)
        link = (await invited(worker))["url"].partition("#")[0]
        await page.goto(link)
        await page.until("!document.querySelector('#uninvited').hidden")
        await look(page, ".notice")
        source = "Object.defineProperty(window, 'isSecureContext', {value: false});"
        await page.call("Page.addScriptToEvaluateOnNewDocument", source=source)
        await page.goto(f"{link}?again")
        await page.until("!document.querySelector('#insecure').hidden")
        await look(page, ".notice")


@schemes
async def test_the_invitation_of_a_phone_is_for_everybody(scheme: str, visit: Visit) -> None:
    """Without a code, with one, when it was taken back, and when nobody can be invited."""
    async with visit(invitations__enabled=True) as (worker, page):
        await prefer(page, scheme)
        await page.goto(admin(worker.addresses))
        await page.until("!document.querySelector('#invite-open').hidden")
        await page.run("document.querySelector('#invite-user').value = ''")
        await page.click("#invite-open")
        await page.until("document.querySelector('#invite').open")
        inside = "#invite, #invite button, #invite input"
        await look(page, inside, fewest=4)
        await page.type("#invite-user", "ada")
        await page.type("#invite-session", "s-1")
        await page.click("#invite-form button")
        await page.until("document.querySelector('#invite-list button')")
        await page.until("!document.querySelector('#invite-scan').hidden")
        await look(page, inside, fewest=5)
        await page.click("#invite-list button")
        await page.until("!document.querySelector('#invite-another').hidden")
        await look(page, inside, fewest=4)
        await page.type("#invite-session", "wrong")
        await page.click("#invite-form button")
        await page.until("document.querySelector('#invite-problem').textContent")
        await look(page, inside, fewest=4)


async def shown(page: Page, selector: str) -> Image.Image:
    return Image.open(BytesIO(await page.screenshot(selector))).convert("RGB")


@schemes
async def test_nothing_of_a_film_is_colour_alone(scheme: str, visit: Visit) -> None:
    """With colours of the reader's own: how far it is, a light that is lit, the code."""
    async with visit() as (worker, page):
        await prefer(page, scheme, "active")
        await bring_camera(page, torch=1)
        await ready(page, worker, fps=1)
        await page.run("fake.track.applyConstraints = async () => {}")
        dark = await shown(page, "#torch")
        await page.click("#torch")
        await page.until("document.querySelector('#torch').ariaPressed === 'true'")
        assert (await shown(page, "#torch")).tobytes() != dark.tobytes()
        await begin(page)
        await page.run(
            "(own => { own.id = 'half'; own.value = 0.5;"
            "document.querySelector('#progress').after(own) })"
            "(document.querySelector('#progress').cloneNode())"
        )
        bar = await shown(page, "#half")
        middle = bar.height // 2
        done, rest = (bar.getpixel((bar.width * part // 4, middle)) for part in (1, 3))
        assert contrast(done, rest) >= 3
        dot = "getComputedStyle(document.querySelector('.chip .dot')).backgroundColor"
        ground = "getComputedStyle(document.body).backgroundColor"
        assert await page.run(f"{dot} !== {ground}")


@schemes
async def test_a_code_is_read_in_every_colour(scheme: str, visit: Visit) -> None:
    """Cameras read dark on light alone, whatever the colours of the page are."""
    async with visit(invitations__enabled=True) as (worker, page):
        await prefer(page, scheme, "active")
        await page.goto(admin(worker.addresses))
        await page.until("!document.querySelector('#invite-open').hidden")
        await page.run(
            "document.querySelector('#invite-user').value = 'ada';"
            "document.querySelector('#invite-session').value = 's-1'"
        )
        await page.click("#invite-open")
        await page.until("document.querySelector('#invite-code path')")
        code = await shown(page, "#invite-code")
        colours = {code.getpixel((x, code.height // 2)) for x in range(code.width)}
        assert {(0, 0, 0), (255, 255, 255)} <= colours

"""The pictures of the README: `python -m tests.whole.browser.screenshots` makes them anew.

The live page of a `cfw demo` and the capture page with the fake camera of a browser; and, for
PHONES.md, how a phone is invited to `cfw serve --lan`, and what Chromium says on it.
"""

from __future__ import annotations

import re
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import trio
from PIL import Image

import cfw
from tests.whole.browser.chromium import Page, open_page, running_chromium
from tests.whole.browser.test_phone import admin_of, lab

PICTURES = Path(cfw.__file__).parent.parent / ".github" / "pictures"
#: So much of the charts that they show something; the shorter capture has ended by then.
DEMO_S = 25


async def resize(page: Page, width: int, height: int) -> None:
    """A window of this size, without scrollbars."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    await page.call("Emulation.setDeviceMetricsOverride", **size)
    await page.call("Emulation.setScrollbarsHidden", hidden=True)


async def save(page: Page, name: str) -> None:
    """What the window shows, in as many colours as a small file has room for."""
    shot = Image.open(BytesIO(await page.screenshot())).convert("RGB")
    shot.quantize(200, dither=Image.Dither.NONE).save(PICTURES / name, optimize=True)


async def make(devtools: str, live_url: str, capture_url: str) -> None:
    async with open_page(devtools) as live, open_page(devtools) as camera:
        await resize(live, 1240, 1010)
        await resize(camera, 1140, 760)
        await live.goto(live_url)
        await camera.goto(capture_url)
        await trio.sleep(DEMO_S)
        await camera.until("!document.querySelector('#go').disabled")
        await camera.click("#turn-on")
        await camera.until("document.querySelector('#preview').videoWidth > 0")
        await camera.click("#go")
        await trio.sleep(5)
        await save(camera, "capture.png")
        await save(live, "live.png")


async def make_phone(desk: str, phone: str, shown: str) -> None:
    """The invitation, and what the browser of a phone shows one after the other."""
    async with open_page(desk) as live, open_page(phone) as camera:
        await resize(live, 1080, 900)
        await live.goto(admin_of(shown))
        await live.until("!document.querySelector('#invite-open').hidden")
        await live.click("#invite-open")
        await live.until("document.querySelectorAll('#invite-list li').length === 2")
        await save(live, "invite.png")
        await resize(camera, 390, 760)
        link = await live.text("#invite-link")
        await camera.call("Page.navigate", url=link)
        await camera.until("document.querySelector('#proceed-link')")
        shots = [await camera.screenshot()]
        await camera.click("#details-button")
        await trio.sleep(1)
        shots.append(await camera.screenshot())
        await camera.click("#proceed-link")
        await camera.until("!document.querySelector('#turn-on').disabled")
        await camera.click("#turn-on")
        await camera.until("document.querySelector('#preview').videoWidth > 0")
        await trio.sleep(1)
        shots.append(await camera.screenshot())
        pictures = [Image.open(BytesIO(shot)).convert("RGB") for shot in shots]
        gap, (width, height) = 16, pictures[0].size
        side = Image.new("RGB", (len(pictures) * (width + gap) - gap, height), "#8a938e")
        for number, picture in enumerate(pictures):
            side.paste(picture, (number * (width + gap), 0))
        side.quantize(200, dither=Image.Dither.NONE).save(
            PICTURES / "warning.png", optimize=True
        )


def main() -> None:
    """Start a demo and a browser, and write both files."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    demo = [sys.executable, "-u", "-m", "cfw.cli", "demo", "--port", "0", "--admin-port", "0"]
    with (
        TemporaryDirectory(ignore_cleanup_errors=True) as profile,
        subprocess.Popen(demo, stdout=subprocess.PIPE, text=True) as process,
        running_chromium(Path(profile)) as devtools,
    ):
        try:
            assert process.stdout is not None
            told = "".join(process.stdout.readline() for _ in range(2))
            live, capture = re.findall(r"http://\S+", told)
            trio.run(make, devtools, live, capture)
        finally:
            process.terminate()
    with (
        TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        running_chromium(Path(folder) / "desk") as desk,
        running_chromium(Path(folder) / "phone") as phone,
        lab(Path(folder) / "data") as shown,
    ):
        trio.run(make_phone, desk, phone, shown)


if __name__ == "__main__":
    main()

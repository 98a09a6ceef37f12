"""What the live page makes of the pictures that cameras write, in a real browser."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image, ImageDraw

from tests.pictures import with_spurious_marker
from tests.whole.browser.chromium import Page
from tests.whole.browser.sight import resize
from tests.whole.browser.test_pages import admin, check_page, opened
from tests.whole.browser.visits import Visit

PICTURE = "document.querySelector('.card canvas')"
#: The colours of its upper corners.
CORNERS = f"""(() => {{
  const {{ width, height }} = {PICTURE};
  const options = {{ willReadFrequently: true }};
  const copy = new OffscreenCanvas(width, height).getContext("2d", options);
  copy.drawImage({PICTURE}, 0, 0);
  const colour = (x) => [...copy.getImageData(x * width, 0.05 * height, 1, 1).data].slice(0, 3);
  return [colour(0.05), colour(0.95)];
}})()"""


def corner(width: int, height: int, turned: bool = False) -> bytes:
    """Red, with a blue corner at the upper left; `turned` says that it lies on its side."""
    image = Image.new("RGB", (width, height), "red")
    ImageDraw.Draw(image).rectangle((0, 0, width // 3, height // 3), fill="blue")
    exif = Image.Exif()
    if turned:
        exif[0x0112] = 6  # the camera was held upright, turned clockwise
    out = io.BytesIO()
    image.save(out, "JPEG", quality=95, subsampling=0, exif=exif)
    return out.getvalue()


async def shown(page: Page, jpeg: bytes, capture: Any) -> tuple[float, list[bool]]:
    """Width to height of the picture, and which of its upper corners are blue."""
    await capture.send_frame(jpeg)
    await page.until(f"!{PICTURE}.hidden && {PICTURE}.width > 0")
    width, height = await page.run(f"[{PICTURE}.width, {PICTURE}.height]")
    return width / height, [blue > 200 > 60 > red for red, _, blue in await page.run(CORNERS)]


WITHOUT = "delete window.ImageDecoder"


@pytest.mark.parametrize("before", ["", WITHOUT], ids=["beside the page", "by an element"])
@pytest.mark.parametrize("turned", [False, True], ids=["upright", "turned"])
async def test_a_picture_is_shown_as_upright_as_it_says(
    visit: Visit, before: str, turned: bool
) -> None:
    """In browsers with a decoder beside the page, and in others."""
    async with visit() as (worker, page):
        await page.call("Page.addScriptToEvaluateOnNewDocument", source=before)
        await page.goto(admin(worker.addresses))
        async with opened(worker.addresses) as capture:
            await page.until("document.querySelector('.card')")
            shape, blue = await shown(page, corner(320, 240, turned), capture)
        assert shape == (240 / 320 if turned else 320 / 240)
        assert blue == ([False, True] if turned else [True, False])
        check_page(page, worker.addresses)


async def test_a_damaged_picture_is_shown_as_far_as_it_goes(visit: Visit) -> None:
    """A camera that writes a marker within its scan: as browsers show it elsewhere."""
    damaged = with_spurious_marker(corner(320, 240))
    async with visit() as (worker, page):
        await page.goto(admin(worker.addresses))
        async with opened(worker.addresses) as capture:
            await page.until("document.querySelector('.card')")
            shape, blue = await shown(page, damaged, capture)
        assert (shape, blue) == (320 / 240, [True, False])
        check_page(page, worker.addresses)


async def test_a_large_picture_is_decoded_no_larger_than_it_is_shown(visit: Visit) -> None:
    """But not smaller either; all of it when its tile is enlarged, also when no other comes."""
    limits = {"limits__max_width": 4_000, "limits__max_height": 3_000}
    async with visit(**limits, limits__max_pixels=12_000_000) as (
        worker,
        page,
    ):
        await resize(page, 1280, 900)
        await page.goto(admin(worker.addresses))
        async with opened(worker.addresses, width=2_000, height=1_500) as capture:
            await page.until("document.querySelector('.card')")
            await shown(page, corner(2_000, 1_500), capture)
            tile = await page.run(f"{PICTURE}.clientWidth")
            assert tile <= await page.run(f"{PICTURE}.width") <= tile + 2_000 / 8
            await page.click(".card [data-act=open]")
            await page.until(f"{PICTURE}.width >= {PICTURE}.clientWidth")
            assert await page.run(f"{PICTURE}.clientWidth") > 2 * tile
        check_page(page, worker.addresses)

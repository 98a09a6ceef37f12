"""The browser's own kit."""

from __future__ import annotations

import trio

from tests.whole.browser.chromium import open_page


async def test_a_page_that_says_much_is_left_at_once(devtools: str) -> None:
    """What nobody has read yet when a test ends keeps nothing waiting."""
    with trio.fail_after(60):
        async with open_page(devtools) as page:
            await page.run("setTimeout(() => { for (let i = 0; i < 500; i++) console.log(i) })")

"""How many pictures a second the live page asks for: as many as its browser can show."""

from __future__ import annotations

from typing import Any

import pytest

from tests.whole.browser.test_capture import run
from tests.whole.browser.test_pages import admin
from tests.whole.browser.visits import Visit

#: A second of looks, each so many ms late, and of so many rounds so many overtaken.
LOOKS = """
  let [now, look] = [0, null];
  performance.now = () => now;
  window.setInterval = (again) => { look = again };
  const pace = new made.Pace();
  const second = (late, rounds = 0, overtaken = 0) => {
    for (let each = 0; each < rounds; each++) pace.count(each < overtaken);
    for (let each = 0; each < 10; each++) { now += 100 + late; look() }
    return pace.budget;
  };
"""


async def judged(visit: Visit, body: str) -> Any:
    async with visit() as (worker, page):
        await page.goto(admin(worker.addresses))
        return await run(page, "pace.js", body)


#: The seconds of a browser, and what is asked for behind each.
SECONDS = [
    # One that has time gets more, up to what no screen shows more of.
    ("[[0], [0], [7.9], [0], [0], [0], [0]]", [460, 529, 608, 700, 805, 900, 900]),
    # Neither early nor late: it stays.
    ("[[8], [25]]", [400, 400]),
    ("[[25.1], [40]]", [280, 196]),
    # Rounds that come before the last one is drawn.
    ("[[0, 10, 1], [0, 10, 3], [0, 100, 31]]", [400, 400, 280]),
    ("[[0, 100, 9], [8, 100, 0]]", [460, 460]),
]


async def test_a_page_asks_for_what_its_browser_has_time_for(visit: Visit) -> None:
    """Timers that come late say that it has none, and pictures that wait to be drawn."""
    each = ", ".join(
        f"(() => {{ {LOOKS} return {seconds}.map(each => Math.round(second(...each))) }})()"
        for seconds, _ in SECONDS
    )
    told = await judged(visit, f"return [{each}]")
    assert told == [budgets for _, budgets in SECONDS]


async def test_a_browser_without_time_has_some_pictures_all_the_same(visit: Visit) -> None:
    """However busy it is; and the number comes back when it is not."""
    told = await judged(
        visit,
        f"{LOOKS} for (let each = 0; each < 30; each++) second(500);"
        "const least = pace.budget; second(0); return [least, Math.round(pace.budget)]",
    )
    assert told == [20, 23]


async def test_the_pictures_are_shared_among_the_tiles_in_view(visit: Visit) -> None:
    """One has no more than a camera at a usual rate gives."""
    told = await judged(visit, f"{LOOKS} return [0, 1, 13, 14, 40, 400].map(n => pace.each(n))")
    assert told == [30, 30, 30, pytest.approx(400 / 14), 10, 1]


async def test_a_page_that_is_not_shown_learns_nothing(visit: Visit) -> None:
    """The timers of a hidden one are slow, whatever the browser has to do."""
    hide = "Object.defineProperty(document, 'hidden', {value: true});"
    told = await judged(visit, f"{LOOKS} {hide} return [second(900), second(900)]")
    assert told == [400, 400]

"""What a page is for who does not see it as we do: axe, contrast, width."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from tests.whole.browser.chromium import Page

#: Rules of WCAG 2.1 A and AA, and those that axe holds to be good practice.
_TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]

#: The contrast of each border that is drawn around something to press or fill in, and of each
#: panel, with what is behind it, as WCAG 2.1 counts it.
_BORDERS = """
(() => {
  const parse = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
  const channel = (c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const behind = (element) => {
    for (let at = element.parentElement; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const ratio = (a, b) => {
    const [most, least] = [light(a), light(b)].sort((x, y) => y - x);
    return (most + 0.05) / (least + 0.05);
  };
  const found = {};
  for (const element of document.querySelectorAll(SELECTOR)) {
    const style = getComputedStyle(element);
    if (element.offsetParent === null || style.borderTopWidth === "0px") continue;
    if (style.borderTopStyle === "none") continue;
    const edge = parse(style.borderTopColor);
    const own = parse(style.backgroundColor);
    // A button that is filled has no edge: then it is the filling that is seen.
    const seen = edge.length === 4 && edge[3] === 0 ? own : edge;
    const name = element.id || element.className || element.tagName;
    found[name] = Math.min(found[name] ?? 99, ratio(seen, behind(element)));
  }
  return found;
})()
"""


async def judge(page: Page) -> list[str]:
    """What axe finds wrong with the page as it is now, one line each."""
    source = files("axe_core_python").joinpath("axe.min.js").read_text("utf-8")
    await page.run(f"{source};1")
    options = {"runOnly": {"type": "tag", "values": _TAGS}, "resultTypes": ["violations"]}
    told: dict[str, Any] = await page.run(f"axe.run(document, {json.dumps(options)})")
    return [
        f"{rule['id']}: {node['html'][:120]} {node['failureSummary']}"
        for rule in told["violations"]
        for node in rule["nodes"]
    ]


async def borders(page: Page, selector: str) -> dict[str, float]:
    """The contrast of the borders of these elements, by id, class or name."""
    found: dict[str, float] = await page.run(_BORDERS.replace("SELECTOR", json.dumps(selector)))
    return found


def contrast(first: Any, second: Any) -> float:
    """Of two colours of a picture, as WCAG 2.1 counts it."""
    dark, light = sorted(map(_luminance, (first, second)))
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: tuple[int, int, int]) -> float:
    parts = (part / 255 for part in colour)
    linear = [
        part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return sum(
        share * part for share, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True)
    )


async def resize(page: Page, width: int, height: int, *, mobile: bool = False) -> None:
    """A window of this size."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
    await page.call("Emulation.setDeviceMetricsOverride", **size)


async def prefer(page: Page, scheme: str, forced: str = "none") -> None:
    """Light or dark, and whether colours are the reader's own."""
    features = [
        {"name": "prefers-color-scheme", "value": scheme},
        {"name": "forced-colors", "value": forced},
    ]
    await page.call("Emulation.setEmulatedMedia", features=features)


async def sticks_out(page: Page) -> list[str]:
    """What is wider than the window; the first few, if anything is."""
    found: list[str] = await page.run(
        "document.documentElement.scrollWidth <= innerWidth ? [] : "
        "[...document.querySelectorAll('body *')]"
        ".filter(e => e.getBoundingClientRect().right > innerWidth + 1)"
        ".slice(0, 5).map(e => e.outerHTML.slice(0, 160))"
    )
    return found

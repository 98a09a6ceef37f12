"""The rates as one SVG picture: how many times as fast as the worker each server is."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from cfw.bench.tables import BASELINE, Table

_LEFT, _BAR, _GAP, _SCALE, _RIGHT = 170, 16, 8, 420, 190
_HEAD = 34
_STYLE = (
    "text{font:12px sans-serif;fill:#222}.t{font-weight:bold}.n{fill:#555}"
    "rect{fill:#9aa5b1}.b{fill:#2b6cb0}line{stroke:#2b6cb0;stroke-dasharray:3 3}"
    "@media(prefers-color-scheme:dark){text{fill:#ddd}.n{fill:#aaa}}"
)


def svg(tables: Sequence[Table]) -> str:
    """Draw a block of bars for each table of rates; the dashed line is the worker.

    Within a block bars are on one scale; blocks have scales of their own.
    """
    parts: list[str] = []
    top = 0
    for table in tables:
        if table.name == "rates" and table.rows:
            top = _block(parts, table, top)
    width = _LEFT + _SCALE + _RIGHT
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{top + _GAP}" '
        f'viewBox="0 0 {width} {top + _GAP}" role="img">'
        f"<title>Frames a second beside the worker</title><style>{_STYLE}</style>"
        + "".join(parts)
        + "</svg>\n"
    )


def _block(parts: list[str], table: Table, top: int) -> int:
    """Draw one table; gives the place below it."""
    rates = {name: row.values["frames_per_s"] or 0.0 for name, row in table.rows.items()}
    most = max(rates.values()) or 1.0
    parts.append(f'<text class="t" x="8" y="{top + 22}">{escape(table.title)}</text>')
    first = at = top + _HEAD
    for name, rate in sorted(rates.items(), key=lambda item: -item[1]):
        length = rate / most * _SCALE
        mark = ' class="b"' if name.startswith("cfw ") else ""
        ratio = table.rows[name].ratios.get("frames_per_s")
        label = f"{rate:,.0f}/s" + ("" if ratio is None else f"  x {ratio:.2f}")
        middle = at + _BAR - 4
        parts.append(
            f'<text x="{_LEFT - 8}" y="{middle}" text-anchor="end">{escape(name)}</text>'
            f'<rect{mark} x="{_LEFT}" y="{at}" width="{length:.1f}" height="{_BAR}"/>'
            f'<text class="n" x="{_LEFT + length + 6:.1f}" y="{middle}">{label}</text>'
        )
        at += _BAR + _GAP
    if BASELINE in rates:
        x = _LEFT + rates[BASELINE] / most * _SCALE
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{first}" y2="{at - _GAP}"/>')
    return at

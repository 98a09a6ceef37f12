"""QR codes: of a link, for a camera that reads it from a screen."""

from __future__ import annotations

import io
from itertools import groupby

import attrs
import segno

#: White around a code, in its own squares; without it cameras find none.
_BORDER = 4
_BORDER_IN_TERMINAL = 2
#: Bright white on black, whatever the colours of the terminal are.
_COLOURS, _NO_COLOURS = "\x1b[97;40m", "\x1b[0m"


@attrs.frozen
class QrPath:
    """A code as the path of an SVG, in squares of 1 x 1.

    Args:
        side: of the whole picture, border included.
        path: what is dark.
    """

    side: int
    path: str


def qr_path(text: str) -> QrPath:
    """Draw a text for a page."""
    rows = segno.make_qr(text, error="m").matrix
    parts = []
    for y, row in enumerate(rows, _BORDER):
        x = _BORDER
        for is_dark, squares in groupby(row):
            width = len(list(squares))
            if is_dark:
                parts.append(f"M{x} {y}h{width}v1h-{width}z")
            x += width
    return QrPath(len(rows) + 2 * _BORDER, "".join(parts))


def qr_terminal(text: str) -> str:
    """Draw a text for a terminal that has colours, in half blocks."""
    drawn = io.StringIO()
    code = segno.make_qr(text, error="l")
    code.terminal(drawn, border=_BORDER_IN_TERMINAL, compact=True)
    return "\n".join(f"{_COLOURS}{line}{_NO_COLOURS}" for line in drawn.getvalue().splitlines())

"""Where the hostile tests put what they measure; `conftest.py` prints it."""

from __future__ import annotations

import os

FIGURES: list[tuple[str, str]] = []

#: `CFW_HOSTILE_LONG=1 nox -s hostile`: the numbers of the long form instead of the short one.
IS_LONG = os.environ.get("CFW_HOSTILE_LONG", "") not in ("", "0")


def figure(what: str, measured: str) -> None:
    """Note one row of the table.

    Args:
        what: what was done, with its number.
        measured: what came of it, with its unit.
    """
    FIGURES.append((what, measured))

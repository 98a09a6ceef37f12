"""The figures that tests measure, as one table behind the run.

A plugin: each test's rows go with its report, so that they come from whichever process ran it.
"""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

#: `CFW_HOSTILE_LONG=1 nox -s hostile`: the numbers of the long form instead of the short one.
IS_LONG = os.environ.get("CFW_HOSTILE_LONG", "") not in ("", "0")
#: The name of a row among the properties of a report.
_ROW = "figure"

#: Of the test that runs now.
_noted: list[tuple[str, str]] = []


def figure(what: str, measured: str) -> None:
    """Note one row of the table.

    Args:
        what: what was done, with its number.
        measured: what came of it, with its unit.
    """
    _noted.append((what, measured))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """What a test has noted is its own, though it fails later."""
    _noted.clear()
    try:
        return (yield)
    finally:
        item.user_properties += [(_ROW, row) for row in _noted]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """`nox -s hostile` shows what was measured, beside what passed."""
    ended = [each for reports in terminalreporter.stats.values() for each in reports]
    calls = [each for each in ended if getattr(each, "when", "") == "call"]
    rows = [row for each in calls for name, row in each.user_properties if name == _ROW]
    if not rows:
        return
    terminalreporter.section("a hostile world: measured in this run")
    width = max(len(what) for what, _ in rows)
    for what, measured in rows:
        terminalreporter.write_line(f"{what:<{width}}  {measured}")

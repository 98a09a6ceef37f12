"""The figures that these tests measure, as one table behind the run."""

from __future__ import annotations

import pytest

from tests.whole.hostile.figures import FIGURES


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """`nox -s hostile` shows what was measured, beside what passed."""
    if not FIGURES:
        return
    terminalreporter.section("a hostile world: measured in this run")
    width = max(len(what) for what, _ in FIGURES)
    for what, figure in FIGURES:
        terminalreporter.write_line(f"{what:<{width}}  {figure}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of it is one session of its own; a plain run of the tests need not wait for it."""
    for item in items:
        if "tests/whole/hostile/" in item.nodeid:
            item.add_marker("hostile")

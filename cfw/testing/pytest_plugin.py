"""Sweeps on pytest's command line: replay a token, set a budget, use more processes.

Works beside pytest-trio and without it. A sweep is a synchronous test, so nothing here
touches Trio; the plugin only passes options on and prints what the sweeps covered.
"""

from __future__ import annotations

from collections.abc import Generator

import pytest

from cfw.testing.sweep import Token, TokenError, options, report

_PROPERTY = "sweep"
_saved = pytest.StashKey[options.Options]()


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def pytest_addoption(parser: pytest.Parser) -> None:
    """The three options."""
    group = parser.getgroup("sweep", "cancellation sweeps (cfw.testing.sweep)")
    group.addoption(
        "--sweep-replay",
        metavar="TOKEN",
        help="run only the point of this token, as a failing sweep printed it",
    )
    group.addoption(
        "--sweep-budget",
        metavar="N",
        type=_positive,
        help="run at most N points of each sweep, evenly spread; it then says sampled",
    )
    group.addoption(
        "--sweep-jobs",
        metavar="N",
        type=_positive,
        help="spread the points of each sweep over N processes",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Pass the options on to the engine; refuse a token that is none."""
    config.stash[_saved] = options.current
    replay = config.getoption("--sweep-replay")
    if replay is not None:
        try:
            Token.parse(replay)
        except TokenError as exc:
            raise pytest.UsageError(f"--sweep-replay: {exc}") from exc
    options.current = options.Options(
        replay=replay,
        budget=config.getoption("--sweep-budget"),
        jobs=config.getoption("--sweep-jobs"),
    )


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave the process as it was, for a pytest that runs inside another."""
    options.current = config.stash.get(_saved, options.Options())


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With a token, keep the test it belongs to."""
    replay = config.getoption("--sweep-replay")
    if replay is None:
        return
    wanted = Token.parse(replay).test
    keep = [item for item in items if _sweep_name(item) == wanted]
    dropped = [item for item in items if _sweep_name(item) != wanted]
    config.hook.pytest_deselected(items=dropped)
    items[:] = keep


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Name the test for the replay command, and keep what it reports."""
    options.current.test = item.nodeid
    report.drain()
    try:
        return (yield)
    finally:
        options.current.test = ""
        item.user_properties += [(_PROPERTY, one.cells()) for one in report.drain()]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One row for every sweep of the session."""
    rows = [
        value
        for reports in terminalreporter.stats.values()
        for one in reports
        if getattr(one, "when", None) == "call"
        for name, value in one.user_properties
        if name == _PROPERTY
    ]
    if rows:
        terminalreporter.section("cancellation sweeps")
        for line in report.table(rows):
            terminalreporter.line(line)


def _sweep_name(item: pytest.Item) -> str | None:
    return getattr(getattr(item, "obj", None), "sweep_name", None)

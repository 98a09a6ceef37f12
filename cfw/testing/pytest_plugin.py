"""Sweeps on pytest's command line: replay a token, set a budget, use more processes.

Works beside pytest-trio and without it. A sweep is a synchronous test, so nothing here
touches Trio; the plugin only passes options on and prints what the sweeps covered.
"""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

from cfw.testing.sweep import Token, TokenError, options, report
from cfw.testing.sweep.api import check_replayed

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
    """With a token, keep the test it belongs to; refuse one whose test is not there."""
    replay = config.getoption("--sweep-replay")
    if replay is None:
        return
    wanted = Token.parse(replay).sweep
    keep = [item for item in items if item.nodeid == wanted.test]
    if items and not keep:
        raise pytest.UsageError(
            f"--sweep-replay: the token belongs to {wanted}, which is not among the "
            f"{len(items)} tests collected. Name its file; or, if the test was renamed or its "
            "parameters changed, the token is stale."
        )
    config.hook.pytest_deselected(items=[item for item in items if item not in keep])
    items[:] = keep


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Name the test to its sweeps, those in fixtures included."""
    options.current.enter(item.nodeid, _from_here(item))
    try:
        return (yield)
    finally:
        options.current.enter("")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Keep what the test's sweeps report, and see that a token found its sweep."""
    report.drain()
    try:
        result = yield
        check_replayed(options.current)
        return result
    finally:
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


def _from_here(item: pytest.Item) -> str:
    """The node id with its path as it is seen from where pytest was started."""
    path, colons, rest = item.nodeid.partition("::")
    started = item.config.invocation_params.dir
    try:
        path = os.path.relpath(item.config.rootpath / path, started)
    except ValueError:
        # Another drive.
        path = str(item.config.rootpath / path)
    return path.replace(os.sep, "/") + colons + rest

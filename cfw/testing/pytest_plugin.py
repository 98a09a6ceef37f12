"""Sweeps on pytest's command line: of any test, or the suite's own; budgets and replays.

`--sweep` sweeps every test that pytest-trio would run. Sweeps that are written as such, with
`@sweep`, run in any case, beside pytest-trio and without it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from typing import Any, cast

import pytest

from cfw.testing.sweep import (
    NondeterminismError,
    RealIOError,
    SweepError,
    SweepFailure,
    SweepOptions,
    Token,
    TokenError,
    options,
    report,
)
from cfw.testing.sweep import (
    items as suite,
)
from cfw.testing.sweep.api import check_replayed, sweep_hosted

NAME = "--sweep"
"""What tokens of `--sweep` name as the sweep."""

_PROPERTY = "sweep"
_SKIPPED = "sweep_skipped"
_swept = pytest.StashKey[suite.Suite]()
_saved = pytest.StashKey[options.Options]()


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options."""
    group = parser.getgroup("sweep", "cancellation sweeps (cfw.testing.sweep)")
    group.addoption(
        "--sweep",
        metavar="SCOPES",
        nargs="?",
        const="test",
        help="sweep every async test that pytest-trio runs, as it stands, and nothing else: "
        "cancel its body at each instant; --sweep=test,nursery: also each nursery opened in it",
    )
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
    group.addoption(
        "--sweep-stop-after",
        metavar="N",
        type=_positive,
        help="stop each sweep after N different failures",
    )


def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser, args: list[str]
) -> None:
    """Let `--sweep tests/test_x.py` be an option and a path, not an option's value."""
    if NAME in args:
        args[:] = [f"{NAME}=test" if arg == NAME else arg for arg in args]
        early_config.known_args_namespace = parser.parse_known_args(args)


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
        stop_after=config.getoption("--sweep-stop-after"),
        live=config.getoption("capture") == "no",
    )
    config.addinivalue_line("markers", "no_sweep(reason): leave the test out of pytest --sweep")
    config.addinivalue_line(
        "markers",
        "sweep_with(**options): how pytest --sweep sweeps the test, as the arguments of "
        "cfw.testing.sweep.sweep: allow=[OSError], without=['warning'], heal=60",
    )
    trio_plugin = sys.modules.get("pytest_trio.plugin")
    if _scopes(config) and not config.pluginmanager.is_registered(trio_plugin):
        raise pytest.UsageError("--sweep sweeps tests of pytest-trio, which is not installed")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave the process as it was, for a pytest that runs inside another."""
    options.current = config.stash.get(_saved, options.Options())


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep what is to be swept, or the test that a token belongs to."""
    if _scopes(config):
        _choose(config, items)
    _keep_replayed(config, items)


def _scopes(config: pytest.Config) -> tuple[str, ...]:
    """What `--sweep` cancels, as in `at`; nothing if the tests just run."""
    text = config.getoption(NAME)
    if text is None:
        replay = config.getoption("--sweep-replay")
        swept = replay is not None and Token.parse(replay).sweep.name == NAME
        return ("test",) if swept else ()
    unknown = set(text.split(",")) - set(suite.SCOPES)
    if unknown:
        wrong, known = ", ".join(sorted(unknown)), ", ".join(suite.SCOPES)
        raise pytest.UsageError(f"{NAME}={text}: {wrong!r} is none of {known}")
    return tuple(suite.SCOPES[name] for name in dict.fromkeys(text.split(",")))


def _choose(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is not asynchronous, and say why what is cannot be swept."""
    keep: list[pytest.Item] = []
    for item in items:
        if suite.is_async(item):
            keep.append(item)
            left_out = item.get_closest_marker("no_sweep")
            reason = suite.why_not(item)
            if left_out is not None:
                reason = " ".join(["marked no_sweep", *map(str, left_out.args)])
            if reason:
                item.user_properties.append((_SKIPPED, reason))
                item.add_marker(pytest.mark.skip(reason=f"not swept: {reason}"))
                continue
            item.stash[_swept] = suite.Suite(item)
            if config.pluginmanager.hasplugin("timeout"):
                # Meant for one run. A sweep bounds each of its runs by itself.
                item.add_marker(pytest.mark.timeout(0), append=False)
        elif hasattr(getattr(item, "obj", None), "sweep_name"):
            keep.append(item)
    config.hook.pytest_deselected(items=[item for item in items if item not in keep])
    items[:] = keep


def _keep_replayed(config: pytest.Config, items: list[pytest.Item]) -> None:
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


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Sweep the test instead of calling it, unless this is one of the sweep's own calls."""
    test = pyfuncitem.stash.get(_swept, None)
    if test is None:
        return None
    __tracebackhide__ = True
    chosen = SweepOptions(at=_scopes(pyfuncitem.config), schedules=["fifo"], limit=1e6)
    for marker in reversed(list(pyfuncitem.iter_markers("sweep_with"))):
        chosen |= cast(SweepOptions, marker.kwargs)
    chosen["name"] = NAME
    test.step_aside()
    try:
        done = sweep_hosted(test, pyfuncitem.function, pyfuncitem.nodeid, **chosen)
    except (TokenError, SweepFailure) as exc:
        if isinstance(exc, SweepFailure):
            report.record(exc.report)
            if not exc.failures[0].has_fault:
                _not_swept(pyfuncitem, f"it fails without a fault: {exc.failures[0].message}")
        raise
    except SweepError as exc:
        _not_swept(pyfuncitem, _short(exc))
    if not done.points:
        _not_swept(pyfuncitem, "its body never waits, so there is nothing to cut")
    report.record(done)
    return True


def _not_swept(item: pytest.Item, reason: str) -> None:
    item.user_properties.append((_SKIPPED, reason))
    pytest.skip(f"not swept: {reason}")


def _short(error: SweepError) -> str:
    if isinstance(error, RealIOError):
        return f"it uses {error.what}, at {error.where}"
    if isinstance(error, NondeterminismError):
        return f"uncontrolled nondeterminism: {error.what}. {error.where}".replace("\n", " ")
    return str(error)


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
    if suite.is_run in item.stash:
        return (yield)
    report.drain()
    try:
        result = yield
        check_replayed(options.current)
        return result
    finally:
        item.user_properties += [(_PROPERTY, one.cells()) for one in report.drain()]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what a sweep found, not where the engine raised it, nor the log of all its runs."""
    made = yield
    if call.excinfo is not None and isinstance(call.excinfo.value, SweepFailure):
        made.longrepr = str(call.excinfo.value)
        made.sections = [one for one in made.sections if not one[0].endswith(" call")]
    reasons = [value for name, value in item.user_properties if name == _SKIPPED]
    if made.skipped and reasons:
        path, line, _ = item.location
        made.longrepr = (path, (line or 0) + 1, f"Skipped: not swept: {reasons[0]}")
    return made


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One row for every sweep of the session, and why what was not swept was not."""
    found: dict[str, list[tuple[str, Any]]] = {_PROPERTY: [], _SKIPPED: []}
    for reports in terminalreporter.stats.values():
        for one in reports:
            if getattr(one, "when", None) in ("setup", "call"):
                for name, value in one.user_properties:
                    found.get(name, []).append((one.nodeid, value))
    if found[_PROPERTY]:
        terminalreporter.section("cancellation sweeps")
        for line in report.table([cells for _, cells in found[_PROPERTY]]):
            terminalreporter.line(line)
    if found[_SKIPPED]:
        terminalreporter.section(f"not swept: {len(found[_SKIPPED])} tests")
        for test, reason in found[_SKIPPED]:
            terminalreporter.line(f"{test}: {reason}")


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

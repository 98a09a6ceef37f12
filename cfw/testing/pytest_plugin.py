"""Sweeps on pytest's command line: of any test, or the suite's own; budgets and replays.

`--sweep` sweeps every test that pytest-trio, or AnyIO's plugin on Trio, would run. Sweeps that
are written as such, with `@sweep`, run in any case, beside these and without them.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Generator, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from cfw.testing.sweep import (
    SweepFailure,
    Token,
    TokenError,
    cover,
    items,
    memory,
    options,
    report,
)
from cfw.testing.sweep.api import check_replayed
from cfw.testing.sweep.page import page_of
from cfw.testing.sweep.session import (
    NAME,
    SKIPPED,
    choose,
    plan,
    planned,
    scopes_of,
    sweep_item,
)

#: Attribute of a test's report: what its sweeps report, as plain values.
_TOLD = "sweeps"

_UNITS = {"s": 1, "m": 60, "h": 3600}
_saved = pytest.StashKey[options.Options]()


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _budget(text: str) -> int | float:
    """Points as an int, or seconds as a float."""
    if text[-1:] in _UNITS:
        return float(_positive(text[:-1]) * _UNITS[text[-1]])
    return _positive(text)


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options."""
    group = parser.getgroup("sweep", "cancellation sweeps (cfw.testing.sweep)")
    group.addoption(
        "--sweep",
        metavar="SCOPES",
        nargs="?",
        const="test",
        help="sweep every async test that pytest-trio runs, or AnyIO's plugin on Trio, as it "
        "stands, and nothing else: "
        "cancel its body at each instant; --sweep=test,nursery: also each nursery opened in it",
    )
    group.addoption(
        "--sweep-replay",
        metavar="TOKEN",
        help="run only the point of this token, as a failing sweep printed it; or of the first "
        "token in a file of this name",
    )
    group.addoption(
        "--sweep-budget",
        metavar="N",
        type=_budget,
        help="run at most N points of each sweep, evenly spread; it then says sampled. With "
        "--sweep also a time for all tests together, as 90s or 5m",
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
    memory.add_options(group)
    group.addoption(
        "--sweep-cov",
        metavar="PACKAGE",
        help="count which awaits of this package were cut, and list those that never were",
    )
    group.addoption(
        "--sweep-html",
        metavar="DIR",
        help="where to write a page for each failure; in pytest's cache if not given",
    )
    group.addoption(
        "--sweep-json", metavar="FILE", help="write what all sweeps covered and found as JSON"
    )


def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser, args: list[str]
) -> None:
    """Let `--sweep tests/test_x.py` be an option and a path, not an option's value."""
    if NAME in args:
        args[:] = [f"{NAME}=test" if arg == NAME else arg for arg in args]
        early_config.known_args_namespace = parser.parse_known_args(args)


def pytest_configure(config: pytest.Config) -> None:
    """Pass the options on to the engine; refuse those that make no sense."""
    config.stash[_saved] = options.current
    replay, package = config.getoption("--sweep-replay"), config.getoption("--sweep-cov")
    try:
        if replay is not None:
            # From here on the option is the token itself, also in the processes of xdist.
            config.option.sweep_replay = replay = str(Token.read(replay))
        if package is not None:
            cover.files_of(package)
    except TokenError as exc:
        raise pytest.UsageError(f"--sweep-replay: {exc}") from exc
    except ValueError as exc:
        raise pytest.UsageError(f"--sweep-cov: {exc}") from exc
    budget = config.getoption("--sweep-budget")
    options.current = options.Options(
        replay=replay,
        budget=budget if isinstance(budget, int) else None,
        jobs=config.getoption("--sweep-jobs"),
        beside=getattr(config, "workerinput", {}).get("workercount", 1),
        stop_after=config.getoption("--sweep-stop-after"),
        cover=package or "",
        debug=bool(config.getoption("usepdb", False)),
        live=config.getoption("capture") == "no",
    )
    memory.configure(config, options.current)
    config.addinivalue_line("markers", "no_sweep(reason): leave the test out of pytest --sweep")
    config.addinivalue_line(
        "markers",
        "sweep_with(**options): how pytest --sweep sweeps the test, as the arguments of "
        "cfw.testing.sweep.sweep: allow=[OSError], without=['warning'], heal=60",
    )
    if _scopes(config) and not items.is_any_run(config.pluginmanager):
        raise pytest.UsageError(
            "--sweep sweeps tests that pytest-trio or AnyIO's plugin runs; neither is there"
        )
    spread = hasattr(config, "workerinput") or bool(config.getoption("numprocesses", 0))
    if isinstance(budget, float) and (spread or not _scopes(config)):
        raise pytest.UsageError(
            "--sweep-budget as a time is shared out among the tests of --sweep, in one pytest "
            "process: use it without -n; --sweep-jobs spreads each sweep over processes"
        )


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remember which points failed, for the next time."""
    memory.note(report)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write down what failed last."""
    memory.write(session.config)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave the process as it was, for a pytest that runs inside another."""
    options.current = config.stash.get(_saved, options.Options())


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep what is to be swept, or the test that a token belongs to."""
    if scopes := _scopes(config):
        choose(config, items, scopes)
    _keep_replayed(config, items)


def _scopes(config: pytest.Config) -> tuple[str, ...]:
    """What `--sweep` cancels; nothing if the tests just run."""
    text = config.getoption(NAME)
    replay = config.getoption("--sweep-replay")
    if text is None and replay is not None and Token.parse(replay).sweep.name == NAME:
        text = "test"
    return () if text is None else scopes_of(text)


def _keep_replayed(config: pytest.Config, items: list[pytest.Item]) -> None:
    replay = config.getoption("--sweep-replay")
    if replay is None:
        return
    wanted = Token.parse(replay).sweep
    keep = [item for item in items if item.nodeid == wanted.test]
    if not keep:
        # pytest names tests from its rootdir, which may be another one from here.
        keep = [item for item in items if wanted.is_of(item.nodeid)]
    if len({item.nodeid for item in keep}) > 1:
        raise pytest.UsageError(
            f"--sweep-replay: the token may belong to any of {len(keep)} tests that are called "
            f"{wanted.test} from here; name its file"
        )
    if keep:
        token = Token.parse(replay)
        token = replace(token, sweep=replace(wanted, test=keep[0].nodeid))
        config.option.sweep_replay = options.current.replay = str(token)
    if items and not keep:
        raise pytest.UsageError(
            f"--sweep-replay: the token belongs to {wanted}, which is not among the "
            f"{len(items)} tests collected. Name its file; or, if the test was renamed or its "
            "parameters changed, the token is stale."
        )
    config.hook.pytest_deselected(items=[item for item in items if item not in keep])
    items[:] = keep


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """Tell first how much there is to sweep, and how long it takes."""
    config = session.config
    other = config.option.collectonly or config.getoption("--sweep-replay")
    if not other and not hasattr(config, "workerinput") and not session.testsfailed:
        budget = config.getoption("--sweep-budget")
        reporter: Any = config.pluginmanager.getplugin("terminalreporter")
        plan(
            session.items,
            budget if isinstance(budget, float) else None,
            lambda line: reporter.write_line(line) if reporter is not None else None,
        )
    return (yield)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Sweep the test instead of calling it, unless this is one of the sweep's own calls."""
    __tracebackhide__ = True
    if planned not in pyfuncitem.stash:
        return None
    sweep_item(pyfuncitem, pyfuncitem.stash[planned])
    return True


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Name the test to its sweeps, those in fixtures included."""
    options.current.enter(item.nodeid, _from_here(item))
    try:
        return (yield)
    finally:
        options.current.enter("")


_reports = pytest.StashKey[list[report.Report]]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Keep what the test's sweeps report, and see that a token found its sweep."""
    if items.is_run in item.stash:
        return (yield)
    report.drain()
    try:
        result = yield
        check_replayed(options.current)
        return result
    finally:
        item.stash[_reports] = report.drain()
        if options.current.progress is not None:
            options.current.progress("")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what a sweep found, not where the engine raised it, nor the log of all its runs."""
    made = yield
    if items.is_run in item.stash:
        return made
    failure = call.excinfo.value if call.excinfo is not None else None
    command = failure.command if isinstance(failure, SweepFailure) else "{token}"
    if isinstance(failure, SweepFailure):
        pages = [f"page: {path}" for path in _write_pages(item, failure)]
        made.longrepr = "\n".join([str(failure), *pages])
        made.sections = [one for one in made.sections if not one[0].endswith(" call")]
    reasons = [value for name, value in item.user_properties if name == SKIPPED]
    if made.skipped and reasons:
        path, line, _ = item.location
        made.longrepr = (path, (line or 0) + 1, f"Skipped: not swept: {reasons[0]}")
    if call.when == "call":
        told = [one.to_json(command) for one in item.stash.get(_reports, [])]
        # Plain values travel with a report, also from another process.
        setattr(made, _TOLD, told)
        setattr(made, memory.FAILED, list(_tokens(failure)))
        # JUnit's XML takes them from the report of the teardown.
        item.user_properties += list(_properties(told))
    return made


def _tokens(failure: BaseException | None) -> Iterator[str]:
    if isinstance(failure, SweepFailure):
        yield from (one.token for one in failure.failures if one.token)


def _properties(told: list[dict[str, Any]]) -> Iterator[tuple[str, object]]:
    """What JUnit's XML shows of a test's sweeps."""
    for one in told:
        yield "sweep_points", one["points"]
        yield "sweep_runs", one["runs"]
        yield "sweep_coverage", one["cells"][-1]
        for failure in one["failures"]:
            yield "sweep_failure", f"{failure['invariant']}: {failure['message']}"
            yield "sweep_replay", failure["replay"]


def _write_pages(item: pytest.Item, failure: SweepFailure) -> Iterator[str]:
    """A page for each failure of a test; in pytest's cache, unless it has none."""
    config = item.config
    chosen, cache = config.getoption("--sweep-html"), getattr(config, "cache", None)
    if chosen is not None:
        folder = Path(chosen)
    elif cache is not None:
        folder = cache.mkdir("sweep")
    else:
        return
    folder.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^\w.-]+", "-", item.nodeid)[-150:]
    for number, one in enumerate(failure.failures, 1):
        path = folder / f"{name}-{number}.html"
        path.write_text(page_of(one, item.nodeid, failure.command), "utf-8")
        yield os.path.relpath(path, config.invocation_params.dir)


@pytest.hookimpl(tryfirst=True)
def pytest_exception_interact(call: pytest.CallInfo[Any]) -> None:
    """Let a debugger stand where the scenario raised, not where the engine told of it."""
    error = call.excinfo.value if call.excinfo is not None else None
    if isinstance(error, SweepFailure) and error.__cause__ is not None:
        call.excinfo = pytest.ExceptionInfo.from_exception(error.__cause__)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """What every sweep covered, why what was not swept was not, and which awaits were cut."""
    told: list[dict[str, Any]] = []
    skipped: list[tuple[str, str]] = []
    for reports in terminalreporter.stats.values():
        for one in reports:
            told += getattr(one, _TOLD, [])
            if getattr(one, "when", None) in ("setup", "call"):
                found = dict(one.user_properties).get(SKIPPED)
                skipped += [(one.nodeid, found)] if found is not None else []
    if told:
        terminalreporter.section("cancellation sweeps")
        for line in report.table([one["cells"] for one in told]):
            terminalreporter.line(line)
    if skipped:
        terminalreporter.section(f"not swept: {len(skipped)} tests")
        for test, reason in skipped:
            terminalreporter.line(f"{test}: {reason}")
    package = config.getoption("--sweep-cov")
    coverage: list[cover.Covered] = []
    if package is not None:
        cuts = Counter[tuple[str, int]]()
        for one in told:
            cuts.update({(file, line): times for file, line, times in one["cuts"]})
        coverage = list(cover.covered(package, cuts))
        terminalreporter.section(f"cancel points of {package}")
        for line in cover.lines_of(package, coverage):
            terminalreporter.line(line)
    if path := config.getoption("--sweep-json"):
        skips = [{"test": test, "reason": reason} for test, reason in skipped]
        awaits = [asdict(one) for one in coverage]
        text = json.dumps({"sweeps": told, "not_swept": skips, "awaits": awaits}, indent=1)
        Path(path).write_text(text + "\n", "utf-8")


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

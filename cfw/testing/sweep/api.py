"""The two ways in: `run_sweep` for any program, `@sweep` for a pytest suite."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cache
from typing import Any, Protocol, Unpack, cast

from cfw.testing.sweep import options
from cfw.testing.sweep._trio import check_trio
from cfw.testing.sweep.calls import call_text, content_of, place_of
from cfw.testing.sweep.config import Config, SweepOptions, make_config
from cfw.testing.sweep.cover import files_of
from cfw.testing.sweep.engine import Engine
from cfw.testing.sweep.errors import TokenError
from cfw.testing.sweep.facts import Host, Scenario, scenario_name
from cfw.testing.sweep.replay import replay_token
from cfw.testing.sweep.report import Report, record
from cfw.testing.sweep.tokens import Sweep, Token
from cfw.testing.sweep.verdict import SweepFailure


def run_sweep(
    scenario: Scenario,
    *,
    replay: str | None = None,
    test: str | None = None,
    **settings: Unpack[SweepOptions],
) -> Report:
    """Fire every fault at every instant of a scenario, and judge every run.

    Synchronous, because each run is a `trio.run` of its own; it cannot be called inside one.
    Inside a pytest test the command line overrides `budget` and `jobs`, and the sweep that
    the token of `--sweep-replay` belongs to runs that point only.

    Args:
        scenario: async function; gets a `World`, and a parameter set as keyword arguments.
        replay: a token: run this point only. None runs the sweep.
        test: what its tokens name as the test. None for the running test's node id, or
            outside pytest for the scenario's module and name.
        settings: see `SweepOptions`.

    Raises:
        SweepFailure: a point broke an invariant; or a name in `at` was never exposed, or a
            `sometimes` property never reached.
        NondeterminismError: two equal runs took different steps.
        TokenError: the token belongs to another test or, as `StaleToken`, to other code.
        UnsupportedTrio: the installed Trio does not work as needed.
        ValueError: a setting makes no sense.
    """
    __tracebackhide__ = True
    config = make_config(scenario, **_overridden(settings))
    now = options.current
    place = test or now.test or place_of(scenario)
    if now.test:
        command = _pytest_command(now.select or place)
    else:
        command = call_text(scenario, settings)
    return _run(config, replay, place, command)


def sweep_hosted(
    host: Host,
    scenario: Scenario,
    title: str,
    main: str,
    *,
    only_plan: bool = False,
    **settings: Unpack[SweepOptions],
) -> Report:
    """Sweep what a host calls, inside a running pytest test.

    Args:
        host: calls the scenario in each run.
        scenario: the function at the core of it, to name the task.
        title: what the report calls it.
        main: what its main task is called.
        only_plan: make the runs without a fault only, and report how many points there are.
        settings: see `SweepOptions`; a name in `at` need not come. The command line
            overrides them as in `run_sweep`.

    Raises:
        SweepFailure: a point broke an invariant.
        SweepError: it cannot be swept.
    """
    __tracebackhide__ = True
    config = make_config(scenario, **_overridden(settings))
    settings_ = replace(config.settings, host=host, task_name=main)
    config = replace(config, settings=settings_, strict=False)
    place = options.current.test
    command = _pytest_command(options.current.select or place)
    if only_plan:
        _check_trio_once()
        return Engine(config, Report(title), Sweep(place, config.name), command).plan()
    return _run(config, None, place, command, title=title)


class SweepTest(Protocol):
    """A synchronous test function that sweeps a scenario.

    Attributes:
        scenario: the async function it was made of.
        settings: what was passed to `sweep`.
        sweep_name: what the report and the tokens call it.
    """

    scenario: Scenario
    settings: SweepOptions
    sweep_name: str

    def __call__(self, *args: Any, **values: Any) -> None:
        """Sweep; arguments are pytest's fixtures."""


def sweep(**settings: Unpack[SweepOptions]) -> Callable[[Scenario], SweepTest]:
    """Turn an async scenario into a synchronous test function that sweeps it.

    The scenario's first argument is the `World`. Arguments named in `params` come from
    there; those left are pytest fixtures, and the same value goes into every run. The
    test's `scenario` and `settings` attributes serve to sweep it again with `run_sweep`.

    Args:
        settings: see `SweepOptions`; the command line overrides them as in `run_sweep`.

    Raises:
        TypeError: the function is not asynchronous, or has no argument for the world.
    """

    def decorate(scenario: Scenario) -> SweepTest:
        if not inspect.iscoroutinefunction(scenario):
            raise TypeError(f"@sweep() needs an async function, not {scenario!r}")
        fixtures = _fixtures(scenario, settings)

        def test(*args: Any, **values: Any) -> None:
            __tracebackhide__ = True

            async def bound(world: object, **params: object) -> None:
                await scenario(*args, world, **params, **values)

            chosen = _overridden(settings)
            chosen.setdefault("name", scenario_name(scenario))
            config = make_config(bound, **chosen)
            now = options.current
            place = now.test or place_of(scenario)
            if now.test:
                command = _pytest_command(now.select or place)
            else:
                command = call_text(scenario, settings, f"{scenario.__name__}.scenario")
            try:
                record(_run(config, None, place, command, alone=True))
            except SweepFailure as failure:
                record(failure.report)
                raise

        # Not functools.wraps: pytest would follow __wrapped__ and take the world and the
        # parameters for fixtures, and pytest-trio would see an async function.
        test.__name__ = test.__qualname__ = scenario.__name__
        test.__qualname__ = scenario.__qualname__
        test.__module__ = scenario.__module__
        test.__doc__ = scenario.__doc__
        test.__dict__.update(scenario.__dict__)
        extra: dict[str, object] = {
            "__signature__": inspect.Signature(fixtures),
            "scenario": scenario,
            "settings": settings,
            "sweep_name": settings.get("name") or scenario_name(scenario),
        }
        test.__dict__.update(extra)
        return cast(SweepTest, test)

    return decorate


def _run(
    config: Config,
    replay: str | None,
    place: str,
    command: str,
    *,
    alone: bool = False,
    title: str = "",
) -> Report:
    """Sweep, or replay the token given here or on the command line if it belongs here.

    Args:
        config: of the sweep.
        replay: a token given by the caller; it belongs here or is refused.
        place: the test, as tokens name it.
        command: replays, with the token in place of `{token}`.
        alone: the test has no other sweep that the command line's token may belong to.
        title: what the report calls it; empty for its name.
    """
    __tracebackhide__ = True
    _check_trio_once()
    now = options.current
    sweep = Sweep(place, config.name)
    if replay is not None:
        sweep = replace(sweep, nth=Token.parse(replay).sweep.nth)
    elif now.test:
        sweep = replace(sweep, nth=now.number(config.name, content_of(config)))
        if now.replay is not None:
            belongs = Token.parse(now.replay).sweep == sweep
            replay = now.replay if belongs or alone else None
            now.replayed |= belongs
    if now.cover:
        files = frozenset(str(path) for path in files_of(now.cover))
        config = replace(config, settings=replace(config.settings, cover=files))
    report = Report(title or config.name, now.select or place, cover=now.cover)
    if replay is not None:
        return replay_token(replay, config, report, sweep, command)
    for token in now.failed if now.test else ():
        if Token.parse(token).sweep == sweep:
            again = Report(report.scenario, report.test)
            # What no longer fits is found by the whole sweep, if it is still there.
            with suppress(TokenError):
                replay_token(token, config, again, sweep, command)
    return Engine(config, report, sweep, command).run()


def check_replayed(now: options.Options) -> None:
    """Refuse a test that is over and never came to the sweep of the command line's token.

    Raises:
        TokenError: it had no such sweep.
    """
    if now.replay is not None and not now.replayed:
        raise TokenError(
            f"this token belongs to {Token.parse(now.replay).sweep}; the test ran no such "
            f"sweep, but {', '.join(now.swept) or 'none'}. Nothing was replayed."
        )


def _overridden(settings: SweepOptions) -> SweepOptions:
    chosen = SweepOptions(**settings)
    now = options.current
    if now.budget is not None:
        chosen["budget"] = now.budget
    if now.jobs is not None:
        chosen["jobs"] = now.jobs
    if now.fork is not None:
        chosen["fork"] = now.fork
    if now.stop_after is not None:
        chosen["stop_after"] = now.stop_after
    return chosen


def _pytest_command(test: str) -> str:
    return f"pytest {shlex.quote(test)} --sweep-replay {{token}}"


_check_trio_once = cache(check_trio)


def _fixtures(scenario: Scenario, settings: SweepOptions) -> list[inspect.Parameter]:
    """The parameters pytest has to fill: all but the world, the sweep's own and defaults."""
    parameters = list(inspect.signature(scenario).parameters.values())
    own = {name for one in settings.get("params", ()) for name in one}
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.POSITIONAL_ONLY)
    method = parameters[:1] if parameters and parameters[0].name == "self" else []
    rest = parameters[len(method) :]
    if not rest or rest[0].kind not in kinds or rest[0].name in own:
        raise TypeError(f"{scenario!r} needs a first argument for the world")
    left = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in rest[1:]
        if parameter.name not in own
        and parameter.default is inspect.Parameter.empty
        and parameter.kind
        not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    ]
    return [*method, *left]

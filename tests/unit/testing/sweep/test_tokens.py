"""Replay: the same point in another process, or a refusal; never another point."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from cfw.testing.sweep import (
    Injection,
    StaleToken,
    SweepFailure,
    Token,
    TokenError,
    World,
    grid,
    run_sweep,
)
from cfw.testing.sweep.facts import Settings
from cfw.testing.sweep.points import Fault, Point
from cfw.testing.sweep.run import MIN_BATCHES
from cfw.testing.sweep.tokens import Sweep, params_checksum

SCENARIO = """
import sys
import trio
from cfw.testing.sweep import SweepFailure, run_sweep

# Objects in sets and dicts, whose order depends on the hash seed.
async def scenario(world, pace):
    names = {"alpha", "beta", "gamma", "delta"}
    async def child(name):
        await trio.sleep(pace)
    with trio.CancelScope() as scope:
        world.expose("scope", scope)
        async with trio.open_nursery() as nursery:
            for name in sorted(names):
                nursery.start_soon(child, name)
    world.check(lambda: not (scope.cancelled_caught and world.injections[0].time) or 1 / 0, "x")

settings = dict(at="scope", schedules=[3], params=[{"pace": 0.25}, {"pace": 0.5}])
try:
    run_sweep(scenario, replay=(sys.argv[1:] or [None])[0], **settings)
except SweepFailure as failure:
    print(failure.token, failure.invariant, failure.report.runs)
"""


def other_process(tmp_path: Path, seed: int, *arguments: str) -> list[str]:
    script = tmp_path / "script.py"
    script.write_text(SCENARIO)
    done = subprocess.run(
        [sys.executable, script, *arguments],
        env={**os.environ, "PYTHONHASHSEED": str(seed)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.split()


def test_replay_in_another_process_with_another_hash_seed(tmp_path: Path) -> None:
    """A token found under one hash seed reproduces its failure under another, in one run."""
    token, invariant, runs = other_process(tmp_path, 1)
    assert invariant == "x"
    assert int(runs) > 1
    assert other_process(tmp_path, 2, token) == [token, "x", "1"]


async def scenario(world: World, extra: int = 0, broken: bool = True) -> None:
    with trio.CancelScope() as scope:
        world.expose("scope", scope)
        for _ in range(extra):
            await trio.lowlevel.checkpoint()
        await trio.sleep(1)
    world.check(lambda: not (broken and scope.cancelled_caught) or 1 / 0, "never cut")


async def later_edit(world: World) -> None:
    with trio.CancelScope() as scope:
        world.expose("scope", scope)
        # One more line than the scenario a token was made for, before its step.
        await trio.sleep(1)
    world.check(lambda: None, "nothing")


def token_of(**params: object) -> Token:
    with pytest.raises(SweepFailure) as caught:
        run_sweep(scenario, at="scope", schedules=["fifo"], params=[params], name="t.s")
    return Token.parse(caught.value.failures[-1].token)


def test_replay_of_fixed_code_passes() -> None:
    """A fix that leaves the steps before the instant alone passes the token's point."""
    token = token_of()
    fired: list[str | None] = []

    async def fixed(world: World, **params: object) -> None:
        world.check(lambda: fired.append(world.injected), "collect")
        await scenario(world, broken=False)

    with pytest.raises(StaleToken):
        run_sweep(fixed, replay=str(token), name="t.s")
    assert fired == []

    async def whole(world: World, broken: bool) -> None:
        await scenario(world, broken=broken)

    broken = grid(broken=[True])
    with pytest.raises(SweepFailure) as caught:
        run_sweep(whole, at="scope", schedules=["fifo"], params=broken, name="t.s")
    checksum = params_checksum({"broken": False})
    fixed_token = replace(Token.parse(caught.value.token), params=checksum)
    report = run_sweep(whole, replay=str(fixed_token), params=grid(broken=[False]), name="t.s")
    assert (report.runs, report.ran, report.complete) == (1, 1, False)


@pytest.mark.parametrize("stale", ["line", "hash", "step", "name", "params", "trio"])
def test_stale_tokens_are_refused_and_fire_nothing(stale: str) -> None:
    """Whatever changed, the token says it is stale, and no other point is run."""
    fired: list[Injection] = []
    token = token_of()
    (fault,) = token.point.faults
    changed = {
        "line": token,
        "hash": replace(token, point=_with(token, replace(fault, hash=fault.hash ^ 1))),
        "step": replace(token, point=_with(token, replace(fault, step=fault.step + 50))),
        "name": replace(token, point=_with(token, replace(fault, name="gone"))),
        "params": replace(token, params="00000001"),
        "trio": replace(token, trio="0.0.1"),
    }[stale]

    async def watched(world: World) -> None:
        world.check(lambda: fired.extend(world.injections), "collect")
        await scenario(world)

    target = {"line": later_edit}.get(stale, scenario)
    if stale in ("hash", "step", "name"):
        target = scenario
    with pytest.raises(StaleToken, match="stale token"):
        run_sweep(target, replay=str(changed), name="t.s")
    with pytest.raises(StaleToken):
        run_sweep(watched, replay=str(changed), name="t.s")
    assert fired == []


def _with(token: Token, fault: Fault) -> Point:
    return replace(token.point, faults=(fault,))


def test_token_of_another_test_is_refused() -> None:
    """A token names its sweep, and the test that the sweep is in."""
    token = token_of()
    with pytest.raises(TokenError, match=r"belongs to t\.s in .*, not to test_tokens.scenario"):
        run_sweep(scenario, replay=str(token))
    with pytest.raises(TokenError, match=r"in .*::test_token_of_another.*, not to .*b\.py"):
        run_sweep(scenario, replay=str(token), name="t.s", test="tests/b.py::test")


@pytest.mark.parametrize("name", ["heal", "limit", "seed", "allow", "without"])
def test_a_token_knows_the_settings_that_judged_its_run(name: str) -> None:
    """With other ones the same point may pass, so the replay is refused."""
    other: dict[str, Any] = {"heal": 1.0, "limit": 9.0, "seed": 4}
    other |= {"allow": [ZeroDivisionError], "without": ["warning"]}
    settings: dict[str, Any] = {name: other[name]}
    with pytest.raises(StaleToken, match=name):
        run_sweep(scenario, replay=str(token_of()), name="t.s", **settings)


def test_a_token_fires_a_nursery_without_being_told() -> None:
    """What to fire is in the token; `at` only chooses points."""

    async def nursing(world: World) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 1)
        world.check(lambda: not world.injected or 1 / 0, "never cut")

    with pytest.raises(SweepFailure) as caught:
        run_sweep(nursing, at="nurseries")
    with pytest.raises(SweepFailure) as again:
        run_sweep(nursing, replay=caught.value.token)
    assert again.value.token == caught.value.token


OUTSIDE = """
import sys
import trio
from cfw.testing.sweep import SweepFailure, TokenError, run_sweep

async def scenario(world, pace):
    with trio.CancelScope() as scope:
        world.expose("scope", scope)
        await trio.sleep(pace)
    world.check(lambda: not scope.cancelled_caught or 1 / 0, "x")

try:
    if len(sys.argv) > 1:
        exec(sys.argv[1])
    else:
        run_sweep(scenario, at="scope", params=[{"pace": 0.25}, {"pace": 0.5}], heal=7)
except SweepFailure as failure:
    print(failure.report.runs)
    print(failure)
except TokenError as error:
    print(error)
"""


def test_outside_pytest_the_replay_is_a_call_that_works(tmp_path: Path) -> None:
    """It holds what the verdict hangs on; in another script of that name it is refused."""

    def run(folder: str, *arguments: str) -> str:
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "script.py").write_text(OUTSIDE)
        done = subprocess.run(
            [sys.executable, f"{folder}/script.py", *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
            cwd=tmp_path,
        )
        return done.stdout

    first = run("one")
    call = next(line for line in first.splitlines() if line.startswith("replay: "))
    call = call.removeprefix("replay: ")
    assert call.startswith("run_sweep(scenario, params=[{'pace': 0.25}, {'pace': 0.5}], heal=7")
    again = run("one", call)
    assert again.startswith("1\n[1/1] invariant 'x' does not hold")
    assert call in again
    assert "this token belongs to __main__.scenario in one/script.py" in run("two", call)


@pytest.mark.parametrize(
    "text", ["", "sweep1:a:0-0:fifo::0.35", "sweep2:a", "sweep2:a:a@1:x-0:fifo:1b2=s:0:1:0"]
)
def test_text_that_is_no_token_is_refused(text: str) -> None:
    """Cut short, of another version, or nonsense."""
    with pytest.raises(TokenError):
        Token.parse(text)


def test_token_says_all_of_its_point() -> None:
    """Text and back, with awkward names and two faults."""
    faults = (Fault("a b:c=d+e%", 3, "b", 0xABC), Fault("nursery:x#1.0", 12, "a", 7))
    sweep = Sweep("tests/a b.py::Class::test[x:1-@é]", "module.Class.test@home", 3)
    point = Point(2, (1, 0, 2), faults)
    token = Token.of(sweep, point, {"n": 0.5}, Settings(scenario), MIN_BATCHES)
    text = str(token)
    assert Token.parse(text) == token
    assert not set(text) & set(" '\"$&;|<>()*?[]{}!\\`#")


def test_pair_replays_both_faults() -> None:
    """A failure of two faults comes back with both, in order."""
    fired = []

    async def two(world: World) -> None:
        world.expose("one", lambda: None)
        world.expose("two", lambda: None)
        await trio.sleep(1)
        world.check(lambda: fired.append(world.injections), "collect")
        world.check(lambda: len(world.injections) < 2 or 1 / 0, "one at a time")

    with pytest.raises(SweepFailure) as caught:
        run_sweep(two, pairs=[("one", "two")])
    expected = next(one for one in fired if len(one) == 2)
    fired.clear()
    with pytest.raises(SweepFailure):
        run_sweep(two, replay=caught.value.token)
    assert fired == [expected]


def test_replay_allows_as_many_batches_as_the_sweep() -> None:
    """A shielded tail too long for the sweep is too long for the replay, too."""

    async def tail(world: World) -> None:
        with trio.CancelScope() as scope:
            world.expose("scope", scope)
            try:
                await trio.sleep(1)
            finally:
                if world.injected:
                    with trio.CancelScope(shield=True):
                        for _ in range(MIN_BATCHES + 1000):
                            await trio.lowlevel.checkpoint()

    with pytest.raises(SweepFailure) as caught:
        run_sweep(tail, at="scope", schedules=["fifo"], stop_after=1)
    assert caught.value.invariant == "finished"
    with pytest.raises(SweepFailure) as again:
        run_sweep(tail, replay=caught.value.token)
    assert again.value.invariant == "finished"
    assert again.value.token == caught.value.token


CHECKSUM = """
import functools
from cfw.testing.sweep.tokens import params_checksum

class Plain:
    def method(self): pass

def f(): pass

print(params_checksum({
    "function": f,
    "method": Plain().method,
    "partial": functools.partial(f, Plain()),
    "object": Plain(),
    "set": {"alpha", "beta", "gamma", "delta"},
    "nested": [{"x": (frozenset("abcdef"), f)}],
    "class": Plain,
}))
"""


def test_parameters_have_one_checksum_in_every_process() -> None:
    """Neither addresses nor the order of a set make a token stale."""
    seen = {
        subprocess.run(
            # Another size of heap, and so other addresses.
            [sys.executable, "-c", f"keep = [object()] * {seed * 10**6}\n{CHECKSUM}"],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout
        for seed in (1, 2, 3)
    }
    assert len(seen) == 1


def test_different_parameters_have_different_checksums() -> None:
    """A function, a lambda's body, a set's content and the kind of a container all count."""
    values: list[object] = [lambda: 1, lambda: 2, lambda: trio.sleep, lambda: trio.sleep_until]
    values += [other_process, token_of, {1, 2}, {1, 3}, [1, 2], (1, 2)]
    values += [frozenset({1, 2}), {1: 2}, {2: 1}, "[1, 2]", None]
    assert len({params_checksum({"x": value}) for value in values}) == len(values)


@pytest.mark.parametrize("way", ["for", "with", "anext", "throw", "await"])
def test_what_runs_inside_an_async_generator_makes_a_token_stale(way: str) -> None:
    """Each way into a generator is followed: other code in it, another number."""

    early = True

    async def numbers() -> AsyncGenerator[int, None]:
        try:
            if early:
                await trio.sleep(1)
            else:
                await trio.sleep(1)
            yield 1
        finally:
            if way == "throw":
                if early:
                    await trio.sleep(1)
                else:
                    await trio.sleep(1)

    class Wrapped:
        def __await__(self) -> Generator[Any, None, None]:
            return self.run().__await__()

        async def run(self) -> None:
            async for _ in numbers():
                pass

    async def scenario(world: World) -> None:
        with trio.CancelScope() as scope:
            world.expose("scope", scope)
            if way == "for":
                async for _ in numbers():
                    pass
            elif way == "with":
                async with asynccontextmanager(numbers)():
                    pass
            elif way == "anext":
                async with aclosing(numbers()) as running:
                    await anext(running, 0)
            elif way == "throw":
                running = numbers()
                await running.asend(None)
                with suppress(ValueError):
                    await running.athrow(ValueError)
            else:
                await Wrapped()
        world.check(lambda: not (world.injections and scope.cancelled_caught) or 1 / 0, "x")

    with pytest.raises(SweepFailure) as caught:
        run_sweep(scenario, at="scope", schedules=["fifo"], name="t.s")
    # The same step of the same tasks, parked at another line of the generator.
    token = caught.value.failures[-1].token
    with pytest.raises(SweepFailure):
        run_sweep(scenario, replay=token, name="t.s")
    early = False
    with pytest.raises(StaleToken):
        run_sweep(scenario, replay=token, name="t.s")

"""The pytest plugin: options, replay command, summary; beside pytest-trio and without it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

RunPytest = Callable[..., str]

PLUGIN = "cfw.testing.pytest_plugin"

TESTS = '''
import pytest
import trio
from cfw.testing.sweep import grid, sweep

@pytest.fixture
def limit():
    return 3

@sweep(at=["scope"], params=grid(pace=[0, 1]), sometimes=["cut"])
async def test_good(world, pace, limit):
    """Swept."""
    assert limit == 3
    with trio.CancelScope() as scope:
        world.expose("scope", scope)
        await trio.sleep(pace)
    world.sometimes("cut", scope.cancelled_caught)

@sweep(at=["scope"])
async def test_bad(world):
    with trio.CancelScope() as scope:
        world.expose("scope", scope)
        await trio.sleep(1)
    def never_cut():
        assert not scope.cancelled_caught
    world.check(never_cut)

class TestMethods:
    @pytest.mark.parametrize("pace", [0, 1])
    @sweep(at=["scope"])
    async def test_method(self, world, pace):
        with trio.CancelScope() as scope:
            world.expose("scope", scope)
            await trio.sleep(pace)

def test_other():
    pass
'''


@pytest.fixture(params=["alone"])
def run_pytest(request: pytest.FixtureRequest, tmp_path: Path) -> RunPytest:
    """Runs pytest on the tests above in a process of its own; all of what it printed."""
    (tmp_path / "test_it.py").write_text(TESTS)
    beside = request.param != "alone"
    # Only what is named is loaded: the installed plugin as well would be twice the same.
    env = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    (tmp_path / "pytest.ini").write_text("[pytest]\n" + "trio_mode = true\n" * beside)
    plugins = ["-p", "pytest_trio.plugin"] if beside else []

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "pytest", "-p", PLUGIN, "-p", "no:cacheprovider"]
        done = subprocess.run(
            [*command, *plugins, "-W", "error", *arguments],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        return done.stdout + done.stderr

    return run


@pytest.mark.parametrize("run_pytest", ["alone", "beside pytest-trio"], indirect=True)
def test_failure_prints_its_story_and_a_command_that_replays_it(run_pytest: RunPytest) -> None:
    """Instant, park sites, trace, invariant, summary; the printed command fails alike."""
    output = run_pytest()
    assert "1 failed, 4 passed" in output
    assert "invariant 'never_cut' does not hold" in output
    assert re.search(r"instant: 'scope' fired (before|after) step \d+ of test_bad#1", output)
    assert re.search(r"test_bad#1 +test_it\.py:\d+ test_bad \(sleep\)", output)
    assert ">>>> scope" in output
    table = output.partition("cancellation sweeps")[2]
    assert re.search(r"^scenario +points +runs +runs/s", table, re.MULTILINE)
    assert re.search(r"^test_it\.test_good .* 1/1 .* complete$", table, re.MULTILINE)
    assert re.search(r"^test_it\.test_bad .*FAILED never_cut$", table, re.MULTILINE)
    assert table.count("test_it.TestMethods.test_method") == 2

    command = re.search(r"replay: pytest (\S+) --sweep-replay (\S+)", output)
    assert command is not None
    test, token = command.groups()
    assert test == "test_it.py::test_bad"
    again = run_pytest(test, "--sweep-replay", token)
    assert "1 failed" in again
    assert token in again
    # Without naming the test, the token finds it.
    assert "1 failed, 4 deselected" in run_pytest("--sweep-replay", token)


def test_budget_and_jobs(run_pytest: RunPytest) -> None:
    """The options override the sweep's own, and the table says sampled."""
    output = run_pytest("--sweep-budget", "3", "--sweep-jobs", "2", "-k", "good")
    assert "1 passed" in output
    assert "sampled (budget of 3)" in output


def test_stale_and_unreadable_tokens(run_pytest: RunPytest) -> None:
    """A token of code that changed is an error; text that is no token stops pytest."""
    output = run_pytest("-k", "bad")
    token = re.search(r"--sweep-replay (\S+)", output)
    assert token is not None
    stale = re.sub(r":(\d+)([ab])\w+=", r":\1\g<2>123=", token.group(1))
    assert "stale token" in run_pytest("--sweep-replay", stale)
    assert "not a sweep1 token" in run_pytest("--sweep-replay", "nonsense")


def test_plugin_imports_nothing_of_pytest_trio_or_cfw() -> None:
    """Loaded with every pytest, it brings in Trio and the engine only."""
    code = (
        f"import sys, {PLUGIN}\n"
        "names = [n for n in sys.modules if n.startswith(('cfw', 'pytest_trio', 'schemas'))]\n"
        "print(*(n for n in names if not n.startswith('cfw.testing')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.stdout.split() == ["cfw"]

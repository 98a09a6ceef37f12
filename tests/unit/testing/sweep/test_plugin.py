"""The pytest plugin: options, replay command, summary; beside pytest-trio and without it."""

from __future__ import annotations

import os
import re
import shlex
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

    def run(*arguments: str, cwd: str = "") -> str:
        command = [sys.executable, "-m", "pytest", "-p", PLUGIN, "-p", "no:cacheprovider"]
        done = subprocess.run(
            [*command, *plugins, "-W", "error", *arguments],
            cwd=tmp_path / cwd,
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


def test_processes_of_pytest_share_the_processors(
    run_pytest: RunPytest, tmp_path: Path
) -> None:
    """Under `pytest -n 2` a sweep counts on half of them."""
    (tmp_path / "test_it.py").write_text(
        "from cfw.testing.sweep import options\n\n"
        "def test_beside():\n    assert options.current.beside == 2\n"
    )
    assert "1 passed" in run_pytest("-p", "xdist.plugin", "-n", "2")


def test_stale_and_unreadable_tokens(run_pytest: RunPytest) -> None:
    """A token of code that changed is an error; text that is no token stops pytest."""
    output = run_pytest("-k", "bad")
    token = re.search(r"--sweep-replay (\S+)", output)
    assert token is not None
    stale = re.sub(r":(\d+)([ab])\w+=", r":\1\g<2>123=", token.group(1))
    assert "stale token" in run_pytest("--sweep-replay", stale)
    assert "neither a sweep2 token nor a file" in run_pytest("--sweep-replay", "nonsense")


ALIKE = """
import pytest
import trio
from cfw.testing.sweep import run_sweep, sweep

async def scenario(world, bad=True):
    with trio.CancelScope() as scope:
        world.expose("scope", scope)
        await trio.sleep(1)
    def never_cut():
        assert not (bad and scope.cancelled_caught)
    world.check(never_cut)

@pytest.mark.parametrize("pace", ["slow & low", "fast"])
@sweep(at=["scope"])
async def test_alike(world, pace):
    await scenario(world)

async def good(world):
    await scenario(world, bad=False)

@pytest.mark.parametrize("which", [1, 2])
def test_plain(which):
    run_sweep(good, at="scope")
    run_sweep(good, at="scope")
    run_sweep(scenario, at="scope", params=[{}, {"bad": True}])

@pytest.fixture
def swept():
    run_sweep(scenario, at="scope")

def test_fixture(swept):
    pass
"""


def commands(output: str) -> list[tuple[str, str]]:
    """What the failures in the output say to run: test and token, each once."""
    words = [shlex.split(line) for line in re.findall(r"replay: pytest (.+)", output)]
    assert all(option == "--sweep-replay" for _, option, _ in words)
    return list(dict.fromkeys((test, token) for test, _, token in words))


@pytest.fixture
def alike(run_pytest: RunPytest, tmp_path: Path) -> RunPytest:
    """Two directories with the same tests in them."""
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").touch()
        (tmp_path / folder / "test_alike.py").write_text(ALIKE)
    return run_pytest


def test_a_token_fits_one_test_only(alike: RunPytest) -> None:
    """Neither another parameter nor the same name elsewhere takes it."""
    found = dict(commands(alike("one", "two", "-k", "alike and low")))
    assert set(found) == {f"{f}/test_alike.py::test_alike[slow & low]" for f in ("one", "two")}
    test, token = found.popitem()
    output = alike("one", "two", "--sweep-replay", token)
    assert "1 failed, 9 deselected" in output
    assert commands(output) == [(test, token)]
    for other in (*found, test.replace("slow & low", "fast")):
        refused = alike(other, "--sweep-replay", token)
        assert f"test_alike.test_alike in {test}, which is not among" in refused


def test_a_plain_test_takes_the_options(alike: RunPytest) -> None:
    """Its sweeps are cut by the budget, and its printed command replays the one that failed."""
    output = alike("one", "-k", "plain", "--sweep-budget", "3")
    assert "2 failed" in output
    assert "points 3/" in output
    ((first, _), *_, (test, token)) = commands(alike("one", "-k", "plain"))
    assert first != test
    again = alike(test, "--sweep-replay", token)
    assert "1 failed" in again
    assert "runs 1;" in again
    assert commands(again) == [(test, token)]


def test_a_sweep_in_a_fixture_is_replayed_too(alike: RunPytest) -> None:
    """The test whose fixture sweeps is the one the token names."""
    (test, token), *_ = commands(alike("one", "-k", "fixture"))
    assert commands(alike(test, "--sweep-replay", token)) == [(test, token)]


def test_a_token_that_met_no_sweep_is_no_pass(run_pytest: RunPytest, tmp_path: Path) -> None:
    """The test is still there, but its sweep has another name now."""
    test = "def test_plain(): run_sweep(scenario, at='scope')\n"
    text = ALIKE.partition("@pytest")[0] + test
    (tmp_path / "test_alike.py").write_text(text)
    (test, token), *_ = commands(run_pytest("test_alike.py"))
    (tmp_path / "test_alike.py").write_text(text.replace("scenario", "good_now"))
    assert "1 failed" in run_pytest("test_alike.py")
    (tmp_path / "test_alike.py").write_text(
        text.replace("scenario", "good_now").replace("bad=True", "bad=False")
    )
    assert "1 passed" in run_pytest("test_alike.py")
    output = run_pytest(test, "--sweep-replay", token)
    assert "1 failed" in output
    assert "ran no such sweep, but test_alike.good_now" in output


def test_the_command_works_from_where_pytest_was_started(alike: RunPytest) -> None:
    """Node ids count from the root; the path in the command from the working directory."""
    output = alike("../one", "-k", "fixture", cwd="two")
    (test, token), *_ = commands(output)
    assert test == "../one/test_alike.py::test_fixture"
    assert commands(alike(test, "--sweep-replay", token, cwd="two")) == [(test, token)]


def test_the_engine_needs_no_pytest() -> None:
    """What knows pytest is imported by the plugin alone."""
    code = "import sys; sys.modules['pytest'] = None; import cfw.testing.sweep; print('fine')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        cwd=Path(__file__).parents[4],
    )
    assert done.stdout == "fine\n"


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
        cwd=Path(__file__).parents[4],
    )
    assert done.stdout.split() == ["cfw"]

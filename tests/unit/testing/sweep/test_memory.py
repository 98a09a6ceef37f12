"""What a sweep leaves for the next: checkpoints, last failures, tokens in files; progress."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from cfw.testing.sweep import Token, TokenError, World, options, run_sweep

Run = Callable[..., str]

TEST = """
import os, signal
from pathlib import Path
import trio
from cfw.testing.sweep import checkpoint, sweep

checkpoint.AFTER_S = 0
marker = Path(__file__).with_name("stopped")

@sweep(at=["scope"], pairs=[("scope", "nurseries")], schedules=["fifo"])
async def test_it(world):
    rounds = 0
    with trio.CancelScope() as scope, world.expose("scope", scope):
        for rounds in range(BATCHES):
            await trio.lowlevel.checkpoint()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep, 1)
    world.check(lambda: rounds not in BAD, "bad")
    if world.injected and rounds == 20 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.HOW)
"""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs pytest with its cache, in a folder without a configuration."""
    env = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}

    def call(*arguments: str, cwd: str = ".") -> str:
        cache = f"cache_dir={tmp_path / 'cache'}"
        command = [sys.executable, "-m", "pytest", "-p", "cfw.testing.pytest_plugin"]
        done = subprocess.run(
            [*command, "-o", cache, *arguments],
            cwd=tmp_path / cwd,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout + done.stderr

    return call


def write(folder: Path, *, batches: int = 30, bad: str = "()", how: str = "SIGINT") -> Path:
    path = folder / "tests" / "test_it.py"
    path.parent.mkdir(exist_ok=True)
    text = TEST.replace("BATCHES", str(batches)).replace("BAD", bad).replace("HOW", how)
    path.write_text(text)
    return path


def covered(output: str) -> tuple[str, str]:
    """Points and coverage in the table's only row."""
    (row,) = [line for line in output.splitlines() if line.startswith("test_it.test_it ")]
    cells = re.split(r"\s{2,}", row)
    return cells[1], cells[-1]


@pytest.mark.parametrize("how", ["SIGINT", "SIGKILL"])
def test_a_sweep_that_was_stopped_goes_on(run: Run, tmp_path: Path, how: str) -> None:
    """By Ctrl-C or by a crash; pairs and failures from before the stop are those of one go."""
    write(tmp_path, bad="(5,)", how=how)
    (tmp_path / "tests" / "stopped").touch()
    whole = run("tests", "--sweep-no-fork")
    (tmp_path / "tests" / "stopped").unlink()
    run("tests", "--sweep-no-fork")
    assert (tmp_path / "tests" / "stopped").exists()
    rest = run("tests", "--sweep-continue", "--sweep-no-fork")
    assert "invariant 'bad' does not hold" in rest
    for output in (whole, rest):
        assert "[1/1]" in output
    token = re.compile(r"--sweep-replay (\S+)")
    assert token.findall(rest) == token.findall(whole)
    assert covered(rest) == covered(whole)


def test_how_much_was_there_is_told_and_a_change_of_code_begins_anew(
    run: Run, tmp_path: Path
) -> None:
    """Answers of other code would be wrong."""
    path = write(tmp_path)
    alone = "--sweep-no-fork"  # what is stopped is the process that sweeps
    on = (alone, "--sweep-continue")
    run("tests", alone)
    went_on = run("tests", *on)
    points, coverage = covered(went_on)
    found = re.fullmatch(r"complete; went on after (\d+)", coverage)
    assert found is not None
    assert 0 < int(found[1]) < int(points)
    # It is complete, so nothing is left of it.
    assert "nothing was left to go on from" in covered(run("tests", *on))[1]
    (tmp_path / "tests" / "stopped").unlink()
    run("tests", alone)
    path.write_text(path.read_text() + "\n# changed\n")
    again = covered(run("tests", *on))[1]
    assert again == f"complete; begun anew: {path} has changed"


def test_the_points_that_failed_last_are_run_first(run: Run, tmp_path: Path) -> None:
    """One that fails again is told at once; else all of the sweep is run."""
    write(tmp_path, bad="(5,)")
    (tmp_path / "tests" / "stopped").touch()
    assert covered(run("tests"))[0] == covered(run("tests"))[0] != "1"
    again = run("tests", "--sweep-last-failed")
    assert covered(again) == ("1", "FAILED bad")
    write(tmp_path)
    assert "complete" in covered(run("tests", "--sweep-last-failed"))[1]
    write(tmp_path, bad="(7,)")
    # The one that was mended is forgotten.
    assert covered(run("tests", "--sweep-last-failed"))[0] != "1"


def test_a_token_is_replayed_from_a_file_and_from_any_folder(run: Run, tmp_path: Path) -> None:
    """Without a configuration pytest calls a test otherwise from each folder."""
    write(tmp_path, bad="(5,)")
    (tmp_path / "tests" / "stopped").touch()
    log = tmp_path / "log.txt"
    log.write_text("2026-01-01 " + run("tests"))
    (tmp_path / "other").mkdir()
    for cwd, test in ((".", "tests"), ("tests", "."), ("other", "../tests/test_it.py")):
        replayed = run(test, "--sweep-replay", str(log), cwd=cwd)
        assert covered(replayed) == ("1", "FAILED bad"), (cwd, replayed)
    assert "no sweep2 token" in run("tests", "--sweep-replay", "tests/test_it.py")
    assert "neither a sweep2 token nor a file" in run("tests", "--sweep-replay", "nonsense")


def test_a_token_belongs_to_a_test_from_above_and_from_below() -> None:
    """But not to one of another folder, or of another name."""
    text = "sweep2:a%2Fb%2Ftest_x.py%3A%3Atest_y:s@1:0-0:fifo::0.35.0:1:0"
    sweep = Token.parse(text).sweep
    assert sweep.is_of("a/b/test_x.py::test_y")
    assert sweep.is_of("test_x.py::test_y")
    assert sweep.is_of("c/a/b/test_x.py::test_y")
    assert not sweep.is_of("c/test_x.py::test_y")
    assert not sweep.is_of("a/b/test_x.py::test_z")
    with pytest.raises(TokenError, match="neither"):
        Token.read("/no such file")


def test_a_sweep_under_way_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a second, with what is left."""
    lines: list[str] = []
    monkeypatch.setattr(options, "current", options.Options(progress=lines.append))

    async def slow(world: World) -> None:
        with trio.CancelScope() as scope, world.expose("scope", scope):
            for _ in range(20):
                await trio.lowlevel.checkpoint()
        time.sleep(0.04)  # noqa: ASYNC251 - takes real time

    run_sweep(slow, at="scope", schedules=["fifo"], name="slow")
    assert lines
    for line in lines:
        assert re.fullmatch(r"slow: \d+ of 4\d points, \d+ a second, about \d+ s left", line)

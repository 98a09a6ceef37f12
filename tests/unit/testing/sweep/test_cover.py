"""Coverage of cancel points: which awaits of a package were cut, and which never."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import trio

from cfw.testing.sweep import World, options, run_sweep
from cfw.testing.sweep.cover import Await, awaits_in, covered, files_of, lines_of

SOURCE = """
import trio

async def fetch(fast):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(
            trio.sleep, 1,
        )
        await inner(
            fast,
        )

async def inner(fast):
    if fast:
        await trio.sleep(0)
    else:
        await trio.sleep(1)
    with trio.CancelScope(shield=True):
        await trio.sleep(1)
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An importable package with tests of its own."""
    folder = tmp_path / "covered_package"
    (folder / "_tests").mkdir(parents=True)
    (folder / "__init__.py").write_text(SOURCE)
    (folder / "test_it.py").write_text("async def test(): await it()")
    (folder / "_tests" / "x.py").write_text("async def test(): await it()")
    monkeypatch.syspath_prepend(tmp_path)
    return importlib.import_module("covered_package")


def test_every_kind_of_await_is_found() -> None:
    """By the line it begins at, and the last line it may show at."""
    source = (
        "async def f():\n"
        "    await one(\n"
        "        2)\n"
        "    async for x in y:\n"
        "        pass\n"
        "    async with (a,\n"
        "            b):\n"
        "        pass\n"
        "    return [z async for z in y]\n"
    )
    assert awaits_in(source) == [Await(2, 3), Await(4, 4), Await(6, 7), Await(9, 9)]


@pytest.mark.parametrize("jobs", [1, 2])
def test_cut_awaits_are_counted_and_others_listed(
    package: Any, jobs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By line, also in the awaits around the one that was cut; the package's tests not."""
    monkeypatch.setattr(options.current, "cover", "covered_package")

    async def scenario(world: World) -> None:
        with trio.CancelScope() as scope:
            world.expose("scope", scope)
            for _ in range(10):
                await package.fetch(False)

    report = run_sweep(scenario, at="scope", schedules=["fifo"], jobs=jobs)
    [one] = covered("covered_package", report.cuts)
    # The nursery's own exit never waits, nor is anything cut behind a shield.
    assert set(one.cut) == {9, 17}
    assert one.never == (5, 15, 19)
    # Each time the inner one was cut, the one around it was.
    assert one.cut[9] == one.cut[17] > 5
    lines = list(lines_of("covered_package", [one]))
    assert lines[1].split()[1:] == ["5", "2", str(sum(one.cut.values())), "5", "15", "19"]


def test_a_sweep_that_cuts_nothing_of_the_package_says_so(
    package: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not called complete."""
    monkeypatch.setattr(options.current, "cover", "covered_package")

    async def scenario(world: World) -> None:
        with trio.CancelScope() as scope:
            world.expose("scope", scope)
            await trio.sleep(1)

    report = run_sweep(scenario, at="scope")
    assert report.cells()[-1] == "cuts nothing of covered_package"
    found = list(covered("covered_package", report.cuts))
    assert "No await of covered_package was cut" in list(lines_of("covered_package", found))[-1]


def test_a_package_that_is_not_there_is_refused() -> None:
    """With its name."""
    with pytest.raises(ValueError, match="no package 'no_such_thing'"):
        files_of("no_such_thing")

"""cfw's own scenarios, forked at each instant and run each from the beginning: one verdict."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from cfw.testing.sweep import SweepFailure, World, forks, grid, run_sweep
from cfw.testing.sweep.sites import ADDRESS
from tests.planted import planted
from tests.sweep.mutants import MUTANTS
from tests.sweep.scenario import connection

pytestmark = pytest.mark.skipif(bool(forks.obstacle()), reason=forks.obstacle())


def account(scenario: Any, **settings: Any) -> dict[str, Any]:
    """What a sweep says, but for the way it was done."""
    try:
        report = run_sweep(scenario, **settings)
    except SweepFailure as failure:
        report = failure.report
    said = asdict(report)
    for name in ("seconds", "forked", "unforked"):
        del said[name]
    for one in said["failures"]:
        for name in ("message", "trace", "details"):
            one[name] = ADDRESS.sub("", one[name])
    return said


@pytest.fixture(autouse=True)
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fork even where it costs more than it saves."""
    monkeypatch.setattr(forks, "FORK_S", -1)


def test_a_connection_is_judged_the_same_with_forks_and_without() -> None:
    """Scopes, nurseries and actions, through wire, router, buffer and sink."""

    async def swept(world: World, sink: str) -> None:
        await connection(world, sink=sink)

    settings: dict[str, Any] = {
        "at": ["connection", "nurseries", "revoke", "eof"],
        "params": grid(sink=["fast", "slow"]),
        "budget": 80,
    }
    assert account(swept, fork=True, **settings) == account(swept, fork=False, **settings)


@pytest.mark.sweep
@pytest.mark.parametrize("name", [mutant.name for mutant in MUTANTS])
def test_a_planted_bug_is_found_at_the_same_point(name: str) -> None:
    """With the same story, and the same token."""
    (mutant,) = [one for one in MUTANTS if one.name == name]
    settings: dict[str, Any] = {
        "at": mutant.at,
        "params": [mutant.params],
        "schedules": ["fifo"],
        "stop_after": mutant.stop_after,
    }
    with planted(*mutant.changes):
        forked, alone = (account(connection, fork=fork, **settings) for fork in (True, False))
    assert forked == alone
    assert forked["failures"]

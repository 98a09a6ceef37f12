"""Whether a fork pays hangs on how fast the machine is; what these tests say does not."""

from __future__ import annotations

import math

import pytest

from cfw.testing.sweep import forks


@pytest.fixture(autouse=True)
def no_fork_by_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    """No sweep of this process forks because its steps took long: what runs is heard here."""
    monkeypatch.setattr(forks, "FORK_S", math.inf)

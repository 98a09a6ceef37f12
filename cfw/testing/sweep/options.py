"""What the command line says, for sweeps started by the decorator.

The pytest plugin fills this in; without pytest it holds the defaults. The engine imports
neither pytest nor the plugin.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Options:
    """Overrides for every sweep of the session.

    Attributes:
        replay: a token: run this point only. None runs the sweep.
        budget: points a sweep may run at most. None leaves it to the sweep.
        jobs: processes. None leaves it to the sweep.
        test: what names the running test on pytest's command line; empty outside pytest.
    """

    replay: str | None = None
    budget: int | None = None
    jobs: int | None = None
    test: str = ""


current = Options()

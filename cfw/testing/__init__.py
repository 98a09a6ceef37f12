"""What to test with: cancellation sweeps, byte cuts, and rigs without sockets.

The sweep engine needs Trio and nothing else, so it is imported at once. Everything that
needs the rest of cfw is imported when it is first asked for (`_LAZY`): a project with only
Trio and pytest can still sweep its own code.
"""

from __future__ import annotations

from importlib import import_module

# Eager on purpose: a lazy name would lose to the submodule of the same name.
from cfw.testing.sweep import Report, SweepFailure, World, grid, run_sweep, sweep

# Public name -> module that defines it; each module is imported on first use.
_LAZY: dict[str, str] = {}

__all__ = ["Report", "SweepFailure", "World", "grid", "run_sweep", "sweep"]


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

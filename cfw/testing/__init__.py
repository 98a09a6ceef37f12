"""What to test with: cancellation sweeps, byte cuts, and rigs without sockets.

The sweep engine needs Trio and nothing else, so it is imported here. What needs the rest of cfw
is imported from its module, such as `cfw.testing.rigs`: a project with only Trio and pytest can
still sweep its own code.
"""

from __future__ import annotations

from cfw.testing.sweep import Report, SweepFailure, World, grid, run_sweep, sweep

__all__ = ["Report", "SweepFailure", "World", "grid", "run_sweep", "sweep"]

"""How long a test waits for what is sure to come, and how it waits where nothing tells it."""

from __future__ import annotations

import time
from collections.abc import Callable

import trio

#: Real seconds that one step may take on a machine that is cold, and busy with something else:
#: less than pytest gives a test, so the step tells what did not come.
PATIENCE_S = 90


def soon(holds: Callable[[], object]) -> None:
    """Wait until something holds that another process or thread brings about."""
    until = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < until, f"it did not come about within {PATIENCE_S} s"
        time.sleep(0.02)


async def until(condition: Callable[[], object], within_s: float = PATIENCE_S) -> float:
    """Wait in real time for what another process brings about; how long it took."""
    began = trio.current_time()
    with trio.fail_after(within_s):
        while not condition():  # noqa: ASYNC110 - nothing signals what another process did
            await trio.sleep(0.005)
    return trio.current_time() - began

"""Tasks of a sink or a session authority that run beside the captures.

None of them may end the worker, whatever goes wrong in it. So there is one place where such
tasks are run, and sinks and authorities of other packages use it too.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NoReturn

import structlog
import trio

from cfw.plugins import OutOfReach
from cfw.tasks.nurseries import open_plain_nursery

#: From the end of a task to its next start: at first, and at most. It doubles.
PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0

_log: structlog.stdlib.BoundLogger = structlog.get_logger("cfw.background")


@asynccontextmanager
async def running_beside(
    name: str, task: Callable[[], Awaitable[object]]
) -> AsyncIterator[None]:
    """Run a task beside a block, and start it again whenever it ends.

    Args:
        name: for the log, such as `sinks.mine.flush`.
        task: started after a pause, which is short again once it has run for longer than the
            longest. `OutOfReach` from it is a warning, any other exception a bug with its
            traceback; neither leaves here.

    Cancellation: the task is cancelled at the end of the block, and waited for.
    """
    async with open_plain_nursery() as nursery:
        nursery.start_soon(_keep_running, name, task)
        yield


async def _keep_running(name: str, task: Callable[[], Awaitable[object]]) -> NoReturn:
    pause_s = PAUSE_S
    while True:
        began = trio.current_time()
        try:
            await task()
            _log.warning("background.ended", task=name, again_in_s=pause_s)
        except OutOfReach as exc:
            _log.warning("background.ended", task=name, detail=str(exc), again_in_s=pause_s)
        except Exception:
            _log.exception("background.failed", task=name, again_in_s=pause_s)
        if trio.current_time() - began > LONGEST_PAUSE_S:
            pause_s = PAUSE_S
        await trio.sleep(pause_s)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

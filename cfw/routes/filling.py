"""The warning that comes before a capture is aborted for its sink."""

from __future__ import annotations

from functools import partial

import structlog
import trio

from cfw.repository import FILLING_RATIO, GRACE_S, ForwardBuffer
from cfw.routes.services import Services

#: A buffer that is still this full after so long was not only filled by one large read. The
#: warning comes before the abort, which waits for `GRACE_S`.
FILLING_S = GRACE_S / 2


class Filling:
    """Warns once of a sink that is too slow, while there still is room.

    Args:
        services: its limits are told, its metrics count.
        buffer: of a capture that begins now.
        log: of that capture.
    """

    def __init__(
        self, services: Services, buffer: ForwardBuffer, log: structlog.stdlib.BoundLogger
    ) -> None:
        self._services = services
        self._buffer = buffer
        self._log = log
        self._began = trio.current_time()

    def watch(self, nursery: trio.Nursery) -> None:
        """Look at the buffer when it fills; no task runs in the nursery until then."""
        self._buffer.on_filling = partial(nursery.start_soon, self._warn, nursery)

    async def _warn(self, nursery: trio.Nursery) -> None:
        await trio.sleep(FILLING_S)
        buffer, limits = self._buffer, self._services.limits
        if buffer.fill_ratio <= FILLING_RATIO:
            self.watch(nursery)  # the forwarder had only not had its turn
            return
        self._services.metrics.filling += 1
        lasted_s = trio.current_time() - self._began
        self._log.warning(
            "buffer.filling",
            slow_side="sink",
            fill=round(buffer.fill_ratio, 3),
            frames=buffer.frames,
            max_forward_buffer_frames=limits.max_forward_buffer_frames,
            bytes=buffer.bytes,
            max_forward_buffer_bytes=limits.max_forward_buffer_bytes,
            accepted_per_s=round(buffer.frames_accepted / lasted_s, 2),
            forwarded_per_s=round(buffer.frames_forwarded / lasted_s, 2),
        )

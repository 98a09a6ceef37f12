"""Many rigs at once, for pages that show them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from io import BytesIO
from typing import Any

import trio
from PIL import Image, ImageDraw

from cfw.api import Addresses
from cfw.client import open_capture

#: What a worker needs for a fleet whose rigs wait in real time.
ROOMY: dict[str, Any] = {
    "sessions__url": "allow:",
    "sessions__static": [],
    "limits__max_duration_s": 600,
    "limits__max_frames": 100_000,
    "limits__max_total_bytes": 10**9,
}


def user(number: int) -> str:
    return f"user-{number:03}"


@cache
def picture(number: int, seq: int) -> bytes:
    """A picture that tells rigs and frames apart."""
    image = Image.new("RGB", (320, 240), (number * 37 % 200, number * 91 % 200, 90))
    draw = ImageDraw.Draw(image)
    draw.rectangle((20 + 12 * seq, 100, 60 + 12 * seq, 140), fill="white")
    draw.text((12, 8), f"rig {number}", fill="white", font_size=30)
    out = BytesIO()
    image.save(out, "JPEG", quality=80)
    return out.getvalue()


@asynccontextmanager
async def fleet(
    addresses: Addresses, rigs: int, fps: float = 10, first: int = 0
) -> AsyncIterator[None]:
    """So many rigs that send until the block is left; `user-000` films `room-0`, and so on."""

    async def film(number: int, started: trio.Event) -> None:
        async with open_capture(
            addresses.capture,
            user_id=user(number),
            session_id=f"room-{number % 4}",
            capture_id=f"cap-{number:03}",
            width=320,
            height=240,
            fps=max(1, round(fps)),
        ) as capture:
            # Each at a moment of its own, as cameras are: worker and page get no rest by turns.
            seq, begun = 0, trio.current_time() + number * 0.618 % 1 / max(fps, 1)
            while True:
                await trio.sleep_until(begun + seq / fps)
                await capture.send_frame(picture(number, seq % 20))
                started.set()
                seq += 1

    started = [trio.Event() for _ in range(rigs)]
    async with trio.open_nursery() as nursery:
        for number, each in enumerate(started, first):
            nursery.start_soon(film, number, each)
        for each in started:
            await each.wait()
        yield
        nursery.cancel_scope.cancel()

"""One recorder of forty rigs, on one core."""

from __future__ import annotations

import sys
from functools import partial
from io import BytesIO
from pathlib import Path
from random import Random

import psutil
import pytest
import trio
from PIL import Image

from cfw.client import open_capture
from cfw.recording import verify_all
from tests.serving import serving
from tests.whole.hostile.figures import IS_LONG, figure

if sys.platform == "win32":
    pytest.skip("Windows ends no process by SIGKILL", allow_module_level=True)

from tests.whole.record.test_commands import recorder

pytestmark = [pytest.mark.hostile, pytest.mark.alone]

RIGS, FPS = 40, 15
FRAMES = 150 if IS_LONG else 45


def _picture() -> bytes:
    out, (width, height) = BytesIO(), (256, 184)
    noise = Random(1).randbytes(width * height * 3)
    Image.frombytes("RGB", (width, height), noise).save(out, "JPEG")
    return out.getvalue()


async def _film(url: str, jpeg: bytes, number: int) -> None:
    await trio.sleep(number / RIGS / FPS)
    async with open_capture(
        url,
        user_id="ada",
        session_id="s-1",
        width=640,
        height=480,
        fps=FPS,
        capture_id=f"c{number}",
    ) as capture:
        began = trio.current_time()
        for count in range(1, FRAMES + 1):
            await capture.send_frame(jpeg)
            await trio.sleep_until(began + count / FPS)


async def test_forty_rigs_are_recorded_by_one_core(tmp_path: Path) -> None:
    """Nothing is aborted, every frame is there, and the memory stays small."""
    jpeg = _picture()
    with (
        serving() as worker,
        recorder(worker.admin, tmp_path, "--captures", str(RIGS)) as keeps,
    ):
        measured = psutil.Process(keeps.running.pid)
        if hasattr(measured, "cpu_affinity"):
            measured.cpu_affinity(measured.cpu_affinity()[-1:])
        before = sum(measured.cpu_times()[:2])
        peak = 0
        async with trio.open_nursery() as nursery:
            for number in range(RIGS):
                nursery.start_soon(_film, worker.url, jpeg, number)
            await trio.sleep(FRAMES / FPS * 0.9)
            spent_s = sum(measured.cpu_times()[:2]) - before
            peak = measured.memory_info().rss
        code, printed = await trio.to_thread.run_sync(partial(keeps.end))
    assert code == 0, keeps.said[-5:]
    assert [each["state"] for each in printed] == ["whole"] * RIGS
    assert all(verdict.is_sound for verdict in verify_all(tmp_path))
    frames = RIGS * FRAMES
    figure(
        f"{RIGS} rigs, {FPS} frames/s of {len(jpeg) // 1000} kB, one recorder on one core",
        f"{frames} frames whole; {1e6 * spent_s / (0.9 * frames):.0f} µs of CPU for a frame, "
        f"{peak / 1e6:.0f} MB",
    )
    assert peak < 400e6

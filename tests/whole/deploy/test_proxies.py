"""What a worker tells a rig arrives through HAProxy and nginx, as they are configured here."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from schemas import ErrorCode
from tests.factories import jpeg
from tests.patience import PATIENCE_S
from tests.raw import Ending
from tests.unit.wire.peer import REQUEST, binary, text
from tests.whole.deploy.proxies import PROXIES, Proxy, running_proxy
from tests.whole.hostile.kit import Rig, worker
from tests.whole.smoke.worker import meta

#: Nothing of the tests is about time, so a machine that is busy runs into none of it.
PATIENT = {
    **{f"times.{name}_s": 60 for name in ("idle", "meta_to_bytes", "message", "open")},
    "limits.max_duration_s": 120,
    "sink.url": "null:",
}

each_proxy = pytest.mark.parametrize("name", PROXIES)


@each_proxy
async def test_what_the_worker_says_reaches_the_rig(name: str, tmp_path: Path) -> None:
    """Receipt, abort, and why a rig was ended that never stopped sending: every time."""
    async with (
        worker(tmp_path, settings=PATIENT) as made,
        running_proxy(name, tmp_path, [made]) as proxy,
    ):
        rig = await proxy.rig("clean")
        await rig.frame(data=jpeg(30_000))
        assert await rig.receipt() == {"frames": 1, "bytes": 30_000}

        rig = await proxy.rig("wrong")
        rig.seq = 4
        await rig.frame()
        ending = await rig.ending()
        (abort,) = ending.aborts
        assert (ending.code, abort.error_code) == (1008, ErrorCode.PROTOCOL_VIOLATION)
        assert ending.reason.startswith("protocol_violation")

        for number in range(10):
            ending = await oversize(await proxy.rig(f"large-{number}"))
            (abort,) = ending.aborts
            assert (ending.code, abort.error_code) == (
                1009,
                ErrorCode.LIMIT_FRAME_BYTES_EXCEEDED,
            )

        assert await answer(proxy, REQUEST.replace(b"/capture", b"/metrics", 1)) == 404

        rig = await proxy.rig("gone")
        await made.captures(1)
        await trio.aclose_forcefully(rig.stream)
        await made.captures(0)
        (line,) = [each for each in made.log("capture.aborted") if each["capture_id"] == "gone"]
        assert line["error_code"] == "client_disconnected"


async def oversize(rig: Rig) -> Ending:
    """Send one byte more than a frame may have and, without reading, as much as goes out."""
    await rig.send(text(meta(1, 200, capture_id=rig.capture_id)))
    with trio.move_on_after(PATIENCE_S), suppress(trio.BrokenResourceError):
        data = binary(jpeg(300_001)) + binary(jpeg(1_000_000))
        await rig.stream.send_all(data)
    return await rig.ending()


@each_proxy
async def test_a_full_or_dead_worker_is_passed_over(name: str, tmp_path: Path) -> None:
    """A rig that finds no room on one worker is taken by another, also after a crash."""
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    full = {**PATIENT, "limits.max_connections": 1}
    async with (
        worker(tmp_path / "a", settings=full) as one,
        worker(tmp_path / "b", settings=PATIENT) as other,
        running_proxy(name, tmp_path, [one, other], room=1) as proxy,
    ):
        rigs = [await proxy.rig(f"c-{number}") for number in range(6)]
        await one.captures(1)
        await other.captures(5)
        one.process.kill()
        ends: list[int | None] = []
        async with trio.open_nursery() as nursery:
            for rig in rigs:
                nursery.start_soon(end, rig, ends)
        assert Counter(ends) == {None: 1, 1000: 5}
        for number in range(4):
            await (await proxy.rig(f"later-{number}")).receipt()


async def end(rig: Rig, ends: list[int | None]) -> None:
    """Send a frame and close; the close code, None if the connection just ends."""
    with suppress(trio.BrokenResourceError):
        await rig.frame()
        await rig.close()
    ends.append((await rig.ending()).code)


@each_proxy
async def test_one_address_is_held_to_its_share(name: str, tmp_path: Path) -> None:
    """Two connections, as it is set here; the third is told 503, or by HAProxy nothing."""
    async with (
        worker(tmp_path, settings=PATIENT) as made,
        running_proxy(name, tmp_path, [made], cap=2) as proxy,
    ):
        first = await proxy.rig("c-1")
        assert await answer(proxy, REQUEST) == 101
        assert await answer(proxy, REQUEST) == (None if name == "haproxy" else 503)
        await first.receipt()
        with trio.fail_after(PATIENCE_S):
            while await answer(proxy, REQUEST) != 101:  # noqa: ASYNC110 - another process
                await trio.sleep(0.1)


async def answer(proxy: Proxy, request: bytes) -> int | None:
    """The HTTP status of the answer; None if the connection is ended instead."""
    try:
        with trio.fail_after(PATIENCE_S):
            stream = await proxy.dial()
            await stream.send_all(request)
            head = await stream.receive_some()
    except (OSError, trio.BrokenResourceError):
        return None
    return int(head.split()[1])

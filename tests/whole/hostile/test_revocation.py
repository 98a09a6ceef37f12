"""An operator ends a capture: now, once, and nobody else's."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import httpx
import pytest
import trio

from cfw.routes.outcome import LADDER
from schemas import ErrorCode
from tests.patience import until
from tests.whole.hostile.figures import figure
from tests.whole.hostile.kit import worker


@pytest.mark.alone
async def test_an_operator_ends_a_capture(tmp_path: Path) -> None:
    """204, `session_closed` to the rig at once, a line in the log; others film on."""
    async with worker(tmp_path) as made:
        rig, other = await made.rig("cap-1"), await made.rig("cap:2.b-_")
        for one in (rig, other):
            await one.frame()
        await made.captures(2)
        began = trio.current_time()
        answer = await made.get("/captures/cap-1", "DELETE")
        ending = await rig.ending()
        took = trio.current_time() - began
        assert (answer.status_code, answer.content) == (204, b"")
        (abort,) = ending.aborts
        assert abort.error_code is ErrorCode.SESSION_CLOSED
        assert ending.code == LADDER[ErrorCode.SESSION_CLOSED][0]
        assert "operator" in ending.reason
        # It is over, so there is nothing to end again.
        assert (await made.get("/captures/cap-1", "DELETE")).status_code == 404
        assert (await made.get("/captures/nobody", "DELETE")).status_code == 404
        assert (await made.get("/captures/cap:2.b-_")).status_code == 405
        assert (await other.receipt())["frames"] == 1
        await until(lambda: made.log("capture.revoked"))
        (line,) = made.log("capture.revoked")
    assert (line["capture_id"], line["by"], line["level"]) == ("cap-1", "127.0.0.1", "warning")
    figure("a capture revoked with DELETE", f"rig has read the abort after {took * 1e3:.0f} ms")


async def test_a_page_of_another_origin_ends_nothing(tmp_path: Path) -> None:
    """A browser names the page it acts for, and that page must be the worker's own."""
    async with worker(tmp_path) as made:
        rig = await made.rig("cap-1")
        await made.captures(1)
        for origin, status in (("https://evil.example", 403), ("null", 403), (made.admin, 204)):
            url, headers = f"{made.admin}/captures/cap-1", {"origin": origin}
            ask = partial(httpx.delete, url, headers=headers, trust_env=False)
            answer = await trio.to_thread.run_sync(ask)
            assert answer.status_code == status, origin
        assert (await rig.ending()).aborts[0].error_code is ErrorCode.SESSION_CLOSED

"""What an operator is told of captures: true, safe for a terminal, and not washed away."""

from __future__ import annotations

from functools import partial
from typing import Any

import httpx
import pytest
import trio
from structlog.testing import capture_logs

from cfw.testing.fakes import StallingSink
from tests.patience import PATIENCE_S, until
from tests.whole.smoke.worker import Worker, closing, ending, opening, running

#: A C1 control that begins an escape sequence, DEL, and what turns text around.
NASTY = "a\x9b31m\x7f\u202eb\u2066\u200f"


async def ask(worker: Worker, path: str, method: str = "GET", **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE_S) as client:
        return await client.request(method, f"{worker.addresses.admin}{path}", headers=headers)


async def revoke_at_its_end(
    monkeypatch: pytest.MonkeyPatch, *, is_released: bool
) -> tuple[httpx.Response, tuple[Any, int | None, str]]:
    """DELETE a capture whose terminal is with the sink already; its answer, and the rig's."""
    sink = StallingSink(at="finish")
    async with running(monkeypatch, sink=sink) as worker, worker.connect() as ws:
        await ws.send(opening())
        await ws.send(closing(total_frames=0))
        with trio.fail_after(PATIENCE_S):
            while not sink.stalled_at:  # noqa: ASYNC110 - a fake tells nobody
                await trio.sleep(0.01)
        answers: list[httpx.Response] = []

        async def delete() -> None:
            answers.append(await ask(worker, "/captures/cap-1", "DELETE"))

        with capture_logs() as logs:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(delete)
                if is_released:
                    await until(lambda: "capture.revoked" in [each["event"] for each in logs])
                    await trio.sleep(0.3)
                    assert not answers, "it does not answer before it knows"
                    sink.release.set()
        sink.release.set()
        return answers[0], await ending(ws)


async def test_who_ends_a_capture_is_told_what_became_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It was at its end, and its rig has a receipt: it was not ended by the operator."""
    answer, (abort, code, _) = await revoke_at_its_end(monkeypatch, is_released=True)
    assert (abort, code) == (None, 1000)
    assert answer.status_code == 409
    assert answer.json() == {"error": "too late: the capture has ended cleanly"}


async def test_who_ends_a_capture_is_answered_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though its sink hangs."""
    monkeypatch.setattr("cfw.admin.app.REVOKE_S", 0.2)
    answer, _ = await revoke_at_its_end(monkeypatch, is_released=False)
    assert (answer.status_code, answer.json()) == (202, {"status": "ending"})


async def test_what_a_rig_wrote_moves_no_cursor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in what runs nor in what has ended; read as JSON it is what it was."""
    sessions = [f"{NASTY}:s-1"]
    async with running(monkeypatch, sessions__static=sessions) as worker:
        async with worker.connect() as ws:
            await ws.send(opening(user_id=NASTY))
            running_now = await ask(worker, "/captures")
            while not running_now.json()["captures"]:
                running_now = await ask(worker, "/captures")
            await ws.send(closing(user_id=NASTY, total_frames=0))
            await ending(ws)
        ended = await ask(worker, "/ended")
    for answer, key in ((running_now, "captures"), (ended, "ended")):
        assert answer.json()[key][0]["user_id"] == NASTY
        assert answer.text.isprintable()


@pytest.mark.parametrize(
    "accept",
    [
        "application/openmetrics-text; version=",
        "application/openmetrics-text; version=one",
        "application/openmetrics-text; version=1.0.0é",
        "application/openmetrics-text; version=9.9.9; escaping=\x80",
        "text/plain; version=x.y",
        ";,;=,",
    ],
)
async def test_metrics_are_told_whatever_is_accepted(
    monkeypatch: pytest.MonkeyPatch, accept: str
) -> None:
    """An odd Accept gets the format that everybody reads."""
    async with running(monkeypatch) as worker:
        ask_all = partial(httpx.get, f"{worker.addresses.admin}/metrics", trust_env=False)
        headers = [(b"accept", accept.encode("latin-1"))]
        answer = await trio.to_thread.run_sync(partial(ask_all, headers=headers))
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "cfw_connections" in answer.text

"""Every row of the error table, over a real socket, as a foreign client sees it."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from websockets.trio.client import ClientConnection

from cfw.routes.outcome import LADDER
from cfw.sessions import SessionStatus
from cfw.testing.fakes import FailingSink, RecordingSink, ScriptedAuthority
from schemas import ErrorCode
from tests.factories import jpeg
from tests.planted import Change, planted
from tests.sweep.mutants import READER
from tests.whole.smoke.worker import Worker, closing, ending, meta, opening, running

ACTIVE, CLOSED = SessionStatus.ACTIVE, SessionStatus.CLOSED


async def frame(ws: ClientConnection, seq: int, size: int = 200) -> None:
    await ws.send(meta(seq, size))
    await ws.send(jpeg(size))


async def bad_seq(ws: ClientConnection, worker: Worker) -> None:
    await ws.send(opening())
    await frame(ws, 2)


async def open_only(ws: ClientConnection, worker: Worker) -> None:
    await ws.send(opening())


async def large_picture(ws: ClientConnection, worker: Worker) -> None:
    await ws.send(opening(width=641))


async def fast(ws: ClientConnection, worker: Worker) -> None:
    await ws.send(opening(fps_target=16))


async def two_frames(ws: ClientConnection, worker: Worker) -> None:
    await ws.send(opening())
    await frame(ws, 1)
    await frame(ws, 2)


async def large_meta(ws: ClientConnection, worker: Worker) -> None:
    await ws.send(opening())
    await ws.send(meta(1, 300_001))


async def large_frame(ws: ClientConnection, worker: Worker) -> None:
    await ws.send(opening())
    await ws.send(meta(1, 300_000))
    await ws.send(bytes(300_001))


async def stranger(ws: ClientConnection, worker: Worker) -> None:
    await ws.send(opening(user_id="eve"))


async def stop(ws: ClientConnection, worker: Worker) -> None:
    await ws.send(opening())
    await frame(ws, 1)
    await trio.sleep(0.05)
    worker.shutdown.request()
    worker.shutdown.request()


CODE = ErrorCode
#: error_code, what provokes it, the worker it takes.
ROWS: list[tuple[ErrorCode, Any, dict[str, Any]]] = [
    (CODE.PROTOCOL_VIOLATION, bad_seq, {}),
    (CODE.LIMIT_DURATION_EXCEEDED, open_only, {"limits__max_duration_s": 0.05}),
    (CODE.LIMIT_FRAME_COUNT_EXCEEDED, two_frames, {"limits__max_frames": 1}),
    (CODE.LIMIT_RESOLUTION_EXCEEDED, large_picture, {}),
    (CODE.LIMIT_FPS_EXCEEDED, fast, {}),
    (CODE.LIMIT_FRAME_BYTES_EXCEEDED, large_meta, {}),
    (CODE.LIMIT_FRAME_BYTES_EXCEEDED, large_frame, {}),
    (CODE.LIMIT_TOTAL_BYTES_EXCEEDED, two_frames, {"limits__max_total_bytes": 399}),
    (
        CODE.LIMIT_FORWARD_BUFFER_EXCEEDED,
        two_frames,
        {"sink": RecordingSink(delay_s=60), "limits__max_forward_buffer_frames": 1},
    ),
    (CODE.FORWARD_FAILED, two_frames, {"sink": FailingSink(at=1)}),
    (CODE.SESSION_INVALID, stranger, {}),
    (
        CODE.SESSION_CLOSED,
        open_only,
        {"authority": ScriptedAuthority([ACTIVE, CLOSED]), "times__session_recheck_s": 0.05},
    ),
    (CODE.SERVER_SHUTDOWN, stop, {}),
    (
        CODE.SERVER_AT_CAPACITY,
        open_only,
        {"limits__max_memory_bytes": 10_316_384, "occupied": True},
    ),
    (CODE.INTERNAL_ERROR, open_only, {"bug": True}),
]


@pytest.mark.parametrize(
    ("code", "provoke", "setting"), ROWS, ids=[f"{c.value}-{p.__name__}" for c, p, _ in ROWS]
)
async def test_each_error_has_its_abort_and_its_close_code(
    code: ErrorCode, provoke: Any, setting: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One abort with the code, one close frame with the code of the table and a reason."""
    setting = dict(setting)
    occupied, bug = setting.pop("occupied", False), setting.pop("bug", False)
    wrong = [Change(READER, "due = next_deadline(state)", "1 / 0")] if bug else []
    with planted(*wrong):
        async with (
            running(monkeypatch, **setting) as worker,
            worker.connect() as first,
            worker.connect() as ws,
        ):
            if occupied:
                await first.send(opening(capture_id="first"))
                await trio.sleep(0.05)
            await provoke(ws, worker)
            abort, close_code, reason = await ending(ws)
            if occupied:
                await first.send(closing(capture_id="first"))
                assert (await ending(first))[1] == 1000
    assert abort is not None
    assert abort.error_code is code
    assert close_code == LADDER[code][0]
    assert reason.startswith(code.value)
    assert len(reason.encode()) <= 123
    if code is not CODE.INTERNAL_ERROR:
        assert abort.detail
        assert reason.startswith(f"{code.value}: {abort.detail[:40]}")


def test_every_row_is_there() -> None:
    """No error code is left out, but for those of a rig or a worker that is gone."""
    gone = {CODE.CLIENT_DISCONNECTED, CODE.WORKER_LOST}
    assert {row[0] for row in ROWS} == set(ErrorCode) - gone

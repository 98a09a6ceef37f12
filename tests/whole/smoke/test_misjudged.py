"""Over real sockets: a rig hears what was wrong, and nothing that was not."""

from __future__ import annotations

import json
import time
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import trio

from cfw.sessions import SessionStatus
from cfw.testing.fakes import RecordingSink, ScriptedAuthority
from schemas import CaptureAbort, ErrorCode
from tests.factories import jpeg
from tests.unit.wire.peer import REQUEST, binary, text
from tests.whole.smoke.worker import closing, ending, meta, opening, running

#: Every optional field of any message, as a client writes it that knows one class for all.
SUPERSET = (
    *("modality", "source", "performer_id", "session_id", "annotation", "timestamp_start"),
    *("fps_target", "width", "height", "encoding", "seq", "timestamp_frame", "byte_length"),
    *("timestamp_end", "error_code", "detail", "observed", "limit"),
)


def written_out(message: str) -> str:
    return json.dumps(dict.fromkeys(SUPERSET) | json.loads(message))


async def test_null_means_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that writes out every field of every message films."""
    async with running(monkeypatch) as worker, worker.connect() as ws:
        await ws.send(written_out(opening()))
        for seq in (1, 2):
            await ws.send(written_out(meta(seq)))
            await ws.send(jpeg())
        await ws.send(written_out(closing()))
        assert (await ending(ws))[1:] == (1000, '{"frames":2,"bytes":400}')


@pytest.mark.parametrize("limit", ["idle_s", "meta_to_bytes_s", "max_duration_s"])
@pytest.mark.parametrize("answer", [SessionStatus.CLOSED, SessionStatus.ACTIVE])
async def test_a_session_that_ended_comes_before_the_limit_that_is_due_with_it(
    limit: str, answer: SessionStatus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rig fell silent because its session was closed, and hears that."""
    authority = ScriptedAuthority([SessionStatus.ACTIVE, answer])
    settings: dict[str, Any] = {"times__session_recheck_s": 0.5}
    settings["limits__max_duration_s" if limit == "max_duration_s" else f"times__{limit}"] = 0.5
    async with (
        running(monkeypatch, authority=authority, **settings) as worker,
        worker.connect() as ws,
    ):
        await ws.send(opening())
        if limit == "meta_to_bytes_s":
            await ws.send(meta())
        abort, _, reason = await ending(ws)
    assert abort is not None
    if answer is SessionStatus.CLOSED:
        assert abort.error_code is ErrorCode.SESSION_CLOSED
    elif limit == "max_duration_s":
        assert abort.error_code is ErrorCode.LIMIT_DURATION_EXCEEDED
    else:
        assert abort.error_code is ErrorCode.PROTOCOL_VIOLATION
        assert limit in reason


async def test_bytes_that_were_following_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The abort says how many came of a frame that came too slowly."""
    async with running(monkeypatch, times__meta_to_bytes_s=0.5) as worker:
        url = worker.addresses.capture
        host, port = url.split("//")[1].split("/")[0].rsplit(":", 1)
        async with await trio.open_tcp_stream(host, int(port)) as stream:
            await stream.send_all(REQUEST + text(opening()) + text(meta(1, 250_000)))
            await stream.send_all(binary(jpeg(250_000))[:50_000])
            said = b""
            async for data in stream:
                said += data
    told = said[said.index(b'{"schema_version"') :]
    abort, _ = json.JSONDecoder().raw_decode(told.decode("utf-8", "replace"))
    assert abort["detail"].startswith(
        "49986 of the 250000 bytes of the frame came within 0.5 s"
    )
    assert (abort["observed"], abort["limit"]) == (49_986, 250_000)


@pytest.mark.parametrize("hours", [-5, 2], ids=["New York", "Berlin"])
async def test_local_time_without_an_offset_is_told_at_the_first_frame(
    hours: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`datetime.now().isoformat()` away from UTC: the hint comes before any frame is filmed."""
    zone = timezone(timedelta(hours=hours))
    local = datetime.fromtimestamp(time.time(), zone).replace(tzinfo=None).isoformat()
    sink = RecordingSink()
    async with running(monkeypatch, sink=sink) as worker, worker.connect() as ws:
        await ws.send(opening())
        await ws.send(meta(1, timestamp_frame=local))
        abort, code, _ = await ending(ws)
    assert isinstance(abort, CaptureAbort)
    assert (abort.seq, code) == (1, 1008)
    assert "one without an offset is read as UTC" in (abort.detail or "")
    assert sink.only.frames == []


async def test_an_abort_with_the_largest_limits_can_be_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is over two limits of 2^53 - 1 is told as a number that any reader takes."""
    most = 2**53 - 1
    limits: dict[str, Any] = {
        f"limits__max_{name}": most for name in ("width", "height", "pixels")
    }
    async with running(monkeypatch, **limits) as worker, worker.connect() as ws:
        await ws.send(opening(width=most, height=most))
        abort, code, _ = await ending(ws)
    assert abort is not None
    assert (abort.error_code, code) == (ErrorCode.LIMIT_RESOLUTION_EXCEEDED, 1008)
    assert (abort.observed, abort.limit) == (float(most) ** 2, most)

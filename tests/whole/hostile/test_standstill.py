"""A process that stood still blames nobody for what lay in the kernel meanwhile."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import trio

from tests.factories import jpeg
from tests.patience import PATIENCE_S
from tests.raw import encode, ending_of
from tests.unit.identity.certificates import client_context, issued
from tests.unit.wire.peer import REQUEST, binary, frame, parse_frames, text
from tests.whole.hostile.figures import figure
from tests.whole.hostile.kit import Worker, read_rest, worker
from tests.whole.smoke.worker import closing, meta, opening

pytestmark = pytest.mark.skipif(os.name == "nt", reason="SIGSTOP is of POSIX")

#: Every time that a rig has, and for how long the worker stands still.
TIME_S, STILL_S = 3.0, 4.5
TIMES = {
    f"times.{name}_s": TIME_S
    for name in ("meta_to_bytes", "idle", "message", "open", "handshake")
}
#: So long that frames do not fit into what kernels hold of a connection that is not read.
LARGE = 290_000


def conversation(name: str, size: int) -> list[bytes]:
    """A capture of four frames, as its messages; begun, so that each clock is near the real."""
    parts = [REQUEST, text(opening(capture_id=name))]
    for seq in range(1, 5):
        parts += [text(meta(seq, size, capture_id=name)), binary(jpeg(size))]
    return [*parts, text(closing(capture_id=name))]


def cut(name: str, message: int, at: int = 0, *, size: int = 200) -> tuple[bytes, bytes]:
    """What is said before the worker stands still, and what meanwhile: cut in a message."""
    parts = conversation(name, size)
    said = b"".join(parts)
    where = sum(map(len, parts[:message])) + at
    return said[:where], said[where:]


#: What each rig has still to say when the worker stops, and the time that is over meanwhile.
CUTS = {
    "handshake_s": lambda: cut("request", 0, 40),
    "open_s": lambda: cut("open", 1),
    "open_s, within the message": lambda: cut("half-open", 1, 50),
    "idle_s": lambda: cut("idle", 2),
    "meta_to_bytes_s": lambda: cut("bytes", 3),
    "meta_to_bytes_s, of many bytes": lambda: cut("large", 5, LARGE // 2, size=LARGE),
    "message_s": lambda: cut("message", 4, 60),
    "message_s, of a control frame": lambda: (
        (parts := cut("ping", 4))[0] + frame(0x89, b"half a ping")[:7],
        frame(0x89, b"half a ping")[7:] + parts[1],
    ),
}


async def stand_still(served: Worker, seconds: float = STILL_S) -> None:
    """Stop the worker's process, and let it go on."""
    served.process.send_signal(signal.SIGSTOP)
    await trio.sleep(seconds)
    served.process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("has_tls", [False, True], ids=["plain", "tls"])
async def test_a_worker_that_stood_still_blames_no_rig(tmp_path: Path, has_tls: bool) -> None:
    """What came while it was stopped is taken first, whichever time was over by then."""
    options, tls = dict[str, object](TIMES), None
    if has_tls:
        files, tls = issued(tmp_path), client_context()
        options |= {"server.cert_file": files.cert, "server.key_file": files.key}
    endings: dict[str, tuple[int | None, str]] = {}
    begun = 0

    async def film(what: str) -> None:
        nonlocal begun
        before, meanwhile = CUTS[what]()
        stream: trio.abc.Stream = await served.dial()
        if tls is not None:
            stream = trio.SSLStream(stream, tls, server_hostname="127.0.0.1")
        await stream.send_all(before)
        begun += 1
        await stopped.wait()
        async with trio.open_nursery() as talk:
            talk.start_soon(stream.send_all, meanwhile)
            said = await read_rest(stream)
        head, _, frames = said.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), (what, head)
        ended = ending_of(without_pings(frames))
        endings[what] = (ended.code, ended.reason)
        await trio.aclose_forcefully(stream)

    async with worker(tmp_path, settings=options) as served, trio.open_nursery() as nursery:
        stopped = trio.Event()
        for what in CUTS:
            nursery.start_soon(film, what)
        with trio.fail_after(TIME_S):
            while begun < len(CUTS):  # noqa: ASYNC110 - several tasks say so
                await trio.sleep(0.01)
        await trio.sleep(0.2)  # what was said has been read
        nursery.start_soon(stand_still, served)
        await trio.sleep(0.2)
        stopped.set()
    assert {what: code for what, (code, _) in endings.items()} == dict.fromkeys(CUTS, 1000), (
        endings
    )
    figure(
        f"a worker stopped for {STILL_S:g} s, times of {TIME_S:g} s"
        + (", TLS" if has_tls else ""),
        f"{len(CUTS)} of {len(CUTS)} rigs got their receipt",
    )


async def test_a_tls_handshake_that_lay_in_the_kernel_is_answered(tmp_path: Path) -> None:
    """The connection was made in time and its first bytes came while the worker stood."""
    files = issued(tmp_path)
    options = TIMES | {"server.cert_file": files.cert, "server.key_file": files.key}
    async with worker(tmp_path, settings=options) as served, trio.open_nursery() as nursery:
        plain = await served.dial()
        await trio.sleep(0.3)  # it is accepted, and its time runs
        nursery.start_soon(stand_still, served)
        await trio.sleep(0.2)
        stream = trio.SSLStream(plain, client_context(), server_hostname="127.0.0.1")
        async with trio.open_nursery() as talk:
            talk.start_soon(stream.send_all, b"".join(conversation("tls", 200)))
            head, _, frames = (await read_rest(stream)).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        assert ending_of(without_pings(frames)).receipt["frames"] == 4
        await trio.aclose_forcefully(stream)


async def test_a_pong_that_lay_in_the_kernel_keeps_the_connection(tmp_path: Path) -> None:
    """A rig whose pong came in time is not gone because the worker looked late."""
    options = {"times.keepalive_s": 0.5, "times.keepalive_timeout_s": TIME_S}
    options |= {"times.idle_s": 60}
    async with worker(tmp_path, settings=options) as served, trio.open_nursery() as nursery:
        rig = await served.rig("pong")
        with trio.fail_after(PATIENCE_S):
            while (first := await next_frame(rig.stream))[0] != 0x89:
                pass
            asked = [first]
            while len(asked) < 2:  # that of the clock, and that of the keepalive
                asked.append(await next_frame(rig.stream))
        nursery.start_soon(stand_still, served)
        await trio.sleep(0.2)
        for _, payload in asked:
            await rig.send(frame(0x8A, payload))
        await trio.sleep(STILL_S)
        rig.received.clear()
        await rig.frame()
        await rig.close()
        ended = ending_of(without_pings(await read_rest(rig.stream)))
        assert ended.receipt["frames"] == 1
        await rig.stream.aclose()


@pytest.mark.parametrize("size", [200, LARGE])
async def test_one_that_floods_puts_no_time_off(tmp_path: Path, size: int) -> None:
    """Whoever goes on sending when its time is over is ended then, or a moment later."""
    options = {"limits.max_duration_s": 2, "limits.max_frames": 10**9}
    options |= {"limits.max_total_bytes": 10**12, "times.message_s": 60}
    count, picture = 100 if size < LARGE else 1, jpeg(size)
    masked = encode(picture)
    async with worker(tmp_path, settings=options) as served, trio.open_nursery() as nursery:
        rig = await served.rig("flood")
        began = trio.current_time()

        async def flood() -> None:
            with trio.move_on_after(30):
                try:
                    while True:
                        metas = [encode(rig.messages(data=picture)[0]) for _ in range(count)]
                        await rig.send(b"".join(each + masked for each in metas))
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    pass

        nursery.start_soon(flood)
        ended = await rig.ending()
        took = trio.current_time() - began
        nursery.cancel_scope.cancel()
    assert ended.aborts[0].error_code == "limit_duration_exceeded"
    assert took < 10
    figure(
        f"one that floods with {size} bytes a frame, at 2 s of max_duration_s",
        f"ended after {took:.2f} s",
    )


def without_pings(data: bytes) -> list[tuple[int, bytes]]:
    """The frames of the worker that are no ping and no pong."""
    return [told for told in parse_frames(data) if told[0] not in (0x89, 0x8A)]


async def next_frame(stream: trio.SocketStream) -> tuple[int, bytes]:
    """The next short frame of the worker, alone."""
    head = await stream.receive_some(2)
    return head[0], await stream.receive_some(head[1]) if head[1] else b""

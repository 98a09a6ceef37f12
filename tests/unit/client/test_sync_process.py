"""The synchronous twin in a process of its own: Ctrl-C, and the end of the interpreter."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from functools import partial

import pytest
import trio

from schemas import CaptureClose
from tests.patience import PATIENCE_S
from tests.unit.client.fake_worker import FakeWorker, listening_worker, run_script

SCRIPT = """
import json, os, sys, threading
from cfw.client import open_capture_sync

def left():
    names = [thread.name for thread in threading.enumerate()]
    files = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
    links = [os.readlink(file) for file in files if os.path.exists(file)]
    return {"threads": names, "sockets": [link for link in links if "socket" in link]}

def opened():
    # Who waits for a worker that says nothing waits longer than the test.
    return open_capture_sync(
        url, user_id="ada", session_id="s1", width=640, height=480, fps=15,
        connect_timeout=600, close_timeout=600,
    )

def forever():
    with opened() as capture:
        yield capture

url, what = sys.argv[1:]
if what == "interrupted":
    try:
        with opened() as capture:
            capture.send_frame(b"1")
            if capture.frames_sent == 1 and url.endswith("?fill"):
                while True:
                    capture.send_frame(bytes(900_000))
    except KeyboardInterrupt as exc:
        print(json.dumps(left() | {"context": repr(exc.__context__)}))
elif what == "never_left":
    capture = opened().__enter__()
    capture.send_frame(b"1")
elif what == "suspended":
    generator = forever()
    next(generator).send_frame(b"1")
elif what == "exits":
    with opened() as capture:
        capture.send_frame(b"1")
        sys.exit(3)
"""


def child(url: str, what: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-X", "dev", "-W", "error", "-c", SCRIPT, url, what],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="no /proc/self/fd to count in")
@pytest.mark.parametrize("stage", ["connecting", "sending", "closing"])
async def test_keyboard_interrupt_leaves_nothing_behind(stage: str) -> None:
    """Ctrl-C, wherever the main thread waits: it leaves at once, no thread, no socket."""
    reached = trio.Event()

    async def script(worker: FakeWorker) -> None:
        await worker.read_until(bytes if stage == "sending" else CaptureClose)
        reached.set()
        await trio.sleep_forever()

    async def serve(stream: trio.SocketStream) -> None:
        if stage == "connecting":
            reached.set()
            await trio.sleep_forever()
        await run_script(stream, script, [])

    async with listening_worker(serve) as url:
        running = child(f"{url}?fill" if stage == "sending" else url, "interrupted")
        try:
            with trio.fail_after(PATIENCE_S):
                await reached.wait()
            # For the child to be where it waits: its buffers full, its answer outstanding.
            await trio.sleep(0.3)
            running.send_signal(signal.SIGINT)
            leave = partial(running.communicate, timeout=PATIENCE_S)
            out, err = await trio.to_thread.run_sync(leave)
        finally:
            running.kill()
    assert (running.returncode, err) == (0, "")
    assert json.loads(out) == {"threads": ["MainThread"], "sockets": [], "context": "None"}


@pytest.mark.parametrize(("what", "code"), [("never_left", 0), ("suspended", 0), ("exits", 3)])
async def test_the_interpreter_ends(what: str, code: int) -> None:
    """A capture still open does not hold up the end of Python, nor make it complain."""
    seen: list[FakeWorker] = []
    async with listening_worker(
        lambda stream: run_script(stream, FakeWorker.read_to_end, seen)
    ) as url:
        running = child(url, what)
        try:
            leave = partial(running.communicate, timeout=PATIENCE_S)
            out, err = await trio.to_thread.run_sync(leave)
        finally:
            running.kill()
    assert (running.returncode, out, err) == (code, "", "")
    assert seen[0].frames == [b"1"]


SWEEP = """
import json, os, signal, sys, threading, time
from cfw.client import open_capture_sync

def film():
    with open_capture_sync(
        sys.argv[1], user_id="ada", session_id="s1", width=640, height=480, fps=15
    ) as capture:
        for _ in range(3):
            capture.send_frame(b"1")

signal.signal(signal.SIGALRM, signal.default_int_handler)
film()  # the first one takes longer, and would put most interruptions behind the end
start = time.monotonic()
film()
whole = time.monotonic() - start
interrupted = 0
for step in range(1, 101):
    try:
        signal.setitimer(signal.ITIMER_REAL, whole * step / 100)
        film()
        signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        interrupted += 1

# One that is interrupted before it has started stays listed by `threading` and is no thread;
# one whose `with` was interrupted before its first line ends by itself, a moment later.
def alive():
    return [t.name for t in threading.enumerate() if t.name == "cfw-capture" and t.is_alive()]
until = time.monotonic() + 5
while alive() and time.monotonic() < until:
    time.sleep(0.01)
left = alive()
files = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
left += [os.readlink(file) for file in files if os.path.exists(file)]
print(json.dumps([interrupted, [name for name in left if "socket" in name or "cfw" in name]]))
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="no /proc/self/fd to count in")
async def test_keyboard_interrupt_at_any_time() -> None:
    """A hundred captures, each interrupted a little later: never a thread or socket is left."""

    async def serve(stream: trio.SocketStream) -> None:
        # What a rig cut off in the handshake makes of the scripted worker is of no interest.
        with suppress(Exception):
            await run_script(stream, FakeWorker.confirm, [])

    async with listening_worker(serve) as url:
        ran = await trio.run_process(
            [sys.executable, "-c", SWEEP, url], capture_stdout=True, capture_stderr=True
        )
    interrupted, left = json.loads(ran.stdout)
    assert interrupted > 20
    assert left == []

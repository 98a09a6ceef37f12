"""What costs its sender six bytes and the worker some microseconds delays no rig."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
import trio

from tests.factories import jpeg
from tests.patience import PATIENCE_S
from tests.unit.wire.peer import REQUEST, frame, ping
from tests.whole.hostile.figures import IS_LONG, figure
from tests.whole.hostile.kit import Rig, Worker, worker

#: A good rig films so fast for so long while it is attacked, and before that.
FPS = 15
LASTS_S = 20.0 if IS_LONG else 3.0
#: How late a frame may be for all that others do.
LATE_S = 0.15
PICTURE = jpeg(30_000)

UPGRADE = REQUEST.replace(b"/camera_feed_worker/capture", b"/feed?mode=live")
UPGRADE = UPGRADE.replace(b"Host: worker", b"Host: localhost")
POST = b"POST /healthz HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
RIG_POST = POST.replace(b"/healthz", b"/camera_feed_worker/capture")
ENDLESS = frame(0x01) + frame(0x00) * 40_000
EMPTY = frame(0x01) + frame(0x00) * 900 + frame(0x80)

#: What is done -> to which port, by how many, what they begin with, and what they repeat.
ATTACKS: dict[str, tuple[str, int, bytes, bytes]] = {
    "a feed reader: empty fragments": ("admin", 1, UPGRADE, EMPTY),
    "a feed reader: a message of empty fragments": ("admin", 1, UPGRADE, ENDLESS),
    "a feed reader: tiny pongs": ("admin", 1, UPGRADE, frame(0x8A)),
    "a feed reader: tiny pings": ("admin", 1, UPGRADE, ping()),
    "6 strangers: bodies in chunks of a byte": ("admin", 6, POST, b"1\r\nx\r\n"),
    "6 strangers: thousands of headers": ("admin", 6, b"", GET + b"a:\n" * 5_000 + b"\r\n"),
    "6 strangers: pipelined requests": ("admin", 6, b"", GET + b"\r\n"),
    "6 rigs: empty fragments": ("rigs", 6, REQUEST, EMPTY),
    "6 rigs: tiny pongs": ("rigs", 6, REQUEST, frame(0x8A)),
    "6 rigs: tiny pings": ("rigs", 6, REQUEST, ping()),
    "6 strangers at the rigs' port: chunks of a byte": ("rigs", 6, RIG_POST, b"1\r\nx\r\n"),
    "6 strangers at the rigs' port: thousands of headers": (
        "rigs",
        6,
        b"",
        REQUEST[:-2] + b"a:\n" * 5_000 + b"\r\n",
    ),
}

#: In a process of its own, so that what is measured is the worker and not the attacker.
ATTACKER = """
import socket, sys, threading
host, port, count = sys.argv[1], *map(int, sys.argv[2:])
begin, again = map(bytes.fromhex, (sys.stdin.readline(), sys.stdin.readline()))
again *= max(1, 262144 // len(again))
def attack():
    while True:
        try:
            with socket.create_connection((host, port)) as sock:
                sock.sendall(begin)
                if b"Upgrade" in begin:
                    sock.recv(65536)
                # What is answered is read, or nobody would go on.
                threading.Thread(target=drain, args=(sock,), daemon=True).start()
                while True:
                    sock.sendall(again)
        except OSError:
            pass
def drain(sock):
    try:
        while sock.recv(65536):
            pass
    except OSError:
        pass
for _ in range(count):
    threading.Thread(target=attack, daemon=True).start()
print("attacking", flush=True)
sys.stdin.read()
"""


@asynccontextmanager
async def attacking(made: Worker, name: str) -> AsyncIterator[None]:
    """Attack the worker around a block."""
    where, count, begin, again = ATTACKS[name]
    host, port = made.capture
    if where == "admin":
        host, _, number = made.admin.removeprefix("http://").rpartition(":")
        port = int(number)
    command = [sys.executable, "-c", ATTACKER, host, str(port), str(count)]
    process = psutil.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        process.stdin.write(f"{begin.hex()}\n{again.hex()}\n".encode())
        process.stdin.flush()
        await trio.to_thread.run_sync(process.stdout.readline)
        yield
        assert process.poll() is None, "the attacker ended by itself"
    finally:
        process.kill()
        process.communicate()


async def lateness(rig: Rig, lasts_s: float) -> list[float]:
    """Film, and see how long each frame takes to be received: a pong comes behind it."""
    late = []
    for number in range(round(lasts_s * FPS)):
        began = trio.current_time()
        await rig.frame(data=PICTURE)
        told = b"%d" % number
        await rig.send(ping(told))
        with trio.fail_after(PATIENCE_S):
            while b"\x8a" + bytes([len(told)]) + told not in rig.received:
                data = await rig.stream.receive_some()
                assert data, "the rig was ended"
                rig.received.extend(data)
        rig.received.clear()
        late.append(trio.current_time() - began)
        await trio.sleep(max(0.0, began + 1 / FPS - trio.current_time()))
    return late


@pytest.mark.alone
@pytest.mark.parametrize("name", ATTACKS)
async def test_tiny_pieces_delay_no_rig(name: str, tmp_path: Path) -> None:
    """A good rig films on while others send what is small and costs much."""
    settings = {"limits.max_duration_s": 300, "limits.max_frames": 100_000}
    async with worker(tmp_path, settings=settings) as made:
        rig = await made.rig("good")
        quiet = max(await lateness(rig, LASTS_S / 2))
        async with attacking(made, name):
            late = max(await lateness(rig, LASTS_S))
        receipt = await rig.receipt()
        await rig.stream.aclose()
        assert receipt["frames"] == rig.seq
        for event in (
            "admin.connection_failed",
            "admin.failed",
            "http.failed",
            "connection.failed",
        ):
            assert made.log(event) == []
    figure(name, f"a good rig is {late * 1e3:.0f} ms late at most, {quiet * 1e3:.0f} before")
    # A machine that is busy with something else is late without an attack, too.
    assert late < LATE_S + 2 * quiet

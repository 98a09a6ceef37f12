"""A worker in a process of its own, hostile peers on real sockets, and what they cost it."""

from __future__ import annotations

import math
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import attrs
import httpx
import trio

from tests import raw
from tests.patience import PATIENCE_S
from tests.raw import Ending
from tests.serving import SESSIONS, Served, serving_beside
from tests.unit.wire.peer import Peer
from tests.whole.smoke.worker import now

MB = 1_000_000


@attrs.define(eq=False)
class Worker(Served):
    """A `cfw serve`, to which hostile peers connect.

    Attributes:
        dialled: the connections that were made to it.
    """

    dialled: list[trio.SocketStream] = attrs.field(factory=list, init=False, repr=False)

    @property
    def capture(self) -> tuple[str, int]:
        """Host and port for rigs."""
        url = urlsplit(self.url)
        return url.hostname or "", url.port or 0

    @property
    def rss(self) -> int:
        """Resident bytes now."""
        size: int = self.process.memory_info().rss
        return size

    @property
    def descriptors(self) -> int:
        """Open descriptors now."""
        count: int = self.process.num_fds()
        return count

    async def get(self, path: str, method: str = "GET") -> httpx.Response:
        """Ask the admin listener, on a connection of its own."""
        return await asked(self.admin + path, method)

    async def metric(self, name: str) -> float:
        """One number of `/metrics`, named with its labels."""
        return await metric(self.admin, name)

    async def connections(self, count: int) -> None:
        """Wait until it has so many connections, as it counts them itself."""
        await self.settle("cfw_connections", count)

    async def captures(self, count: int) -> None:
        """Wait until so many captures run."""
        await self.settle("cfw_captures_running", count)

    async def settle(self, name: str, value: float) -> None:
        """Wait until one number of `/metrics` is this."""
        last = math.nan
        with trio.move_on_after(PATIENCE_S):
            # It is another process: nothing signals it.
            while (last := await self.metric(name)) != value:  # noqa: ASYNC110
                await trio.sleep(0.02)
            return
        raise AssertionError(f"{name} is {last:g} and does not become {value:g}")

    async def dial(self) -> trio.SocketStream:
        """A TCP connection to the port for rigs; closed with the worker if it is open still."""
        with trio.fail_after(PATIENCE_S):
            stream = await trio.open_tcp_stream(*self.capture)
        self.dialled.append(stream)
        return stream

    async def rig(self, capture_id: str | None = None) -> Rig:
        """A WebSocket, with a capture open if it has an id."""
        rig = Rig(await self.dial(), capture_id or "none")
        await rig.shake_hands()
        if capture_id is not None:
            await rig.open()
        return rig

    async def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return await self.exit_code()

    async def exit_code(self) -> int:
        """Wait until it has ended."""
        code: int = await trio.to_thread.run_sync(self.process.wait, PATIENCE_S)
        return code


async def asked(url: str, method: str = "GET") -> httpx.Response:
    """Send an HTTP request, on a connection of its own."""
    with trio.fail_after(PATIENCE_S):
        return await trio.to_thread.run_sync(
            lambda: httpx.request(method, url, trust_env=False, timeout=PATIENCE_S)
        )


async def metric(admin: str, name: str) -> float:
    """One number of the `/metrics` of an admin listener, named with its labels."""
    for line in (await asked(f"{admin}/metrics")).text.splitlines():
        if line.startswith(f"{name} "):
            return float(line.split()[-1])
    raise AssertionError(f"no metric is named {name}")


@asynccontextmanager
async def worker(
    tmp_path: Path,
    *options: str,
    settings: Mapping[str, object] | None = None,
    descriptors: int | None = None,
    env: dict[str, str] | None = None,
    sessions: Sequence[str] = SESSIONS,
    stderr: int | str | None = None,
) -> AsyncIterator[Worker]:
    """Run `cfw serve` on free ports.

    Args:
        tmp_path: for its log.
        options: more of the command line.
        settings: `limits.max_fps` and such.
        descriptors: hard and soft RLIMIT_NOFILE; None for those of the tests.
        env: its environment; None for that of the tests.
        sessions: who may send.
        stderr: where its log goes instead, as a descriptor or in the shell's words.
    """
    words: list[str] = []
    for key, value in (settings or {}).items():
        words += ["--set", f"{key}={value}"]
    prefix: list[str] = []
    if descriptors is not None:
        prefix += ["sh", "-c", f'ulimit -n {descriptors}; exec "$@"', "sh"]
    if isinstance(stderr, str):
        prefix += ["sh", "-c", f'exec "$@" {stderr}', "sh"]
    started = Worker.start(
        *options,
        *words,
        sessions=sessions,
        prefix=prefix,
        folder=tmp_path,
        stderr=stderr if isinstance(stderr, int) else None,
        env=env,
    )
    async with serving_beside(started) as made:
        try:
            yield made
        finally:
            # What a test that fails leaves open would be blamed on the next one.
            for stream in made.dialled:
                await trio.aclose_forcefully(stream)


class Rig(raw.Rig):
    """A raw rig on a real socket, under the real clock: it waits for nothing without end."""

    def __init__(self, stream: trio.SocketStream, capture_id: str) -> None:
        super().__init__(Peer(stream), capture_id, now)
        self._sending = trio.Lock()

    async def shake_hands(self) -> None:
        with trio.fail_after(PATIENCE_S):
            await self.peer.open()

    async def send(self, data: bytes) -> None:
        with trio.fail_after(PATIENCE_S):
            async with self._sending:
                await self.stream.send_all(data)

    async def ending(self) -> Ending:
        """Read to the end of what the worker says, and leave; a reset is an end, too."""
        data = bytes(self.received) + await read_rest(self.stream)
        await self.stream.aclose()
        return Ending.parse(data)

    async def receipt(self) -> dict[str, int]:
        """End the capture cleanly."""
        await self.close()
        return (await self.ending()).receipt


async def read_rest(stream: trio.abc.Stream) -> bytes:
    """What comes until the end; a reset is an end, too."""
    data = b""
    with trio.fail_after(PATIENCE_S), suppress(trio.BrokenResourceError):
        while more := await stream.receive_some():
            data += more
    return data


def percentile(values: Sequence[float], part: float) -> float:
    """The value that `part` of them do not pass; the largest for 1."""
    return sorted(values)[max(0, math.ceil(part * len(values)) - 1)]

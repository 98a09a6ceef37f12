"""What a connection costs a worker, in memory of the process."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from urllib.parse import urlsplit

from tests.patience import PATIENCE_S
from tests.serving import serving
from tests.unit.wire.peer import REQUEST

CONNECTIONS = 300
MOST_BYTES = 100_000


def test_an_idle_connection_is_cheap() -> None:
    """Hundreds that have shaken hands and say nothing cost less than 100 kB each."""
    with serving("--set", "times.open_s=300") as worker, ExitStack() as stack:
        url = urlsplit(worker.url)

        def connect(count: int) -> None:
            sockets = [
                stack.enter_context(socket.create_connection((url.hostname, url.port)))
                for _ in range(count)
            ]
            for each in sockets:
                each.settimeout(PATIENCE_S)
                each.sendall(REQUEST)
            for each in sockets:
                assert each.recv(4096).startswith(b"HTTP/1.1 101 ")

        connect(20)  # what is imported and allocated once
        before = worker.process.memory_info().rss
        connect(CONNECTIONS)
        each = (worker.process.memory_info().rss - before) / CONNECTIONS
    print(f"{each / 1000:.0f} kB for each of {CONNECTIONS} idle connections")  # noqa: T201
    assert 0 < each < MOST_BYTES

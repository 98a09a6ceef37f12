"""What cfw is measured against, each as one small server: `python -m ... NAME` prints its port.

recv            the ceiling: bare `recv` on Trio; counts bytes, parses nothing
trio-websocket  a plain loop over `get_message()`, 64 KiB reads; JSON parsed, no contract
trio-websocket-4k   the same with its default reads
"""

from __future__ import annotations

import json
import re
import sys
from functools import partial

import click
import orjson
import trio
from trio_websocket import ConnectionClosed, WebSocketRequest, serve_websocket

_LENGTH = re.compile(rb'"byte_length": ?(\d+)')
_META_BYTES = 8  # header and mask of a message under 64 KiB


async def _recv(stream: trio.SocketStream) -> None:
    """Answer any handshake, then count bytes until the closing message."""
    await stream.receive_some(65_536)
    await stream.send_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
    total, frame, tail = 0, 0, b""
    while data := await stream.receive_some(262_144):
        total += len(data)
        if not frame and (found := _LENGTH.search(data)):
            frame = int(found[1])
        tail = data[-600:] if len(data) >= 600 else (tail + data)[-600:]
        if b'"capture.close"' in tail:
            break
    # Metadata is some 300 bytes a frame: close enough to call it none.
    receipt = b'{"frames":%d,"bytes":0}' % (total // (frame + 330))
    await stream.send_all(b"\x88" + bytes([2 + len(receipt)]) + b"\x03\xe8" + receipt)
    await stream.send_eof()
    while await stream.receive_some():
        pass


async def _loop(request: WebSocketRequest) -> None:
    ws = await request.accept()
    frames = 0
    try:
        while True:
            message = await ws.get_message()
            if isinstance(message, bytes):
                frames += 1
            elif orjson.loads(message)["event"] == "capture.close":
                with trio.move_on_after(2):
                    await ws.aclose(1000, json.dumps({"frames": frames}))
    except ConnectionClosed:
        pass


async def _serve(name: str) -> None:
    async with trio.open_nursery() as nursery:
        if name == "recv":
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            port = listeners[0].socket.getsockname()[1]
            nursery.start_soon(trio.serve_listeners, _recv, listeners)
        else:
            read = 4096 if name.endswith("-4k") else 65_536
            start = partial(
                serve_websocket,
                _loop,
                "127.0.0.1",
                0,
                None,
                receive_buffer_size=read,
                max_message_size=1 << 24,
            )
            port = (await nursery.start(start)).port
        click.echo(json.dumps({"port": port}))
        sys.stdout.flush()


if __name__ == "__main__":
    trio.run(_serve, sys.argv[1])

"""A consumer in a process of its own: `python -m tests.whole.deploy.reader URL FILE`.

A line is written and out of the process before the message counts as processed.
"""

from __future__ import annotations

import hashlib
import json
import sys
from typing import BinaryIO

import trio

from cfw.valkey import open_valkey_feed
from schemas import FeedFrame


async def read(url: str, file: BinaryIO) -> None:
    """Write each message in short, with what its image hashes to."""
    feed_opened = open_valkey_feed(url, group="fleet", consumer="reader", max_captures=100)
    async with feed_opened as feed:
        async for message, jpeg in feed:
            line = {
                "capture": message.capture_id,
                "event": message.event,
                "seq": message.seq if isinstance(message, FeedFrame) else None,
                "hash": hashlib.sha256(jpeg).hexdigest() if jpeg is not None else None,
            }
            file.write(json.dumps(line).encode() + b"\n")
            file.flush()


if __name__ == "__main__":
    with open(sys.argv[2], "ab") as opened:
        trio.run(read, sys.argv[1], opened)

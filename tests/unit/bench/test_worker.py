"""The worker whose delays are measured does what the worker does."""

from __future__ import annotations

import pytest

from cfw.bench.peers.checks import Consumer
from cfw.bench.peers.worker import _StampedSink
from cfw.sinks import BatchSink, PromptSink, open_sink
from schemas import FeedOpened, Timestamp, restate
from tests.factories import make_open


@pytest.mark.parametrize("url", ["null:", "hub:"])
async def test_a_sink_that_notes_delays_takes_frames_as_the_sink_does(url: str) -> None:
    """Else each frame would take a turn of the forwarder that it takes nowhere else."""
    async with open_sink(url) as sink:
        stamped = _StampedSink(sink, Consumer(is_stamped=True))
        opened = restate(make_open(), FeedOpened, timestamp_ingest=Timestamp.from_ns(0))
        async with sink.capture(opened) as plain, stamped.capture(opened) as noted:
            for kind in (BatchSink, PromptSink):
                assert isinstance(noted, kind) == isinstance(plain, kind)

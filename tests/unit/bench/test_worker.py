"""The worker whose delays are measured does what the worker does."""

from __future__ import annotations

import subprocess
import sys

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


def test_what_a_measured_worker_logs_is_not_among_its_answers() -> None:
    """Those are read when it is asked: one that had aborted many captures stood still."""
    logs = (
        "import structlog\n"
        "from cfw.bench.peers.worker import _run\n"
        "async def main(): structlog.get_logger().error('said')\n"
        "_run(main)"
    )
    ran = subprocess.run([sys.executable, "-c", logs], capture_output=True, text=True)
    assert "said" in ran.stderr
    assert ran.stdout == ""

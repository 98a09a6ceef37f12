"""Processes of `--sweep-jobs`: what becomes of them when the one that started them is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence

import pytest

from cfw.testing.sweep import jobs

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")

#: Each of two processes tells its number for each of 16 items, and ends the first one when the
#: process that started it is gone. What is printed is not silenced by what runs items.
_SCRIPT = """
import os, time
from cfw.testing.sweep.jobs import apart

parent = os.getpid()

def perform(items):
    for item in items:
        os.write(1, b"%d\\n" % os.getpid())
        while os.getppid() == parent:
            time.sleep(0.01)
        yield item

list(apart(range(32), perform, 2))
"""


def test_no_process_of_a_sweep_outlives_its_parent() -> None:
    """Killed in the middle: none goes on to another item."""
    with subprocess.Popen([sys.executable, "-c", _SCRIPT], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        told = [process.stdout.readline() for _ in range(2)]
        assert len({*told, b""}) == 3
        process.send_signal(signal.SIGKILL)
        # All that the two still say; it ends when both are gone.
        assert process.stdout.read() == b""


@pytest.mark.timeout(60)
def test_a_process_that_does_not_end_is_waited_for_no_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever threads what it ran has left behind."""
    monkeypatch.setattr(jobs, "END_S", 0.1)

    def perform(items: Sequence[int]) -> Iterator[int]:
        threading.Thread(target=threading.Event().wait).start()
        yield from items

    assert list(jobs.apart(range(32), perform, 2)) == [*range(32)]

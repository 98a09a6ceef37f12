"""How tests start a worker and end it: it says why it is not there, and leaves nothing."""

from __future__ import annotations

import sys

import pytest

from tests.serving import Served, serving, serving_beside


async def test_a_worker_that_does_not_start_is_told_with_its_words() -> None:
    """At once, not after the patience; in either form."""
    words = ("--set", "limits.max_fps=abc")
    with pytest.raises(AssertionError, match=r"ended with 2(.|\n)*max_fps: must be an "):
        async with serving_beside(Served.start(*words)):
            raise AssertionError("it is ready")
    with pytest.raises(AssertionError, match=r"max_fps: must be an"), serving(*words):
        raise AssertionError("it is ready")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot stop a process so")
def test_a_worker_that_stands_still_is_killed() -> None:
    """And its folder is gone with it."""
    with serving() as worker:
        worker.process.suspend()
        folder = worker.log_file.parent
        assert folder.exists()
    assert not worker.process.is_running()
    assert not folder.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has several workers")
def test_what_a_supervisor_has_started_ends_with_it() -> None:
    """No process is left that nobody knows of."""
    with serving("--workers", "2", "--sink", "null:") as worker:
        started = worker.process.children()
        assert len(started) == 2
    assert not [each for each in started if each.is_running()]

"""What a started worker tells the collector and the allocator."""

from __future__ import annotations

import json
import platform
import subprocess
import sys

import pytest

from cfw.api.memory import KEPT_BYTES

#: Takes and frees a frame over and over behind one that stays, as a capture does, and counts
#: how often the system is asked for its pages again.
PROBE = """
import gc, json, resource, sys
if sys.argv[1] == "settled":
    from cfw.api.memory import settle_memory
    settle_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def take(frames):
    held = [bytes(300_000) for _ in range(frames)]
for _ in range(5):
    take(8)
before = faults()
for _ in range(100):
    take(8)
print(json.dumps({"faults": faults() - before, "frozen": gc.get_freeze_count()}))
"""


def probe(how: str) -> dict[str, int]:
    done = subprocess.run(
        [sys.executable, "-c", PROBE, how],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    found: dict[str, int] = json.loads(done.stdout)
    return found


def test_what_start_up_made_is_not_looked_through_again() -> None:
    """The collector leaves it alone."""
    assert probe("settled")["frozen"] > 10_000
    assert probe("as it was")["frozen"] == 0


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc is not glibc's")
def test_memory_of_frames_is_kept_for_the_next_ones() -> None:
    """Frames that fit into what is kept cost no pages once there were as many before."""
    assert KEPT_BYTES > 8 * 300_000
    assert 10 * probe("settled")["faults"] < probe("as it was")["faults"]

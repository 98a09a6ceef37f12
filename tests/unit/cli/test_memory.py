"""What a started worker tells the collector and the allocator."""

from __future__ import annotations

import json
import platform
import subprocess
import sys

import pytest

from cfw.api.memory import KEPT_BYTES
from tests.patience import PATIENCE_S

#: Takes and frees a frame over and over behind one that stays, as a capture does, and counts
#: how often the system is asked for its pages again; then does so with small objects, and
#: counts how often the collector looks for cycles, also while more and more are kept.
PROBE = """
import gc, json, resource, sys
if sys.argv[1] == "settled":
    from cfw.api.memory import settle_memory
    settle_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def take(frames):
    held = [bytes(300_000) for _ in range(frames)]
def make(rigs):
    held = [[[] for _ in range(43)] for _ in range(rigs)]
for _ in range(5):
    take(8)
before = faults()
for _ in range(100):
    take(8)
used = faults() - before
runs = []
gc.callbacks.append(lambda phase, _: runs.append(phase))
for _ in range(20):
    make(300)
few = len(runs)
held = [make.__get__([]) for _ in range(100_000)]
counts = {"few": few, "many": len(runs) - few}
print(json.dumps({"faults": used, "frozen": gc.get_freeze_count(), **counts}))
"""


def probe(how: str) -> dict[str, int]:
    done = subprocess.run(
        [sys.executable, "-c", PROBE, how],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    found: dict[str, int] = json.loads(done.stdout)
    return found


def test_what_start_up_made_is_not_looked_through_again() -> None:
    """The collector leaves it alone."""
    assert probe("settled")["frozen"] > 10_000
    assert probe("as it was")["frozen"] == 0


def test_what_captures_make_is_not_looked_through_while_it_comes_and_goes() -> None:
    """The objects of 300 rigs, over and over, are no reason to stop them; a leak still is."""
    settled, as_it_was = probe("settled"), probe("as it was")
    assert settled["few"] == 0 < as_it_was["few"]
    assert settled["many"] > 0


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc is not glibc's")
def test_memory_of_frames_is_kept_for_the_next_ones() -> None:
    """Frames that fit into what is kept cost no pages once there were as many before."""
    assert KEPT_BYTES > 8 * 300_000
    assert 10 * probe("settled")["faults"] < probe("as it was")["faults"]

"""The cost of a frame may not grow unseen: counted in calls, which no clock disturbs."""

from __future__ import annotations

import pytest

import cfw.routes.reader as reader
from schemas import parse_input
from tests.guards.hot_path import calls, take

#: Calls of Python and C functions for one frame, by its size, with a twentieth to spare over
#: what it was on CPython 3.11 with the modules compiled. Whoever makes the path shorter lowers
#: them; a higher one needs a reason in its commit.
CEILINGS = {1_000: 60, 30_000: 80, 300_000: 277}
#: Frames of a short and of a long capture: many reads, so that where one ends counts little.
LENGTHS = {1_000: (300, 1_500), 30_000: (60, 300), 300_000: (40, 120)}


@pytest.fixture(autouse=True)
def compiled() -> None:
    """The pure code makes more calls, and has no ceiling."""
    pytest.importorskip("schemas._native")


def calls_per_frame(size: int) -> float:
    """What one more frame costs: the beginning and the end of a capture are left out."""
    few, many = LENGTHS[size]
    take(size, 1)  # what is made once per process
    return (calls(size, many) - calls(size, few)) / (many - few)


@pytest.mark.parametrize("size", CEILINGS)
def test_a_frame_costs_no_more_calls_than_it_did(size: int) -> None:
    """From the socket's bytes through decoder, core, buffer and forwarder to `null:`."""
    assert 20 < calls_per_frame(size) <= CEILINGS[size]


def test_the_guard_sees_metadata_that_takes_the_long_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A guard that cannot fail is none. Bytes are not read by the reader made for metadata."""
    monkeypatch.setattr(reader, "parse_input", lambda text: parse_input(text.encode()))
    assert calls_per_frame(1_000) > CEILINGS[1_000]

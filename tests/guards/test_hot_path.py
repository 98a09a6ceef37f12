"""The cost of a frame may not grow unseen: counted in calls, which no clock disturbs."""

from __future__ import annotations

import pytest

import cfw.routes.router as router
from schemas import parse_input
from tests.guards.hot_path import calls, take

#: Calls of Python and C functions for one frame, by its size, with a tenth to spare over what
#: it was on CPython 3.11. Whoever makes the path shorter lowers them; a higher one needs a
#: reason in its commit.
CEILINGS = {1_000: 154, 30_000: 183, 300_000: 417}
#: Frames of a short and of a long capture: many reads, so that where one ends counts little.
LENGTHS = {1_000: (300, 1_500), 30_000: (60, 300), 300_000: (40, 120)}


def calls_per_frame(size: int) -> float:
    """What one more frame costs: the beginning and the end of a capture are left out."""
    few, many = LENGTHS[size]
    take(size, 1)  # what is made once per process
    return (calls(size, many) - calls(size, few)) / (many - few)


@pytest.mark.parametrize("size", CEILINGS)
def test_a_frame_costs_no_more_calls_than_it_did(size: int) -> None:
    """From the socket's bytes through decoder, core, buffer and forwarder to `null:`."""
    assert 20 < calls_per_frame(size) <= CEILINGS[size]


def test_the_guard_sees_metadata_parsed_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A guard that cannot fail is none."""

    def parse_twice(text: str | bytes) -> object:
        parse_input(text)
        return parse_input(text)

    monkeypatch.setattr(router, "parse_input", parse_twice)
    assert calls_per_frame(1_000) > CEILINGS[1_000]

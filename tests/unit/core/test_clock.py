"""The offset of a rig's clock, from what a rig writes and when it is read."""

from __future__ import annotations

import attrs
from hypothesis import given
from hypothesis import strategies as st

from cfw.routes.clock import ClockOffset, RigClock
from schemas import Timestamp
from tests.factories import SECOND, START_NS

MS = 1_000_000


@attrs.frozen
class Said:
    """One message: made `at_ns` of true time, read `delay_ns` later."""

    at_ns: int
    delay_ns: int
    is_rounded: bool
    drops_zeros: bool


MESSAGES = st.lists(
    st.builds(
        Said,
        at_ns=st.integers(0, 15 * SECOND),
        delay_ns=st.integers(0, 30 * SECOND),
        is_rounded=st.booleans(),
        drops_zeros=st.booleans(),
    ),
    min_size=1,
    max_size=8,
)


def written(clock_ns: int, digits: int, said: Said) -> Timestamp:
    """What a rig writes when its clock shows this, with so many digits of a second."""
    step = 10 ** (9 - digits)
    late = step // 2 if said.is_rounded else 0
    text = Timestamp.from_ns((clock_ns + late) // step * step).text
    clock, _, fraction = text[:-1].partition(".")
    fraction = fraction[:digits]
    if said.drops_zeros:
        fraction = fraction.rstrip("0")
    return Timestamp.parse(f"{clock}.{fraction}Z" if fraction else f"{clock}Z")


def told(
    messages: list[Said], offset_ns: int, digits: int, round_trip_ns: int | None
) -> ClockOffset:
    """What is found from these messages of a rig whose clock is so far ahead."""
    clock = RigClock()
    for said in messages:
        made = START_NS + said.at_ns
        clock.note(written(made + offset_ns, digits, said), made + said.delay_ns)
    found = clock.offset(round_trip_ns)
    assert found is not None
    return found


OFFSETS = st.integers(-(10**6) * SECOND, 10**6 * SECOND)
DIGITS = st.sampled_from([0, 3, 6, 9])


@given(MESSAGES, OFFSETS, DIGITS, st.integers(0, SECOND))
def test_the_true_offset_lies_in_the_interval(
    messages: list[Said], offset_ns: int, digits: int, slower_ns: int
) -> None:
    """Whatever the delays, as long as the fastest message took at most a round trip."""
    round_trip_ns = min(said.delay_ns for said in messages) + slower_ns
    found = told(messages, offset_ns, digits, round_trip_ns)
    assert found.max_ns is not None
    assert found.min_ns <= offset_ns <= found.max_ns


@given(MESSAGES, OFFSETS, DIGITS)
def test_the_lower_end_needs_no_round_trip(
    messages: list[Said], offset_ns: int, digits: int
) -> None:
    """It holds for any delays; there is no upper end then."""
    found = told(messages, offset_ns, digits, None)
    assert found.max_ns is None
    assert found.min_ns <= offset_ns


@given(MESSAGES, OFFSETS, st.integers(0, SECOND))
def test_the_interval_is_no_wider_than_what_is_not_known(
    messages: list[Said], offset_ns: int, round_trip_ns: int
) -> None:
    """Its width is the round trip and one and a half steps of the text."""
    exact = [attrs.evolve(said, drops_zeros=False) for said in messages]
    for digits, step in ((9, 1), (3, MS), (0, SECOND)):
        found = told(exact, offset_ns, digits, round_trip_ns)
        assert found.max_ns is not None
        assert found.max_ns - found.min_ns == round_trip_ns + step + step // 2


def test_a_message_that_waited_changes_nothing() -> None:
    """The fastest one counts, wherever it comes."""
    clock = RigClock()
    quick = Timestamp.from_ns(START_NS + 3 * SECOND)
    found = []
    for waited in (2 * SECOND, 10 * MS, SECOND):
        clock.note(quick, START_NS + waited)
        found.append(clock.offset(20 * MS))
    assert found[1] == ClockOffset(2990 * MS, 3010 * MS + 1)
    assert found[2] == found[1]
    assert found[0] == ClockOffset(SECOND, SECOND + 20 * MS + 1)


def test_the_step_of_the_text_widens_the_interval() -> None:
    """Whole seconds say less than milliseconds, also when both are read at once."""
    found = []
    for text in ("2026-05-04T10:20:30Z", "2026-05-04T10:20:30.000Z"):
        clock = RigClock()
        clock.note(Timestamp.parse(text), START_NS)
        found.append(clock.offset(0))
    assert found == [ClockOffset(-SECOND // 2, SECOND), ClockOffset(-MS // 2, MS)]


def test_a_dropped_zero_is_no_coarser_clock() -> None:
    """One text in a million has no fraction because it would be zero; its rig is no worse."""
    clock = RigClock()
    clock.note(Timestamp.parse("2026-05-04T10:20:29.999999Z"), START_NS)
    clock.note(Timestamp.parse("2026-05-04T10:20:30Z"), START_NS)
    assert clock.offset(0) == ClockOffset(-500, 1000)


def test_nothing_is_known_before_the_first_message() -> None:
    """No message, no figure, even with a round trip."""
    assert RigClock().offset(5) is None


def test_the_fields_are_milliseconds_rounded_outwards() -> None:
    """A microsecond is kept; no end moves inwards."""
    assert ClockOffset(-1_500_001, 1_500_001).fields == {
        "clock_offset_min_ms": -1.501,
        "clock_offset_max_ms": 1.501,
    }
    assert ClockOffset(1_500_999, 2_000_000).fields == {
        "clock_offset_min_ms": 1.5,
        "clock_offset_max_ms": 2.0,
    }
    assert ClockOffset(0, None).fields == {"clock_offset_min_ms": 0.0}


def test_clocks_of_the_year_1_and_9999_are_only_far_off() -> None:
    """`timestamp` is held against no clock, so any year may come."""
    for text in ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999Z"):
        clock = RigClock()
        clock.note(Timestamp.parse(text), START_NS)
        found = clock.offset(0)
        assert found is not None
        assert (found.min_ns > 0) is (text > "2026")
        assert all(abs(value) > 1e13 for value in found.fields.values())

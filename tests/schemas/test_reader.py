"""Frame metadata, which has a reader of its own: it takes what its class takes."""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import CaptureFrameMeta, SchemaError, parse_input
from tests.factories import meta_fields

EXAMPLES = int(os.environ.get("CFW_FUZZ_EXAMPLES", "100"))
FIELDS = [field.name for field in attrs.fields(CaptureFrameMeta)]
NAMES = [*FIELDS, "annotation", "unknown"]
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-1, 300_001),
    st.floats(allow_nan=False),
    st.text(max_size=3),
    st.sampled_from(
        [
            "1.0.0",
            "2.0.0",
            "2026-05-04T10:20:30Z",
            "2026-05-04T10:20:30.123456789+02:00",
            "2026-13-04T10:20:30Z",
            "00000000-0000-0000-0000-00000000000A",
            "gesture",
            "x" * 128,
            "x" * 129,
            "capture.frame_meta",
        ]
    ),
    st.lists(st.integers(), max_size=1),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=1),
)


@pytest.mark.fuzz
@settings(max_examples=EXAMPLES, deadline=None)
@given(
    changed=st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=3),
    missing=st.sets(st.sampled_from(NAMES), max_size=1),
)
def test_it_takes_what_the_validators_take_and_nothing_else(
    changed: dict[str, Any], missing: set[str]
) -> None:
    """Any field replaced or left out: the message the class makes, or its refusal."""
    fields = meta_fields(**changed)
    fields = {name: value for name, value in fields.items() if name not in missing}
    fields["event"] = "capture.frame_meta"
    expected = None
    if "annotation" not in fields:
        with contextlib.suppress(SchemaError, TypeError):  # TypeError: a field is missing
            expected = CaptureFrameMeta(**{n: v for n, v in fields.items() if n in FIELDS})
    if expected is None:
        with pytest.raises(SchemaError):
            parse_input(json.dumps(fields))
    else:
        assert parse_input(json.dumps(fields)) == expected


def test_what_it_makes_is_frozen_and_complete() -> None:
    """A message made by it is like any other."""
    message = parse_input(json.dumps(meta_fields()))
    assert isinstance(message, CaptureFrameMeta)
    assert (message.modality, message.event) == (None, "capture.frame_meta")
    with pytest.raises(AttributeError):
        message.seq = 2  # type: ignore[misc]

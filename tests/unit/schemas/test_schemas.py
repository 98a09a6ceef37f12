"""Messages: strict types, named faults, and JSON Schema that agrees with the classes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

import schemas
from schemas import (
    CaptureAbort,
    CaptureOpen,
    ErrorCode,
    FeedAbort,
    FeedClose,
    FeedFrame,
    FeedOpened,
    SchemaError,
    Timestamp,
    check_field,
    json_schemas,
    parse_feed,
    parse_input,
    parse_output,
    restate,
    to_dict,
    to_json,
)
from tests.factories import (
    at,
    close_fields,
    header,
    make_close,
    make_meta,
    make_open,
    meta_fields,
    open_fields,
)

BUILDERS = {"open": open_fields, "meta": meta_fields, "close": close_fields}
REQUIRED = ("schema_version", "record_id", "user_id", "capture_id", "timestamp", "event")
REQUIRED_BY_EVENT = {
    "open": ("session_id", "timestamp_start", "fps_target", "width", "height", "encoding"),
    "meta": ("seq", "timestamp_frame", "byte_length"),
    "close": ("timestamp_end",),
}
OPTIONAL = {"modality": "gesture", "source": "webcam", "performer_id": "p-7", "session_id": "s"}
VALIDATORS = {name: Draft202012Validator(schema) for name, schema in json_schemas().items()}


def is_valid(fields: dict[str, Any]) -> bool:
    """What the JSON Schema says of an input message."""
    valid: bool = VALIDATORS["CameraFeedWorkerInput"].is_valid(fields)
    return valid


@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
def test_a_message_survives_the_round_trip(build: Callable[..., dict[str, Any]]) -> None:
    """What was parsed is written as it came, optional fields and all."""
    for fields in (build(), build(**OPTIONAL)):
        assert to_dict(parse_input(json.dumps(fields))) == fields
        assert json.loads(to_json(parse_input(json.dumps(fields)))) == fields
        assert is_valid(fields)


@pytest.mark.parametrize(
    ("event", "name"),
    [(event, name) for event in BUILDERS for name in (*REQUIRED, *REQUIRED_BY_EVENT[event])],
)
def test_required_fields_by_event(event: str, name: str) -> None:
    """Each required field is missed by name, and null is no value for it."""
    fields = BUILDERS[event]()
    for wrong in ({k: v for k, v in fields.items() if k != name}, fields | {name: None}):
        with pytest.raises(SchemaError) as caught:
            parse_input(json.dumps(wrong))
        assert caught.value.path == name
        assert not is_valid(wrong)


@pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)
def test_optional_fields_may_be_null_and_unknown_ones_anything(
    build: Callable[..., dict[str, Any]],
) -> None:
    """A rig may write null for what it does not know; a newer MINOR may add fields."""
    fields = build(modality=None, source=None, schema_version="1.99.3", invented=[{"deep": 1}])
    parse_input(json.dumps(fields))
    assert is_valid(fields)


@pytest.mark.parametrize("event", BUILDERS)
def test_null_means_absent_in_every_optional_field_of_any_event(event: str) -> None:
    """A client may write out one class that covers all messages, `annotation` included."""
    fields = BUILDERS[event]()
    names = [name for build in BUILDERS.values() for name in build(**OPTIONAL)]
    all_of_them = dict.fromkeys([*names, "annotation"]) | fields
    assert parse_input(json.dumps(all_of_them)) == parse_input(json.dumps(fields))
    assert is_valid(all_of_them)


def test_null_means_absent_in_what_the_worker_says() -> None:
    """Whoever reads the feed or an abort may be told null by a worker of another make."""
    abort = header(event="capture.abort", error_code="forward_failed")
    counts = {"frames_accepted": 1, "bytes_accepted": 2}
    counts |= {"frames_forwarded": 0, "bytes_forwarded": 0}
    ended = {"timestamp_ingest": at(1), **counts}
    for parse, fields in (
        (parse_output, abort),
        (parse_feed, abort | ended),
        (parse_feed, close_fields() | ended),
        (parse_feed, open_fields(event="capture.opened", timestamp_ingest=at(1))),
        (parse_feed, meta_fields(event="capture.frame", timestamp_ingest=at(1))),
    ):
        message: Any = parse(json.dumps(fields))
        optional = [f.name for f in attrs.fields(type(message)) if f.default is None]
        assert "session_id" in optional or "annotation" in optional
        nulls = dict.fromkeys(optional) | fields
        assert parse(json.dumps(nulls)) == message


@pytest.mark.parametrize("event", ["meta", "close"])
def test_annotation_is_forbidden_behind_open(event: str) -> None:
    """The annotation is fixed at capture.open."""
    wrong = BUILDERS[event](annotation={"intent": "wave"})
    with pytest.raises(SchemaError, match="annotation: is not allowed in"):
        parse_input(json.dumps(wrong))
    assert not is_valid(wrong)


NOT_INTS = ["15", 15.0, 15.7, True, False, None, [15], {"n": 15}, 0, -1, 1e300, 10**30]
NOT_TEXTS = [7, True, ["ada"], {}, "", "x" * 129]
NOT_IDS = ["", "x" * 129, "a b", "ümlaut", "a/b", "a\n", 7]
NOT_TIMES = [
    1_777_890_030,
    1.5,
    "1777890030",
    "20260504T102030Z",
    "2026-05-04",
    "2026-05-04 10:20:30Z",
    "2026-05-04T10:20Z",
    "2026-05-04T25:20:30Z",
    "2026-02-30T10:20:30Z",
    "2026-05-04T10:20:30+25:00",
    "2026-05-04T10:20:30.Z",
    "2026-05-04T10:20:30Z\n",
    "\u0662026-05-04T10:20:30Z",
    "",
    True,
]
NOT_UUIDS = [
    "",
    "6f9619ff8b864011b42d00c04fc964ff",
    "{6f9619ff-8b86-4011-b42d-00c04fc964ff}",
    7,
]
NOT_ANNOTATIONS: list[object] = ["wave", {}, {"intent": 1}, {"intent": None}, []]
NOT_VERSIONS = ["1", "1.0", "1.0.0.0", "2.0.0", "0.1.0", "1.00.0", "1.0.0-rc1", "1.\u0660.0", 1]
#: JSON Schema knows one kind of number (15.0 is 15) and no calendar, and the regular
#: expressions of this validator let a pattern end before a line feed.
BEYOND_JSON_SCHEMA = (
    *(15.0, 1.0, 1e300, 10**30),
    *("2026-05-04T25:20:30Z", "2026-02-30T10:20:30Z", "2026-05-04T10:20:30+25:00"),
    *("2026-05-04T10:20:30Z\n", "a\n"),
)
WRONG: list[tuple[str, str, Any]] = [
    *[("open", name, v) for name in ("fps_target", "width", "height") for v in NOT_INTS],
    *[("meta", "byte_length", v) for v in NOT_INTS],
    *[("meta", "seq", v) for v in ("1", 1.0, True, None)],
    *[("open", name, v) for name in ("user_id", "session_id") for v in NOT_TEXTS],
    *[("meta", "session_id", v) for v in NOT_TEXTS],
    *[("close", "capture_id", v) for v in NOT_IDS],
    *[("meta", "timestamp_frame", v) for v in NOT_TIMES],
    *[("close", "timestamp", v) for v in NOT_TIMES],
    *[("open", "record_id", v) for v in NOT_UUIDS],
    *[("close", "schema_version", v) for v in NOT_VERSIONS],
    *[("open", "encoding", v) for v in ("png", "JPEG", "", 1, None)],
    *[("open", "modality", v) for v in ("smell", "", 1, ["image"])],
    *[("open", "annotation", v) for v in NOT_ANNOTATIONS],
    *[("open", "event", v) for v in ("capture.opened", "", 1, None, ["capture.open"])],
]


@pytest.mark.parametrize(("event", "name", "value"), WRONG)
def test_a_wrong_value_is_refused_by_name(event: str, name: str, value: object) -> None:
    """The error names the field and shows what it was; JSON Schema refuses it too."""
    wrong = BUILDERS[event](**{name: value})
    with pytest.raises(SchemaError) as caught:
        parse_input(json.dumps(wrong))
    assert caught.value.path == name
    assert len(str(caught.value)) < 250
    if value not in BEYOND_JSON_SCHEMA:
        assert not is_valid(wrong)


@pytest.mark.parametrize("length", [1, 128])
def test_ids_may_have_1_to_128_characters(length: int) -> None:
    """The lengths at the limits are allowed, for any characters in user and session."""
    make_open(user_id="ü" * length, session_id="☃" * length, capture_id="c" * length)


@pytest.mark.parametrize("length", [0, 1, 128, 129])
@pytest.mark.parametrize("name", ["user_id", "session_id", "capture_id"])
def test_a_rule_can_be_asked_before_there_is_a_message(name: str, length: int) -> None:
    """For a list of sessions, a file of tokens, a query: the answer is the message's own."""
    with pytest.raises(SchemaError) if length in (0, 129) else nullcontext() as caught:
        check_field(CaptureOpen, name, "c" * length)
    if caught is not None:
        with pytest.raises(SchemaError, match=f"^{re.escape(str(caught.value))}$"):
            make_open(**{name: "c" * length})


@pytest.mark.parametrize("text", ["\udcff", "ada\ud800", "\udfffü"])
def test_half_of_a_character_is_no_name(text: str) -> None:
    """Python makes it of a command line that is no text; no JSON could hold it."""
    with pytest.raises(SchemaError, match="user_id: must be Unicode text"):
        check_field(CaptureOpen, "user_id", text)
    make_open(user_id="\ud7ff\ue000\U00010000")


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "",
        "null",
        "[]",
        '"capture.open"',
        "7",
        '{"event": "capture.open", "fps_target": NaN}',
        '{"event": "capture.open", "fps_target": Infinity}',
        '{"event": "capture.open", "fps_target": ' + "9" * 5000 + "}",
        '{"a":' * 5000,
        '{"event": "\\ud800"}',
        b"\xff\xfe",
    ],
)
def test_what_is_no_json_object_is_one_clear_error(text: str | bytes) -> None:
    """NaN, huge integers, deep nesting, lone surrogates and bad UTF-8 are no messages."""
    with pytest.raises(SchemaError, match="JSON"):
        parse_input(text)


@pytest.mark.fuzz
@given(
    st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists, max_leaves=5)
)
def test_any_value_in_any_field_gives_a_message_or_a_schema_error(value: object) -> None:
    """Nothing else is ever raised, whatever a field holds; what passes passes the schema."""
    for event, build in BUILDERS.items():
        for name in (*REQUIRED, *REQUIRED_BY_EVENT[event], *OPTIONAL, "annotation"):
            fields = build(**{name: value})
            try:
                parse_input(json.dumps(fields))
            except SchemaError:
                continue
            assert is_valid(fields)


# --- time -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00", 0),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-01T01:00:00+01", 0),
        ("1970-01-01T00:00:00-00:30", 1800 * 10**9),
        ("1970-01-01T00:00:00,5Z", 5 * 10**8),
        ("1970-01-01T00:00:00.000000001Z", 1),
        ("1970-01-01T00:00:00.0000000019Z", 1),
        ("1969-12-31T23:59:59.9Z", -(10**8)),
        ("2026-05-04T12:20:30.123456789+02:00", 1_777_890_030_123_456_789),
    ],
)
def test_instants_are_read_to_the_nanosecond(text: str, ns: int) -> None:
    """The text is kept as written; without an offset it is UTC."""
    assert attrs.astuple(Timestamp.parse(text)) == (text, ns)


@pytest.mark.parametrize(
    ("fraction", "step_ns"),
    [
        ("", 10**9),
        (".0", 10**8),
        (".123", 10**6),
        (",123456", 1000),
        (".123456789", 1),
        (".123456789012345678", 1),
    ],
)
@pytest.mark.parametrize("zone", ["", "Z", "+02:00"])
def test_the_step_of_an_instant_is_that_of_its_last_digit(
    fraction: str, step_ns: int, zone: str
) -> None:
    """The offset has no part in it; digits beyond the ninth are cut."""
    assert Timestamp.parse(f"2026-05-04T10:20:30{fraction}{zone}").step_ns == step_ns


@pytest.mark.fuzz
@given(st.integers(-(10**18), 10**19))
def test_an_instant_written_reads_back(ns: int) -> None:
    """Nanoseconds to text and back is the same instant."""
    assert Timestamp.parse(Timestamp.from_ns(ns).text).ns == ns


def test_a_datetime_is_a_timestamp_too() -> None:
    """A rig may give a datetime; a naive one is UTC."""
    zone = timezone(timedelta(hours=2))
    aware = make_close(timestamp_end=datetime(2026, 5, 4, 12, 20, 30, tzinfo=zone).isoformat())
    assert aware.timestamp_end.text == "2026-05-04T12:20:30+02:00"
    made = attrs.evolve(aware, timestamp_end=datetime(2026, 5, 4, 10, 20, 30, 5, UTC))
    assert made.timestamp_end.text == "2026-05-04T10:20:30.000005+00:00"
    assert Timestamp.from_datetime(datetime(1970, 1, 1)).ns == 0


# --- output and feed ------------------------------------------------------------------------

COUNTS = {
    "frames_accepted": 3,
    "bytes_accepted": 30,
    "frames_forwarded": 2,
    "bytes_forwarded": 20,
}


def test_output_and_feed_round_trip_and_fit_their_schemas() -> None:
    """An abort and each message of the feed parse back to what was written."""
    abort = CaptureAbort(
        **(header() | {"error_code": "limit_fps_exceeded", "observed": 60, "limit": 15.5})
    )
    assert parse_output(to_json(abort)) == abort
    VALIDATORS["CameraFeedWorkerOutput"].validate(to_dict(abort))
    now = Timestamp.parse(at(1))
    feed: list[schemas.CameraFeedWorkerFeed] = [
        restate(make_open(annotation={"intent": "wave"}), FeedOpened, timestamp_ingest=now),
        restate(make_meta(), FeedFrame, timestamp_ingest=now),
        restate(make_close(), FeedClose, timestamp_ingest=now, **COUNTS),
        restate(
            make_close(), FeedClose, timestamp_ingest=now, clock_offset_min_ms=-0.5, **COUNTS
        ),
        restate(
            make_open(),
            FeedAbort,
            timestamp_ingest=now,
            error_code=ErrorCode.CLIENT_DISCONNECTED,
            clock_offset_min_ms=2990.001,
            clock_offset_max_ms=3010,
            **COUNTS,
        ),
    ]
    for message in feed:
        assert parse_feed(to_json(message)) == message
        VALIDATORS["CameraFeedWorkerFeed"].validate(to_dict(message))
    assert to_dict(feed[1])["event"] == "capture.frame"
    assert "clock_offset_min_ms" not in to_dict(feed[2])
    assert "clock_offset_max_ms" not in to_dict(feed[3])
    for text in (to_json(feed[0]), to_json(make_meta())):
        with pytest.raises(SchemaError, match="event"):
            parse_output(text)


def test_the_schemas_are_schemas() -> None:
    """Each direction is a valid JSON Schema with a title and every event once."""
    for name, schema in json_schemas().items():
        Draft202012Validator.check_schema(schema)
        assert schema["title"] == name
        assert hasattr(schemas, name)
        assert len(schema["oneOf"]) == len(schema["$defs"])

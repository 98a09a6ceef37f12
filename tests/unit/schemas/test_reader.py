"""Frame metadata, which has a reader of its own: it takes what the long way takes.

`parse_input` shows text alone to the reader. Bytes go the long way, by cattrs and the rules, so
a text and its bytes compare the two. Where nothing is compiled both go the long way, of which
all of this holds too; what holds of the reader alone is at the end.
"""

from __future__ import annotations

import json
import re
import tracemalloc
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import CaptureFrameMeta, SchemaError, Timestamp, parse_input
from tests.factories import meta_fields
from tests.profiled import Profiled

FIELDS = [field.name for field in attrs.fields(CaptureFrameMeta)]
OPTIONAL = {"session_id": "s-1", "modality": "image", "source": "webcam", "performer_id": "p-7"}


def answer(text: str | bytes) -> tuple[object, ...]:
    """The message with the types of its values, or why there is none."""
    try:
        message = parse_input(text)
    except SchemaError as exc:
        return exc.path, exc.problem
    return message, repr(message)


def check_both_ways(text: str) -> None:
    """The short way and the long way give the same message or the same refusal."""
    assert answer(text) == answer(text.encode())


def meta_text(**fields: Any) -> str:
    return json.dumps(meta_fields() | fields)


# --- any text -------------------------------------------------------------------------------

INSTANTS = st.from_regex(
    r"\A(1[67]|19|20|2[12]|[0-9]{2})[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9]"
    r"([.,][0-9]{1,19})?(Z|[+-][0-2][0-9](:?[0-6][0-9])?)?\Z",
)
TEXTS = st.sampled_from(
    [
        *("", "ada", "ümlaut", "☃", "😀", "a b", "a\\b", 'a"b', "a\nb", "a\0b", "\x7f"),
        *("x" * 63, "x" * 64, "x" * 65, "x" * 128, "x" * 129, "ü" * 128),
        *("1.0.0", "1.99.3", "1.01.0", "2.0.0", "gesture", "smell"),
        *("capture.frame_meta", "capture.open", "capture.close"),
        *("6f9619ff-8B86-4011-b42d-00C04fc964ff", "6f9619ff-8b86-4011-b42d-00c04fc964fg"),
        *("6f9619ff-8b86-4011-b42d-00c04fc964f", "6f9619ff-8b86-4011-b42d-00c04fc964ff0"),
    ]
)
#: JSON as it is written: what numbers and escapes look like matters here.
RAW = st.one_of(
    st.sampled_from(
        [
            *(
                "0",
                "-0",
                "1",
                "-1",
                "01",
                "-01",
                "+1",
                "1.",
                ".5",
                "1.0",
                "1.5",
                "1e3",
                "1E400",
            ),
            *("-", "--1", "0x1", "1_0", "NaN", "Infinity", "9" * 17, "9" * 18, "1" + "0" * 18),
            *(str(2**63 - 1), str(2**63), str(2**64), "-" + "9" * 18, "0." + "1" * 19, "0.1"),
            *("true", "false", "null", "tru", "nullx", "True", "None", ""),
            *(
                "{}",
                "[]",
                '{"a":[1,{"b":"]}"}]}',
                "[1,]",
                "[",
                "[}",
                '{"a"}',
                '["\\x"]',
                "[\0]",
            ),
            *(r'"\u0061da"', r'"\ud83d\ude00"', r'"\ud800"', r'"\x"', r'"\u12"', '"\\', '"a'),
            *("[" * 99 + "]" * 99, "[" * 102 + "]" * 102, "'ada'", '"a" "b"', "1 2"),
        ]
    ),
    st.builds(json.dumps, INSTANTS | TEXTS | st.text(max_size=5)),
    st.builds(json.dumps, st.text(max_size=5), ensure_ascii=st.just(False)),
    st.builds(json.dumps, st.integers() | st.floats()),
)
NAMES = st.sampled_from([*FIELDS, "annotation", "unknown", "", "seqs", "se", "ü", "SEQ", "a\\"])
SPACE = st.sampled_from(["", "", "", "", " ", "\n", "\t\r ", "\x0b", "\xa0", ","])


@st.composite
def metas(draw: st.DrawFn) -> str:
    """Metadata with some of it changed, as JSON text that may be none any more."""
    pairs = [(json.dumps(n), json.dumps(v)) for n, v in meta_fields(**OPTIONAL).items()]
    pairs = draw(st.permutations(pairs))[draw(st.sampled_from([0, 0, 0, 1])) :]
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(pairs) - 1))
        name = draw(st.just(pairs[at][0]) | st.builds(json.dumps, NAMES))
        if draw(st.booleans()):
            pairs.insert(at, (name, draw(RAW)))
        else:
            pairs[at] = (name, draw(RAW))
    tokens = [token for name, value in pairs for token in (",", name, ":", value)]
    tokens = ["{", *tokens[1:], "}"]
    if draw(st.booleans()):
        tokens = [part for token in tokens for part in (draw(SPACE), token)]
    text = "".join(tokens)
    if draw(st.booleans()):
        at, upto = draw(st.integers(0, len(text))), draw(st.integers(0, 2))
        text = text[:at] + draw(st.text(max_size=2)) + text[at + upto :]
    return text


@pytest.mark.fuzz
@given(metas())
def test_changed_metadata_is_answered_as_the_long_way_answers(text: str) -> None:
    """Fields dropped, doubled, renamed and rewritten, odd spaces, stray characters."""
    check_both_ways(text)


@pytest.mark.fuzz
@given(st.text() | st.text(alphabet='{}[]",:\\ \0019e-.tnul'))
def test_any_text_is_answered_as_the_long_way_answers(text: str) -> None:
    """Text that has nothing to do with a message is no exception."""
    check_both_ways(text)


@pytest.mark.fuzz
@given(changed=st.dictionaries(NAMES, RAW, max_size=3), missing=st.sets(NAMES, max_size=1))
def test_it_takes_what_the_class_takes(changed: dict[str, str], missing: set[str]) -> None:
    """The class is a third witness, beside the short way and the long one."""
    written = {name: json.dumps(value) for name, value in meta_fields().items()} | changed
    written = {name: raw for name, raw in written.items() if name not in missing}
    text = "{" + ",".join(f"{json.dumps(n)}:{raw}" for n, raw in written.items()) + "}"
    message, *_ = answer(text)
    try:
        fields = json.loads(text)
    except ValueError:
        assert isinstance(message, str)
        return
    if isinstance(message, CaptureFrameMeta):
        assert message == CaptureFrameMeta(**{n: v for n, v in fields.items() if n in FIELDS})
        assert fields["event"] == "capture.frame_meta"
        assert fields.get("annotation") is None


def test_every_beginning_and_every_stray_character_is_answered_as_the_long_way_does() -> None:
    """Wherever a text ends, and whatever stands in place of any of its characters."""
    text = meta_text(**OPTIONAL, unknown=[{"deep": "]"}, 1.5, None])
    text = text.replace('"ada"', '"ad\\u0061"')
    for at in range(len(text)):
        check_both_ways(text[:at])
        for stray in '\0\x1f "\\,:{}[]-0.eG\x7fü☃':
            check_both_ways(text[:at] + stray + text[at + 1 :])
            check_both_ways(text[:at] + stray + text[at:])


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("first", [False, True])
def test_of_a_name_that_is_there_twice_the_last_value_counts(name: str, first: bool) -> None:
    """A wrong value is refused behind a right one and overwritten in front of one."""
    fields = meta_fields(**OPTIONAL)
    pairs = [*fields.items()]
    other = meta_fields(2, 300, **dict.fromkeys(OPTIONAL))[name]
    for value in ([1], other):
        doubled = [*pairs]
        doubled.insert(0 if first else len(pairs), (name, value))
        text = ",".join(f"{json.dumps(n)}:{json.dumps(v)}" for n, v in doubled)
        check_both_ways("{" + text + "}")


@pytest.mark.parametrize(
    "value",
    [{"intent": "wave"}, {}, "wave", "", "null", 0, 1, False, "2026-05-04T10:20:30Z"],
)
def test_what_is_forbidden_is_refused_whatever_it_holds(value: object) -> None:
    """At the beginning as at the end, and whatever is false in Python."""
    fields = meta_fields()
    for wrong in (fields | {"annotation": value}, {"annotation": value} | fields):
        check_both_ways(json.dumps(wrong))
        with pytest.raises(SchemaError, match="annotation: is not allowed"):
            parse_input(json.dumps(wrong))


@pytest.mark.parametrize("number", ["-01", "01", "-0", "00", "-00", "-", "+1", "1 1", "-1x"])
@pytest.mark.parametrize("name", ["seq", "byte_length"])
def test_an_integer_is_written_as_json_has_it(number: str, name: str) -> None:
    """No zero in front of another digit, with a minus either, and no plus."""
    text = meta_text(**{name: "here"}).replace('"here"', number)
    check_both_ways(text)
    if number != "-0":
        with pytest.raises(SchemaError, match="JSON"):
            parse_input(text)


def test_null_means_absent_where_a_field_is_forbidden() -> None:
    """It is as if it were not there; of a name that is there twice the last value counts."""
    fields = meta_fields(**dict.fromkeys(OPTIONAL))
    expected = parse_input(json.dumps({n: v for n, v in fields.items() if n not in OPTIONAL}))
    for text in (
        json.dumps(fields | {"annotation": None}),
        json.dumps({"annotation": None} | fields),
        json.dumps(fields)[:-1] + ', "annotation": {"intent": "wave"}, "annotation": null}',
    ):
        check_both_ways(text)
        assert parse_input(text) == expected
    for wrong in ("nul", "nulll", "null null", "NULL"):
        check_both_ways(json.dumps(fields)[:-1] + f', "annotation": {wrong}}}')


@pytest.mark.parametrize(
    "number", [0, 1, 2, 10**18 - 1, 10**18, 2**63 - 1, 2**63, 95 * 10**17, 2**64]
)
@pytest.mark.parametrize("sign", ["", "-"])
@pytest.mark.parametrize("name", ["seq", "byte_length"])
def test_integers_are_the_same_at_the_limits_of_machine_words(
    number: int, sign: str, name: str
) -> None:
    """None, one, 18 digits, 19 digits, 64 bits and beyond."""
    text = meta_text(**{name: "here"})
    check_both_ways(text.replace('"here"', f"{sign}{number}"))


@pytest.mark.parametrize("length", [0, 1, 63, 64, 65, 127, 128, 129, 65_536])
@pytest.mark.parametrize("character", ["x", "ü", "😀", "\\", "\n"])
def test_texts_of_any_length_follow_their_rule(length: int, character: str) -> None:
    """The same text is right or wrong the second time as it was the first."""
    for name in ("user_id", "source", "unknown"):
        for plain in (True, False):
            fields = meta_fields(**{name: character * length})
            for _ in range(2):
                check_both_ways(json.dumps(fields, ensure_ascii=plain))


@pytest.mark.parametrize("depth", [1, 99, 100, 101, *range(1_020, 1_028), 5_000])
def test_what_is_ignored_may_be_as_deep_as_the_decoder_allows(depth: int) -> None:
    """The object around it counts too; nothing that is deeper is taken."""
    for inner in ("[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth):
        check_both_ways(meta_text(unknown="here").replace('"here"', inner))


def test_a_text_that_is_right_for_one_field_is_not_right_for_another() -> None:
    """`a b` may be a user and may not be a capture."""
    parse_input(meta_text(user_id="a b", source="smell"))
    for wrong in ({"capture_id": "a b"}, {"modality": "smell"}):
        with pytest.raises(SchemaError):
            parse_input(meta_text(**wrong))


@pytest.mark.parametrize("text", ["\ud800", '{"event": "\ud800"}', meta_text()[:-1] + "\udfff"])
def test_half_of_a_surrogate_pair_is_no_json(text: str) -> None:
    """It has no UTF-8; the reader does not stumble over it."""
    with pytest.raises(SchemaError, match="is not JSON"):
        parse_input(text)


def test_what_it_makes_is_frozen_and_complete() -> None:
    """A message made by it is like any other."""
    message = parse_input(meta_text())
    assert isinstance(message, CaptureFrameMeta)
    assert (message.modality, message.event) == (None, "capture.frame_meta")
    assert message == attrs.evolve(message)
    assert hash(message) == hash(attrs.evolve(message))
    with pytest.raises(AttributeError):
        message.seq = 2  # type: ignore[misc]


# --- instants -------------------------------------------------------------------------------


def check_instant(text: str) -> None:
    """Metadata has the instant that `Timestamp.parse` reads, or is refused if it refuses."""
    fields = meta_text(timestamp=text, timestamp_frame=text)
    try:
        expected = Timestamp.parse(text)
    except ValueError as exc:
        problem = f"is {exc}"
    else:
        problem = ""
        message = parse_input(fields)
        assert isinstance(message, CaptureFrameMeta)
        for instant in (message.timestamp, message.timestamp_frame):
            assert type(instant) is Timestamp
            assert attrs.astuple(instant) == attrs.astuple(expected)
            assert type(instant.ns) is int
    if problem:
        assert answer(fields) == ("timestamp", problem)


@pytest.mark.fuzz
@given(INSTANTS | st.text(max_size=30))
def test_instants_are_those_of_timestamp_parse(text: str) -> None:
    """Any text of the form, and any other."""
    check_instant(text)


@pytest.mark.fuzz
@given(st.datetimes(), st.timezones() | st.none(), st.sampled_from([".", ","]))
def test_every_datetime_is_read_alike(when: Any, zone: Any, separator: str) -> None:
    """Every year that Python knows, with every offset that a zone has had."""
    check_instant(when.replace(tzinfo=zone).isoformat().replace(".", separator))


def days() -> Iterator[str]:
    """The days around the ends of months, in years of every kind."""
    for year in (0, 1, 1582, 1699, 1700, 1900, 1969, 1970, 2000, 2026, 2028, 2100, 2199, 2200):
        for month in range(14):
            for day in (0, 1, 28, 29, 30, 31, 32):
                yield f"{year:04d}-{month:02d}-{day:02d}"
    yield from ("9999-12-31", "2261-12-31", "2262-12-31")


def test_every_day_of_the_calendar_is_the_right_one() -> None:
    """Leap days in the years that have one; months 0 and 13, days 0 and 32 are none."""
    for day in days():
        for offset in ("", "+23:59", "-23:59"):
            check_instant(f"{day}T23:59:59{offset}")


@pytest.mark.parametrize("time", ["00:00:00", "23:59:59", "24:00:00", "23:60:00", "23:59:60"])
@pytest.mark.parametrize(
    "offset",
    [
        *("", "Z", "z", "+00:00", "-00:00", "+23:59", "-23:59", "+24:00", "+23:60", "+02"),
        *("+0200", "+2:00", "+02:0", "+02:00:00", "+02:00Z", " ", "ZZ"),
    ],
)
def test_times_and_offsets_are_the_same_at_their_limits(time: str, offset: str) -> None:
    """Hour 24, minute and second 60, and the offsets that a rig may write."""
    check_instant(f"2026-05-04T{time}{offset}")


@pytest.mark.parametrize("digits", [0, 1, 8, 9, 10, 17, 18, 19, 40])
@pytest.mark.parametrize("point", [".", ",", ";", ".."])
@pytest.mark.parametrize("digit", "019")
def test_fractions_are_cut_at_the_ninth_digit(digits: int, point: str, digit: str) -> None:
    """1 to 18 digits behind a point or a comma."""
    for end in ("", "Z", "+02:00", "x"):
        check_instant(f"2026-05-04T10:20:30{point}{digit * digits}{end}")


def test_a_character_too_many_or_wrong_makes_no_instant() -> None:
    """Every character of an instant is needed, and in its place."""
    text = "2026-05-04T10:20:30.5+02:00"
    for at in range(len(text)):
        for stray in ("", "0", "9", ":", "-", "T", " ", "\u0662", "\0", "\\"):
            check_instant(text[:at] + stray + text[at + 1 :])
            check_instant(text[:at] + stray + text[at:])


# --- the compiled reader --------------------------------------------------------------------


def functions_called(function: Callable[[str], object], text: str) -> list[str]:
    """The functions of Python that are called to read a text, by name."""
    called = []

    def see(frame: FrameType, event: str) -> None:
        if event == "call":
            called.append(frame.f_code.co_name)

    with Profiled(see):
        function(text)
    return called


PLAIN = {
    "as json.dumps writes it": lambda text: text,
    "without spaces": lambda text: json.dumps(json.loads(text), separators=(",", ":")),
    "indented": lambda text: json.dumps(json.loads(text), indent=2) + "\n",
    "backwards": lambda text: json.dumps(dict(reversed(json.loads(text).items()))),
    "all fields": lambda text: json.dumps(json.loads(text) | OPTIONAL),
    "null": lambda text: json.dumps(json.loads(text) | dict.fromkeys(OPTIONAL)),
    "an escape": lambda text: text.replace('"ada"', '"J\\u00fcrgen"'),
    "an umlaut": lambda text: text.replace('"ada"', '"Jürgen"'),
    "a negative number": lambda text: re.sub(r'"seq": \d+', '"seq": -3', text),
    "18 digits": lambda text: re.sub(r'"seq": \d+', f'"seq": {10**18 - 1}', text),
    "an offset": lambda text: text.replace("Z", "-02:30"),
    "no offset": lambda text: text.replace("Z", ""),
    "capital digits": lambda text: re.sub(r"[0-9a-f]{12}", lambda hex: hex[0].upper(), text),
    "what it does not know": lambda text: json.dumps(
        {"a": "b\n", "c": [1, {"d": []}], "e": -1.5, "f": 3, "g": None, "h": True, "i": False}
        | json.loads(text)
    ),
}


@pytest.mark.parametrize("change", PLAIN.values(), ids=PLAIN)
def test_what_is_plainly_right_is_read_by_compiled_code_alone(
    change: Callable[[str], str],
) -> None:
    """Neither cattrs nor a rule is called, whatever is new in a message of the same rig."""
    pytest.importorskip("schemas._native")
    parse_input(change(meta_text()))
    for seq in (2, 3):
        text = change(meta_text(seq=seq, byte_length=seq * 1000))
        assert functions_called(parse_input, text) == ["parse_input"]
        check_both_ways(text)


@pytest.mark.parametrize(("count", "is_plain"), [(15, True), (16, True), (17, False)])
def test_more_than_16_unknown_names_go_the_long_way(count: int, is_plain: bool) -> None:
    """They are ignored there as they are here."""
    pytest.importorskip("schemas._native")
    text = meta_text(**{f"unknown_{number}": number for number in range(count)})
    assert isinstance(parse_input(text), CaptureFrameMeta)
    assert (functions_called(parse_input, text) == ["parse_input"]) is is_plain
    check_both_ways(text)


def test_it_remembers_less_than_1_mib_whatever_rigs_write() -> None:
    """Texts that differ in every message, of the length and the kind that take the most."""
    pytest.importorskip("schemas._native")
    texts = [
        json.dumps(
            meta_fields(
                **dict.fromkeys(("user_id", "source", "performer_id"), f"{number:060d}😀")
            ),
            ensure_ascii=False,
        )
        for number in range(4_000)
    ]
    tracemalloc.start()
    try:
        for text in texts:
            parse_input(text + " ")  # a text keeps its UTF-8 once it was asked for it
        assert 200_000 < tracemalloc.get_traced_memory()[0] < 2**20
    finally:
        tracemalloc.stop()

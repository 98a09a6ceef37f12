"""What strangers wrote, on an operator's terminal."""

from __future__ import annotations

import json
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfw.printable import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ada", "ada"),
        ("Zoë 王 שלום", "Zoë 王 שלום"),
        ("\x1b[2J", r"\u001b[2J"),
        ("\x9b2J", r"\u009b2J"),
        ("\x85\u2028\r\n\t", r"\u0085\u2028\r\n\t"),
        ("\x7f", r"\u007f"),
        ("ada\u202egnp.exe", r"ada\u202egnp.exe"),
        ("\u2066a\u2069\u200f\u061c", r"\u2066a\u2069\u200f\u061c"),
        ("\ud800", r"\ud800"),
        ("\U000e0001", r"\udb40\udc01"),
        ("C:\\u202e", "C:\\u202e"),
    ],
)
def test_what_is_not_seen_as_it_is_is_escaped(text: str, shown: str) -> None:
    """Letters of every script stay; what moves, hides or turns around is written out."""
    assert printable(text) == shown


def test_no_control_and_no_format_character_is_left_of_all_there_are() -> None:
    """Every character of Unicode, each by itself."""
    for number in range(sys.maxunicode + 1):
        shown = printable(chr(number))
        assert shown.isprintable()
        is_letter = unicodedata.category(chr(number))[0] in "LMNPS"
        assert (shown == chr(number)) == (is_letter or number == 0x20), hex(number)


@given(
    st.recursive(st.text(), lambda value: st.lists(value) | st.dictionaries(st.text(), value))
)
def test_json_parses_to_the_same_value(value: object) -> None:
    """Whether it was written with ASCII alone or not, backslashes and quotes included."""
    for is_ascii in (True, False):
        line = json.dumps(value, ensure_ascii=is_ascii)
        assert json.loads(printable(line)) == value
        assert printable(line).isprintable()

"""What strangers wrote, for a terminal: nothing in it moves a cursor, hides or turns around."""

from __future__ import annotations

import json


def printable(text: str) -> str:
    r"""Escape what is not seen as it is: controls, DEL, line ends, bidi marks, surrogates.

    The escapes are those of JSON, such as `\u202e`, so that a line of JSON stays one that
    parses to the same value. All else, letters of every script, is left alone.

    Args:
        text: whatever it is. JSON must be on one line, without its line end.
    """
    # Like repr(), whose criterion it is: the Unicode categories Cc, Cf, Cn, Co, Cs, Zl and Zp,
    # and of Zs all but the space.
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(character: str) -> str:
    # To JSON, DEL is a letter of ASCII like any other.
    return "\\u007f" if character == "\x7f" else json.dumps(character)[1:-1]

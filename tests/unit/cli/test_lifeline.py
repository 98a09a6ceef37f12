"""What a supervisor makes of the words of a worker."""

from __future__ import annotations

import pytest

from cfw.api import Addresses
from cfw.cli.lifeline import MAX_LINE_BYTES, Hearing, NotALine

ADDRESSES = b'{"capture": "ws://a", "admin": null, "public": "wss://b"}'


@pytest.mark.parametrize("cut", range(0, len(ADDRESSES) + 5, 7))
def test_a_line_is_heard_however_it_is_cut(cut: int) -> None:
    """Signs of life around it count for nothing but that."""
    said = b"\n\n" + ADDRESSES + b"\n\n"
    hearing = Hearing()
    heard = [hearing.take(said[:cut]), hearing.take(said[cut:])]
    assert [each for each in heard if each] == [Addresses("ws://a", None, "wss://b")]


@pytest.mark.parametrize(
    "said",
    [
        b"hello\n",
        b"{}\n",
        b"[1, 2, 3]\n",
        b"[" * 60_000 + b"\n",
        b'{"capture": 5, "admin": null}\n',
        b'{"capture": "a", "admin": 5}\n',
        b'{"capture": "a", "admin": null, "more": 1}\n',
        b"\xff\n",
        ADDRESSES + b"\n" + ADDRESSES + b"\n",
        b"x" * (MAX_LINE_BYTES + 1),
    ],
)
def test_what_is_no_such_line_is_refused(said: bytes) -> None:
    """A worker's words are foreign input."""
    with pytest.raises(NotALine):
        Hearing().take(said)


def test_a_line_may_be_so_long() -> None:
    """The bound itself is allowed."""
    assert Hearing().take(b"x" * MAX_LINE_BYTES) is None

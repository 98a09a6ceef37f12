"""Names of recordings, whatever rigs call themselves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfw.record import DEFAULT_PATTERN, check_pattern, recording_name
from tests.unit.record.kit import opened

#: What Windows takes for a device.
DEVICES = ("CON", "prn", "aux.txt", "NUL", "com1", "LPT9.tar.gz", "COM¹")


def test_a_plain_name() -> None:
    """Session, user, the time it opened at the worker, capture."""
    assert recording_name(DEFAULT_PATTERN, opened("c.1")) == (
        "s1",
        "ada-20260504T102030.000Z-c.1",
    )


@given(st.text(min_size=1, max_size=128), st.text(min_size=1, max_size=128))
def test_no_id_leads_anywhere_else(user: str, session: str) -> None:
    """Each part is one name that every file system takes, and that is not hidden."""
    message = opened("c1", user_id=user, session_id=session)
    for pattern in (DEFAULT_PATTERN, "{user_id}/{session_id}"):
        for part in recording_name(pattern, message):
            assert 0 < len(part.encode()) <= 240
            assert not set(part) & set('/\\:*?"<>|\0')
            assert part.isprintable()
            assert not part.startswith(".")
            assert not part.endswith((".", " ", ".part"))


@pytest.mark.parametrize("name", DEVICES)
def test_no_recording_is_a_device_of_windows(name: str) -> None:
    """Which it would be with any ending."""
    (part,) = recording_name("{user_id}", opened("c1", user_id=name))
    assert part not in DEVICES
    assert part.startswith("_") or "~" in part


@pytest.mark.parametrize(
    ("one", "other"),
    [("a/b", "a_b"), ("a:b", "a/b"), ("..", "__"), ("x" * 100, "x" * 101), ("é", "e\u0301")],
)
def test_two_ids_share_no_name(one: str, other: str) -> None:
    """What is changed for the file system carries a part of its hash."""
    names = {recording_name("{user_id}", opened("c1", user_id=each)) for each in (one, other)}
    assert len(names) == 2


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("{user}", "allowed are {session_id}, {user_id}"),
        ("{opened.ns}", "allowed are"),
        ("{opened!r}", "allowed are"),
        ("{}", "allowed are"),
        ("{user_id", "cannot be read"),
        ("../{user_id}", "some file system does not take"),
        ("/{user_id}", "an empty part"),
        ("{session_id}//{user_id}", "an empty part"),
        ("", "an empty part"),
        ("{user_id}:{capture_id}", "some file system does not take"),
    ],
)
def test_a_pattern_that_is_none(pattern: str, said: str) -> None:
    """It says why before anything is recorded."""
    with pytest.raises(ValueError, match=said):
        check_pattern(pattern)


def test_the_patterns_that_are_good() -> None:
    """Letters beside the fields, and folders."""
    for pattern in (DEFAULT_PATTERN, "lab-3/{source}_{performer_id}/{capture_id}"):
        check_pattern(pattern)

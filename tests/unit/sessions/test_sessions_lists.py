"""The authorities that ask nobody: `static:` and `allow:`."""

from __future__ import annotations

import pytest
import structlog.testing
import trio

from cfw.sessions import SessionStatus, SessionUrlError
from cfw.sessions.allow import open_allow
from cfw.sessions.static import open_static, parse_session


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("u:s", ("u", "s")),
        ("ada:a:b:", ("ada", "a:b:")),
        ("u::", ("u", ":")),
        (" u : s ", (" u ", " s ")),
        ("Zoë:Ω", ("Zoë", "Ω")),
        ("u" * 128 + ":s", ("u" * 128, "s")),
        ("u:" + "s" * 128, ("u", "s" * 128)),
    ],
)
def test_session_is_split_at_its_first_colon(text: str, pair: tuple[str, str]) -> None:
    """The user cannot hold a colon, the session can; nothing is trimmed."""
    assert parse_session(text) == pair


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no colon"),
        ("ada", "no colon"),
        (":", "user_id: must have 1 to 128 characters, not 0"),
        (":s", "user_id: must have 1 to 128 characters, not 0"),
        ("u:", "session_id: must have 1 to 128 characters, not 0"),
        ("u" * 129 + ":s", "user_id: must have 1 to 128 characters, not 129"),
        ("u:" + "s" * 129, "session_id: must have 1 to 128 characters, not 129"),
        ("u:\udcff", "session_id: must be Unicode text"),
    ],
)
def test_bad_session_is_named_with_the_form_allowed(text: str, problem: str) -> None:
    """129 characters are one too many; so are none."""
    with pytest.raises(ValueError, match="allowed: USER:SESSION") as caught:
        open_static("static:", sessions=["u:s", text])
    assert problem in str(caught.value)
    assert repr(text[:60])[:-1] in str(caught.value)
    assert len(str(caught.value)) < 200


async def test_static_knows_its_pairs_and_nothing_else() -> None:
    """Unknown, another user's, and other spellings are invalid."""
    with structlog.testing.capture_logs() as logs:
        async with open_static("static:", sessions=["ada:s1", "ada:s2", "bob:s1"]) as authority:
            for user_id, session_id in [("ada", "s1"), ("ada", "s2"), ("bob", "s1")]:
                assert await authority.check(user_id, session_id) is SessionStatus.ACTIVE
            for user_id, session_id in [
                ("bob", "s2"),
                ("eve", "s1"),
                ("ada", "s3"),
                ("ADA", "s1"),
                ("ada", "s1 "),
                ("", ""),
            ]:
                assert await authority.check(user_id, session_id) is SessionStatus.INVALID
    assert logs == []


async def test_static_without_sessions_refuses_all_and_says_why_once() -> None:
    """One warning at start, none per check."""
    with structlog.testing.capture_logs() as logs:
        async with open_static("static:", sessions=[]) as authority:
            for _ in range(3):
                assert await authority.check("ada", "s1") is SessionStatus.INVALID
    assert logs == [
        {
            "log_level": "warning",
            "event": "sessions.static_empty",
            "effect": "every capture is refused as session_invalid",
            "reason": "static: was given no session",
            "advice": "give sessions as USER:SESSION, or another authority URL",
        }
    ]


async def test_allow_lets_anyone_in_and_warns_loudly_once() -> None:
    """The warning comes at start."""
    with structlog.testing.capture_logs() as logs:
        async with open_allow("allow:", sessions=[]) as authority:
            assert len(logs) == 1
            assert await authority.check("anyone", "anything") is SessionStatus.ACTIVE
    ((event, level),) = [(line["event"], line["log_level"]) for line in logs]
    assert (event, level) == ("sessions.allow_all", "warning")
    assert "ANYONE" in logs[0]["effect"]


@pytest.mark.parametrize("url", ["allow:x", "allow://", "allow: "])
def test_allow_takes_nothing_more(url: str) -> None:
    """A policy nobody implements must not look as if it were in force."""
    with pytest.raises(SessionUrlError, match="leave the rest out"):
        open_allow(url, sessions=[])


@pytest.mark.parametrize("scheme", ["static", "allow"])
async def test_check_can_be_cancelled(scheme: str) -> None:
    """Each check is a checkpoint, so a loop of them cannot starve the others."""
    manager = (
        open_static("static:", sessions=["u:s"])
        if scheme == "static"
        else open_allow("allow:", sessions=[])
    )
    with structlog.testing.capture_logs():
        async with manager as authority:
            with trio.CancelScope() as scope:
                scope.cancel()
                await authority.check("u", "s")
    assert scope.cancelled_caught

"""What a session authority is, and what can be wrong with one.

SessionUrlError (ValueError)   ours: the configuration names no usable authority
AuthorityError                 the world's: there is no word on the session
├── AuthorityUnreachable       nobody is there who could answer anything
└── UnusableAnswer             somebody answered, but not this question
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from typing import Protocol, runtime_checkable

import attrs

from cfw.plugins import redact_url


class SessionStatus(enum.Enum):
    """What an authority knows of one user's session."""

    ACTIVE = "active"
    CLOSED = "closed"
    INVALID = "invalid"


@attrs.define(slots=False, eq=False)
class AuthorityError(Exception):
    """The authority did not say whether the session is active.

    Args:
        detail: which authority and why, for the operator's log; holds no secret.
    """

    detail: str


class AuthorityUnreachable(AuthorityError):
    """No connection, no answer in time, or a server that says it cannot serve anybody now."""

    def __str__(self) -> str:
        return f"session authority out of reach: {self.detail}"


class UnusableAnswer(AuthorityError):
    """The authority is there, and its answer says nothing about this session.

    That may be for what a rig calls itself, so it says nothing about other rigs either.
    """

    def __str__(self) -> str:
        return f"session authority gave no usable answer: {self.detail}"


@attrs.define(slots=False, eq=False)
class SessionUrlError(ValueError):
    """A URL, or what was given beside it, that makes no session authority.

    Args:
        url: the URL without its secrets.
        problem: what was wrong.
        allowed: the schemes or forms that would be right.
        advice: what to do.
    """

    url: str
    problem: str
    allowed: tuple[str, ...]
    advice: str

    def __str__(self) -> str:
        allowed = ", ".join(self.allowed) or "none"
        return (
            f"session authority {self.url!r}: {self.problem}; allowed: {allowed}; {self.advice}"
        )


class SessionAuthority(Protocol):
    """Answers whether a session exists, is active and belongs to the user."""

    async def check(self, user_id: str, session_id: str) -> SessionStatus:
        """Return the status of `session_id` as a session of `user_id`.

        Many checks may run at once.

        Args:
            user_id: 1-128 characters.
            session_id: 1-128 characters.

        Raises:
            AuthorityUnreachable: nobody is there to answer.
            UnusableAnswer: the answer says nothing about this session.

        Cancellation: safe at any point; the caller sets the deadline.
        """
        ...


@runtime_checkable
class NotifyingAuthority(Protocol):
    """A `SessionAuthority` that hears of changes; it may have this too."""

    def on_change(
        self, user_id: str, session_id: str, changed: Callable[[], object]
    ) -> AbstractContextManager[None]:
        """Call `changed` whenever the session may have changed, while the context lasts.

        The session is then checked again at once, so a call too many does no harm, and one
        that is missed is made up for by the next re-check.

        Args:
            user_id: 1-128 characters.
            session_id: 1-128 characters.
            changed: returns at once and must not raise.
        """
        ...


def watching(
    authority: SessionAuthority, user_id: str, session_id: str, changed: Callable[[], object]
) -> AbstractContextManager[None]:
    """`NotifyingAuthority.on_change`, or nothing if the authority hears of no changes."""
    if isinstance(authority, NotifyingAuthority):
        return authority.on_change(user_id, session_id, changed)
    return nullcontext()


class AuthorityFactory(Protocol):
    """What an entry point of the group `cfw.sessions` leads to.

    A call should check its arguments and raise SessionUrlError (or another ValueError), but
    open nothing: that is left to entering what it returns. So a URL can be checked alone.
    """

    def __call__(
        self, url: str, *, sessions: Sequence[str]
    ) -> AbstractAsyncContextManager[SessionAuthority]: ...


def refuse_rest(scheme: str, url: str, advice: str) -> None:
    """Refuse what follows the scheme of an authority that is its scheme alone.

    Args:
        scheme: of the authority.
        url: what was given; its secrets are not told.
        advice: what to do instead.

    Raises:
        SessionUrlError: something follows the scheme.
    """
    if url.lower() != f"{scheme}:":
        problem = f"'{scheme}:' takes nothing behind its colon"
        raise SessionUrlError(redact_url(url), problem, (f"{scheme}:",), advice)


def refuse_sessions(scheme: str, url: str, sessions: Sequence[str]) -> None:
    """Refuse sessions given to an authority that would silently ignore them."""
    if sessions:
        raise SessionUrlError(
            url,
            f"{len(sessions)} session(s) given, which '{scheme}:' does not use",
            ("static:",),
            "leave them out, or use static:",
        )

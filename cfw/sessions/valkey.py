"""`valkey://` and `valkeys://` - sessions are keys of a server that a fleet shares.

A session is the hash `PREFIX:session:SESSION_ID` with the fields `user` and `status`,
`active` or `closed`. Whoever changes one publishes its id on `PREFIX:sessions`; captures
of that session are then checked at once, and otherwise at their next re-check.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from cfw.plugins import redact_url
from cfw.sessions._authority import (
    AuthorityUnreachable,
    SessionAuthority,
    SessionStatus,
    UnusableAnswer,
    refuse_sessions,
)
from cfw.tasks.background import running_beside
from cfw.valkey import (
    Address,
    Link,
    Unreadable,
    ValkeyFailed,
    hear_sessions,
    look_up_session,
    open_link,
)


class ValkeyAuthority:
    """Looks sessions up, and hears when one changes.

    Args:
        link: an open connection.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._watchers: defaultdict[bytes, set[Callable[[], object]]] = defaultdict(set)

    async def check(self, user_id: str, session_id: str) -> SessionStatus:
        """Return what the session's key says; INVALID if there is none, or another user's.

        Raises:
            AuthorityUnreachable: the server is out of reach, or refuses.
            UnusableAnswer: the key is of another type, or says nothing known.

        Cancellation: safe.
        """
        try:
            user, status = await look_up_session(self._link, session_id)
        except Unreadable as exc:
            raise UnusableAnswer(f"{self._link.address.name}: {exc}") from exc
        except ValkeyFailed as exc:
            raise AuthorityUnreachable(str(exc)) from exc
        if user is None or user != user_id.encode():
            return SessionStatus.INVALID
        for known in (SessionStatus.ACTIVE, SessionStatus.CLOSED):
            if status == known.value.encode():
                return known
        raise UnusableAnswer(
            f"{self._link.address.name}: the status of a session must be active or closed"
        )

    @contextlib.contextmanager
    def on_change(
        self, user_id: str, session_id: str, changed: Callable[[], object]
    ) -> Iterator[None]:
        """See `NotifyingAuthority`."""
        name = session_id.encode()

        def call() -> None:
            changed()

        self._watchers[name].add(call)
        try:
            yield
        finally:
            self._watchers[name].discard(call)
            if not self._watchers[name]:
                del self._watchers[name]

    async def listen(self) -> None:
        """Hear of changes, until the connection breaks.

        Raises:
            ValkeyFailed: it could not be made, or broke.
        """
        await hear_sessions(self._link, self._changed)

    def _changed(self, session_id: bytes | None) -> None:
        names = [*self._watchers] if session_id is None else [session_id]
        for name in names:
            for call in [*self._watchers.get(name, ())]:
                call()


def open_valkey(
    url: str, *, sessions: Sequence[str]
) -> AbstractAsyncContextManager[SessionAuthority]:
    """Make the authority of `valkey://` and `valkeys://`.

    Args:
        url: the server or cluster, as for the sink; its options about streams do nothing.
        sessions: must be empty: the server knows them.

    Raises:
        ValueError: the URL is none, an option is not allowed, or sessions were given.
    """
    address = Address.parse(url)
    refuse_sessions("valkey", redact_url(url), sessions)
    return _open(address)


@asynccontextmanager
async def _open(address: Address) -> AsyncIterator[SessionAuthority]:
    async with open_link(address) as link:
        authority = ValkeyAuthority(link)
        # The re-checks go on while nobody listens, and tell of a server that is away.
        async with running_beside("sessions.valkey.changes", authority.listen):
            yield authority

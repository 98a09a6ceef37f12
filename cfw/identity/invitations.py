"""Invitations to film: links that let one person in, once, as one user in one session.

An invitation is a secret of short life. Whoever shows it first gets a pass, which is a token
like those of a file, but bound to the user and the session of the invitation and ended with it.
Of both, only digests are kept, in memory: an end of the process is an end of all of them.

    open ──used──> used ──film_s──> ended
      │             │
      ├──valid_s────┼─────────────> ended
      └─────────────┴─taken back──> taken_back
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator
from typing import Literal, Protocol

import attrs
import trio

from cfw.identity.tokens import make_token

#: 128 random bits; as short as can be, for a code that a camera reads from a screen.
_SECRET_BYTES = 16
#: Public names of invitations, for lists and to take them back: no secret.
_ID_BYTES = 4
#: How long one that is over is still listed, and known to whoever shows it.
KEPT_S = 600.0
#: Kept in all, open, used and over; those that are over make room for new ones.
MAX_KEPT = 1_000

State = Literal["open", "used", "ended", "taken_back"]


@attrs.frozen
class Invitation:
    """What may be told of an invitation.

    Args:
        invitation_id: its name; it lets nobody in.
        user_id: who films.
        session_id: in which session.
        state: `open` until somebody uses it, or it ends or is taken back.
        ends_in_s: seconds that are left to use it; once it is used, to film.
    """

    invitation_id: str
    user_id: str
    session_id: str
    state: State
    ends_in_s: float


@attrs.frozen
class Secret:
    """An invitation, or the pass of one, with the secret that is it.

    Args:
        invitation: what may be told of it.
        text: what lets in; told to one person, and never logged.
    """

    invitation: Invitation
    text: str = attrs.field(repr=False)


class InvitationError(Exception):
    """Nobody can be invited, or let in; the text says why."""


class TooManyInvitations(InvitationError):
    """As many as may be are open."""


class NotInvited(InvitationError):
    """What was shown is no invitation that lets anybody in."""


class InvitationsOutOfReach(InvitationError):
    """Whoever keeps the invitations does not answer."""


class Inviting(Protocol):
    """Keeps invitations, for one worker or for several.

    Cancellation: safe at any point; the caller sets the deadline. All methods may raise
    `InvitationsOutOfReach`.
    """

    async def invite(self, user_id: str, session_id: str) -> Secret:
        """Make an invitation.

        Raises:
            TooManyInvitations: as many as may be are open.
        """
        ...

    async def use(self, secret: str) -> Secret:
        """Give the pass for an invitation, which is used up by that.

        Raises:
            NotInvited: it is unknown, used, over or taken back.
        """
        ...

    async def find(self, text: str) -> Invitation | None:
        """The invitation of a pass that lets in now; None for anything else."""
        ...

    async def holds(self, invitation_id: str) -> bool:
        """Whether what was begun with its pass may go on."""
        ...

    async def listed(self) -> list[Invitation]:
        """All that are known, the newest first."""
        ...

    async def take_back(self, invitation_id: str) -> bool:
        """Let nobody in with it or its pass any more; False if there is nothing to end."""
        ...


@attrs.define(eq=False)
class _Record:
    invitation_id: str
    user_id: str
    session_id: str
    digest: bytes
    until: float
    pass_digest: bytes | None = None
    is_taken_back: bool = False

    def state(self, now: float) -> State:
        if self.is_taken_back:
            return "taken_back"
        if now >= self.until:
            return "ended"
        return "open" if self.pass_digest is None else "used"

    def shown(self, now: float) -> Invitation:
        return Invitation(
            self.invitation_id,
            self.user_id,
            self.session_id,
            self.state(now),
            max(0.0, self.until - now),
        )


_WHY: dict[State, str] = {
    "used": "this invitation was used already",
    "ended": "this invitation has ended",
    "taken_back": "this invitation was taken back",
}


class Invitations:
    """Invitations in the memory of this process.

    Args:
        valid_s: seconds for an invitation to be used.
        film_s: seconds from then in which may be filmed.
        max_open: so many wait to be used at a time.
    """

    def __init__(self, valid_s: float, film_s: float, max_open: int) -> None:
        self._valid_s = valid_s
        self._film_s = film_s
        self._max_open = max_open
        # In the order of their making.
        self._records: dict[str, _Record] = {}

    async def invite(self, user_id: str, session_id: str) -> Secret:
        """See `Inviting`."""
        now = self._tidy()
        is_open = [each for each in self._records.values() if each.state(now) == "open"]
        if len(is_open) >= self._max_open:
            raise TooManyInvitations(
                f"{self._max_open} invitations are open (invitations.max_open); take some back"
            )
        if len(self._records) >= MAX_KEPT:
            raise TooManyInvitations(f"{MAX_KEPT} people are let in; take some back")
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        invitation_id = next(self._free_ids())
        record = _Record(
            invitation_id, user_id, session_id, _digest(secret), now + self._valid_s
        )
        self._records[invitation_id] = record
        return Secret(record.shown(now), secret)

    async def use(self, secret: str) -> Secret:
        """See `Inviting`."""
        now, digest = self._tidy(), _digest(secret)
        # What is compared are digests: how long it takes says nothing about a secret.
        found = (each for each in self._records.values() if each.digest == digest)
        record = next(found, None)
        if record is None:
            raise NotInvited("this invitation is not known here, or has ended long ago")
        if (why := _WHY.get(record.state(now))) is not None:
            raise NotInvited(why)
        # Nothing is awaited from the look to here: of two who come at once, one is first.
        given = make_token()
        record.pass_digest, record.until = _digest(given), now + self._film_s
        return Secret(record.shown(now), given)

    async def find(self, text: str) -> Invitation | None:
        """See `Inviting`."""
        now, digest = self._tidy(), _digest(text)
        for record in self._records.values():
            if record.pass_digest == digest and record.state(now) == "used":
                return record.shown(now)
        return None

    async def holds(self, invitation_id: str) -> bool:
        """See `Inviting`."""
        record = self._records.get(invitation_id)
        return record is not None and record.state(trio.current_time()) == "used"

    async def listed(self) -> list[Invitation]:
        """See `Inviting`."""
        now = self._tidy()
        return [record.shown(now) for record in reversed(self._records.values())]

    async def take_back(self, invitation_id: str) -> bool:
        """See `Inviting`."""
        now = self._tidy()
        record = self._records.get(invitation_id)
        if record is None or record.state(now) not in ("open", "used"):
            return False
        record.is_taken_back, record.until = True, now
        return True

    def _tidy(self) -> float:
        """Forget what has been over for long; answers the time."""
        now = trio.current_time()
        over = [each for each in self._records.values() if each.until <= now]
        surplus = len(self._records) + 1 - MAX_KEPT
        for number, record in enumerate(over):
            if record.until <= now - KEPT_S or number < surplus:
                del self._records[record.invitation_id]
        return now

    def _free_ids(self) -> Iterator[str]:
        while True:
            name = secrets.token_hex(_ID_BYTES)
            if name not in self._records:
                yield name


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()

"""Invitations: good once, for a short time, until they are taken back."""

from __future__ import annotations

import pytest
import trio

from cfw.identity import Invitations, NotInvited, TooManyInvitations
from cfw.identity.invitations import KEPT_S, MAX_KEPT

VALID_S, FILM_S = 600.0, 3_600.0


def made(max_open: int = 10) -> Invitations:
    return Invitations(VALID_S, FILM_S, max_open)


async def why_not(invitations: Invitations, secret: str) -> str:
    with pytest.raises(NotInvited) as caught:
        await invitations.use(secret)
    return str(caught.value)


async def test_an_invitation_lets_in_once() -> None:
    """The pass that comes of it is another secret, bound to its user and session."""
    invitations = made()
    secret = await invitations.invite("ada", "s1")
    assert await invitations.find(secret.text) is None
    given = await invitations.use(secret.text)
    assert given.text != secret.text
    found = await invitations.find(given.text)
    assert found is not None
    assert (found.user_id, found.session_id, found.state) == ("ada", "s1", "used")
    assert await invitations.holds(found.invitation_id)
    assert await why_not(invitations, secret.text) == "this invitation was used already"
    assert await why_not(invitations, given.text) == (
        "this invitation is not known here, or has ended long ago"
    )


async def test_of_many_who_come_at_once_one_is_let_in() -> None:
    """However the tasks are run."""
    invitations = made()
    secret = await invitations.invite("ada", "s1")
    passes, refused = [], []

    async def come() -> None:
        await trio.lowlevel.checkpoint()
        try:
            passes.append(await invitations.use(secret.text))
        except NotInvited as exc:
            refused.append(str(exc))

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(come)
    assert len(passes) == 1
    assert len(refused) == 49


@pytest.mark.parametrize("waited_s", [VALID_S - 1, VALID_S])
async def test_an_invitation_ends(autojump_clock: None, waited_s: float) -> None:
    """A second before its end it is good, at its end it is not."""
    invitations = made()
    secret = await invitations.invite("ada", "s1")
    await trio.sleep(waited_s)
    if waited_s < VALID_S:
        await invitations.use(secret.text)
    else:
        assert await why_not(invitations, secret.text) == "this invitation has ended"


@pytest.mark.parametrize("waited_s", [FILM_S - 1, FILM_S])
async def test_a_pass_ends(autojump_clock: None, waited_s: float) -> None:
    """Counted from when the invitation was used."""
    invitations = made()
    secret = await invitations.invite("ada", "s1")
    await trio.sleep(VALID_S / 2)
    given = await invitations.use(secret.text)
    await trio.sleep(waited_s)
    is_good = waited_s < FILM_S
    assert (await invitations.find(given.text) is not None) is is_good
    assert await invitations.holds(given.invitation.invitation_id) is is_good


@pytest.mark.parametrize("is_used", [False, True])
async def test_what_is_taken_back_lets_nobody_in(is_used: bool) -> None:
    """Neither the invitation nor the pass that came of it; and it is taken back once."""
    invitations = made()
    secret = await invitations.invite("ada", "s1")
    given = await invitations.use(secret.text) if is_used else None
    name = secret.invitation.invitation_id
    assert await invitations.take_back(name)
    assert not await invitations.take_back(name)
    assert await why_not(invitations, secret.text) == "this invitation was taken back"
    assert not await invitations.holds(name)
    if given is not None:
        assert await invitations.find(given.text) is None
    assert [each.state for each in await invitations.listed()] == ["taken_back"]
    assert not await invitations.take_back("nobody")


async def test_so_many_may_be_open(autojump_clock: None) -> None:
    """n are made and n+1 is told; one that is used, over or taken back makes room."""
    invitations = made(max_open=2)
    first, second = [await invitations.invite("ada", "s1") for _ in range(2)]
    with pytest.raises(TooManyInvitations, match=r"2 invitations are open .*max_open"):
        await invitations.invite("ada", "s1")
    await invitations.use(first.text)
    await invitations.invite("ada", "s1")
    await invitations.take_back(second.invitation.invitation_id)
    await invitations.invite("ada", "s1")
    await trio.sleep(VALID_S)
    await invitations.invite("ada", "s1")


async def test_what_is_over_is_forgotten(autojump_clock: None) -> None:
    """After a while, and sooner where there are many: memory is bounded."""
    invitations = made()
    secret = await invitations.invite("ada", "s1")
    await trio.sleep(VALID_S + KEPT_S - 1)
    assert len(await invitations.listed()) == 1
    await trio.sleep(1)
    assert await invitations.listed() == []
    assert "not known here" in await why_not(invitations, secret.text)
    for _ in range(MAX_KEPT + 10):
        made_now = await invitations.invite("ada", "s1")
        await invitations.take_back(made_now.invitation.invitation_id)
    assert len(await invitations.listed()) <= MAX_KEPT


async def test_people_who_are_let_in_are_bounded_too() -> None:
    """They stay until their time is over, so there is no room for more."""
    invitations = made()
    for _ in range(MAX_KEPT):
        await invitations.use((await invitations.invite("ada", "s1")).text)
    with pytest.raises(TooManyInvitations, match="people are let in"):
        await invitations.invite("ada", "s1")


async def test_no_secret_is_shown_by_accident() -> None:
    """Neither in the repr that a log or a traceback may show, nor in a list."""
    invitations = made()
    secret = await invitations.invite("ada", "s1")
    given = await invitations.use(secret.text)
    told = f"{secret!r} {given!r} {await invitations.listed()!r} {vars(invitations)!r}"
    assert secret.text not in told
    assert given.text not in told

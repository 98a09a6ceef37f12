"""Invitations of several workers: kept by their supervisor, asked for over a socket pair.

Each worker may be asked by any phone, so none of them keeps invitations itself: each is used up
once, whoever it is shown to. A worker writes a line with a number, and reads until the one with
that number comes: an answer that was too late is for nobody any more. What is asked are the
methods of `cfw.identity.Inviting`.
"""

from __future__ import annotations

import itertools
import json
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Final

import attrs
import structlog
import trio

from cfw.cli.lifeline import stream_of
from cfw.identity import (
    Invitation,
    InvitationError,
    InvitationsOutOfReach,
    Inviting,
    NotInvited,
    Secret,
    TooManyInvitations,
)

#: For the supervisor to answer.
ANSWER_S: Final = 2.0
#: Two names of 128 characters, each written as an escape of 12.
MAX_QUESTION_BYTES: Final = 8_192
#: As many invitations as are kept, with names like that.
MAX_ANSWER_BYTES: Final = 8_388_608
_READ_BYTES: Final = 65_536

_ERRORS: Final = {each.__name__: each for each in (NotInvited, TooManyInvitations)}
_log: structlog.stdlib.BoundLogger = structlog.get_logger("cfw.workers")


class FarInvitations:
    """The invitations of the supervisor, as a worker sees them: an `Inviting`.

    Args:
        descriptor: of the worker's end of the pair; closed behind the block.
    """

    def __init__(self, descriptor: int) -> None:
        self._stream = stream_of(socket.socket(fileno=descriptor))
        self._lines = _Lines(self._stream, MAX_ANSWER_BYTES)
        self._turn = trio.Lock()
        self._numbers = itertools.count(1)
        self._is_lost = False

    async def __aenter__(self) -> FarInvitations:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stream.socket.close()

    async def invite(self, user_id: str, session_id: str) -> Secret:
        """See `Inviting`."""
        return _secret(await self._ask("invite", user_id, session_id))

    async def use(self, secret: str) -> Secret:
        """See `Inviting`."""
        return _secret(await self._ask("use", secret))

    async def find(self, text: str) -> Invitation | None:
        """See `Inviting`."""
        found = await self._ask("find", text)
        return None if found is None else Invitation(**found)

    async def holds(self, invitation_id: str) -> bool:
        """See `Inviting`."""
        return bool(await self._ask("holds", invitation_id))

    async def listed(self) -> list[Invitation]:
        """See `Inviting`."""
        return [Invitation(**each) for each in await self._ask("listed")]

    async def take_back(self, invitation_id: str) -> bool:
        """See `Inviting`."""
        return bool(await self._ask("take_back", invitation_id))

    async def _ask(self, method: str, *words: str) -> Any:
        number = next(self._numbers)
        question = json.dumps([number, method, *words])
        if len(question) >= MAX_QUESTION_BYTES:
            raise NotInvited("what was shown is no invitation")
        answer: dict[str, Any] = {}
        with trio.move_on_after(ANSWER_S):
            async with self._turn:
                await self._send(question)
                while answer.get("number") != number:
                    answer = await self._receive()
        if not answer:
            raise _out_of_reach()
        if "error" in answer:
            raise _ERRORS[answer["error"]](answer["detail"])
        return answer["answer"]

    async def _send(self, question: str) -> None:
        if self._is_lost:
            raise _out_of_reach()
        # Cut short, it would be the beginning of the next one.
        self._is_lost = True
        with trio.CancelScope(shield=True, deadline=trio.current_time() + ANSWER_S):
            try:
                await self._lines.send(question)
                self._is_lost = False
            except trio.BrokenResourceError:
                pass
        if self._is_lost:
            self._tell_lost()
            raise _out_of_reach()

    async def _receive(self) -> dict[str, Any]:
        try:
            if (line := await self._lines.receive()) is not None:
                answer: dict[str, Any] = json.loads(line)
                return answer
        except (trio.BrokenResourceError, ValueError):
            pass
        self._is_lost = True
        self._tell_lost()
        raise _out_of_reach()

    def _tell_lost(self) -> None:
        _log.error("invitations.lost", detail="the supervisor answers no more")


def _out_of_reach() -> InvitationsOutOfReach:
    return InvitationsOutOfReach("invitations cannot be looked up now; try again")


async def answer_worker(sock: socket.socket, inviting: Inviting) -> None:
    """Answer the questions of one worker, until it is gone or asks what nobody asks.

    Args:
        sock: the supervisor's end of the pair.
        inviting: keeps the invitations.
    """
    methods: dict[str, Callable[..., Awaitable[object]]] = {
        method.__name__: method
        for method in (
            inviting.invite,
            inviting.use,
            inviting.find,
            inviting.holds,
            inviting.listed,
            inviting.take_back,
        )
    }
    stream = stream_of(sock)
    lines = _Lines(stream, MAX_QUESTION_BYTES)
    async with stream:
        try:
            while (line := await lines.receive()) is not None:
                number, method, *words = json.loads(line)
                if not all(isinstance(word, str) for word in words):
                    break
                answer: dict[str, object] = {"number": number}
                try:
                    answer["answer"] = await methods[method](*words)
                except InvitationError as exc:
                    answer |= {"error": type(exc).__name__, "detail": str(exc)}
                await lines.send(json.dumps(answer, default=attrs.asdict))
            else:
                return
        except trio.BrokenResourceError:
            return
        except (ValueError, TypeError, KeyError):
            pass
        _log.error("invitations.odd", detail="a worker asked what is no such question")


class _Lines:
    """Lines of text, one at a time.

    Args:
        stream: where they come and go.
        most: bytes of one that comes.
    """

    def __init__(self, stream: trio.abc.Stream, most: int) -> None:
        self._stream = stream
        self._most = most
        self._rest = b""

    async def send(self, line: str) -> None:
        await self._stream.send_all(line.encode() + b"\n")

    async def receive(self) -> bytes | None:
        """The next line; None at the end.

        Raises:
            ValueError: it is too long.
        """
        while b"\n" not in self._rest:
            if len(self._rest) > self._most:
                raise ValueError("the line is too long")
            data = await self._stream.receive_some(_READ_BYTES)
            if not data:
                return None
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line


def _secret(told: dict[str, Any]) -> Secret:
    return Secret(Invitation(**told["invitation"]), told["text"])

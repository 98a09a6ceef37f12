"""Captures in the server: what a worker does with its own, and with those left behind.

A capture is a *run*: one lease, one stream. All a run writes goes through scripts that look at
the lease first, so a worker that has lost it cannot write behind whoever ended the capture.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any, Protocol

import attrs

from cfw.valkey import _scripts as scripts
from cfw.valkey._link import Argument, Link
from cfw.valkey._names import Names

#: Captures that are looked at in one go after their workers died.
_AT_A_TIME = 100


@attrs.define(slots=False, eq=False)
class CaptureTaken(Exception):
    """Another run has the lease of the capture_id.

    Args:
        is_expired: it has run out, and nobody has ended that capture yet.
    """

    is_expired: bool


class LeaseLost(Exception):
    """The capture's lease ran out and whoever saw it has ended the capture."""


class TailLost(Exception):
    """The stream does not end with the frame acknowledged last: a failover lost some."""


@attrs.frozen(kw_only=True)
class Run:
    """One capture on one connection.

    Args:
        capture_id: the id the rig chose.
        opened_ns: when the worker took its `capture.open`, nanoseconds since 1970 UTC.
        owner: a random value that no other run has.
    """

    capture_id: str
    opened_ns: int
    owner: str = attrs.field(factory=lambda: secrets.token_hex(16))


@attrs.frozen(kw_only=True)
class LostCapture:
    """A capture whose lease has run out.

    Args:
        capture_id: its id.
        owner: the run that left it behind.
        stream: the key of its stream.
        opened: its `capture.opened` as JSON.
        frames: frames in its stream.
        bytes: bytes of those.
    """

    capture_id: str
    owner: str
    stream: str
    opened: bytes
    frames: int
    bytes: int


class CaptureStore(Protocol):
    """What the sink needs of a server. All of it may raise ValkeyFailed."""

    async def begin(self, run: Run, opened: bytes) -> None:
        """Take the lease, start the stream with `opened`, and tell the index.

        Raises:
            CaptureTaken: another run has the lease.
        """

    async def append(
        self, run: Run, first_seq: int, frames: Sequence[tuple[bytes, bytes]]
    ) -> None:
        """Write frames, each a message and its JPEG, all or none; renews the lease.

        Raises:
            LeaseLost: nothing was written.
            TailLost: nothing was written; frame `first_seq - 1` is not the last one there.
        """

    async def renew(self, run: Run) -> None:
        """Put the lease's end off.

        Raises:
            LeaseLost: it is another's, or nobody's.
        """

    async def finish(self, run: Run, terminal: bytes, last_seq: int | None) -> None:
        """Write the terminal and give the lease back.

        Args:
            run: the run.
            terminal: as JSON.
            last_seq: the frame that must be the last one; None when any may be.

        Raises:
            LeaseLost: nothing was written, there may be another terminal.
            TailLost: nothing was written, `last_seq` is not there.
        """

    async def lost(self, partition: int) -> list[LostCapture]:
        """Captures of a partition whose lease has run out."""

    async def seal(self, capture: LostCapture, terminal: bytes) -> bool:
        """Write the terminal of a lost capture; whether it was this call that did."""


class ScriptStore:
    """The store of a server or cluster, through its scripts.

    Args:
        link: an open connection.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        address = link.address
        self._prefix = address.prefix
        self._lease_ms = round(1000 * address.lease_s)
        self._keep_ms = round(1000 * address.keep_s)

    async def begin(self, run: Run, opened: bytes) -> None:
        """See `CaptureStore`."""
        names = Names.of(self._prefix, run.capture_id)
        reply = await self._link.script(
            scripts.BEGIN,
            [*self._keys(run), names.index],
            [
                run.capture_id,
                run.owner,
                self._lease_ms,
                self._keep_ms,
                opened,
                self._link.address.index,
            ],
        )
        if reply != b"OK":
            raise CaptureTaken(is_expired=reply == b"EXPIRED")

    async def append(
        self, run: Run, first_seq: int, frames: Sequence[tuple[bytes, bytes]]
    ) -> None:
        """See `CaptureStore`."""
        args: list[Argument] = [
            run.capture_id,
            run.owner,
            self._lease_ms,
            self._keep_ms,
            self._link.address.maxlen,
            first_seq,
        ]
        for pair in frames:
            args += pair
        _check(await self._link.script(scripts.APPEND, self._keys(run), args))

    async def renew(self, run: Run) -> None:
        """See `CaptureStore`."""
        args: list[Argument] = [run.capture_id, run.owner, self._lease_ms, self._keep_ms]
        _check(await self._link.script(scripts.RENEW, self._keys(run), args))

    async def finish(self, run: Run, terminal: bytes, last_seq: int | None) -> None:
        """See `CaptureStore`."""
        last = -1 if last_seq is None else last_seq
        args: list[Argument] = [run.capture_id, run.owner, self._keep_ms, terminal, last]
        _check(await self._link.script(scripts.FINISH, self._keys(run), args))

    async def lost(self, partition: int) -> list[LostCapture]:
        """See `CaptureStore`."""
        names = Names(self._prefix, partition)
        found = await self._link.script(scripts.EXPIRED, [names.deadlines], [_AT_A_TIME])
        lost = []
        for capture_id in [name.decode() for name in found]:
            key = names.lease(capture_id)
            fields = await self._link.ask(lambda key=key: self._link.client.hgetall(key))  # type: ignore[misc]
            if fields:
                lost.append(_lost(capture_id, fields))
            else:
                await self._link.script(scripts.FORGET, [key, names.deadlines], [capture_id])
        return lost

    async def seal(self, capture: LostCapture, terminal: bytes) -> bool:
        """See `CaptureStore`."""
        names = Names.of(self._prefix, capture.capture_id)
        keys = [names.lease(capture.capture_id), names.deadlines, capture.stream]
        args: list[Argument] = [
            capture.capture_id,
            capture.owner,
            self._keep_ms,
            terminal,
            capture.frames,
        ]
        return bool(await self._link.script(scripts.SEAL, keys, args))

    def _keys(self, run: Run) -> list[str]:
        names = Names.of(self._prefix, run.capture_id)
        stream = names.frames(run.capture_id, run.opened_ns)
        return [names.lease(run.capture_id), names.deadlines, stream]


def _check(reply: Any) -> None:
    if reply == b"LOST":
        raise LeaseLost("the lease of the capture has run out")
    if reply == b"TAIL":
        raise TailLost("the server has lost frames that it had acknowledged")
    assert reply == b"OK", reply


def _lost(capture_id: str, fields: dict[bytes, bytes]) -> LostCapture:
    return LostCapture(
        capture_id=capture_id,
        owner=fields[b"owner"].decode(),
        stream=fields[b"stream"].decode(),
        opened=fields[b"opened"],
        frames=int(fields[b"last"]),
        bytes=int(fields[b"bytes"]),
    )

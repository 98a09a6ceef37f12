"""Captures in the server: what a worker does with its own, and with those left behind.

A capture is a *run*: one lease, one stream. All a run writes goes through scripts that look at
the lease first, so a worker that has lost it cannot write behind whoever ended the capture.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import attrs

from cfw.valkey import _scripts as scripts
from cfw.valkey._aside import Partitions
from cfw.valkey._link import Link, WrongKind, eval_of
from cfw.valkey._names import Names, aside
from cfw.valkey._pipeline import Argument, Head, packed
from cfw.valkey._replies import (
    LEASE_FIELDS,
    LostCapture,
    Unreadable,
    lost_capture,
    name_of,
    shown,
)

#: Captures that are looked at in one go after their workers died.
_AT_A_TIME = 100
#: So many frames of one capture wait for no others: they are worth a turn, and come from a rig
#: that is faster than turns are.
_MANY = 4
#: What `PUT_ASIDE` answers when there was a lease to put aside.
_WITH_LEASE = 2


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


@attrs.frozen(kw_only=True, eq=False)
class Run:
    """One capture on one connection; no other is equal to it.

    Args:
        capture_id: the id the rig chose.
        opened_ns: when the worker took its `capture.open`, nanoseconds since 1970 UTC.
        owner: a random value that no other run has.
    """

    capture_id: str
    opened_ns: int
    owner: str = attrs.field(factory=lambda: secrets.token_hex(16))


class CaptureStore(Protocol):
    """What the sink needs of a server. All of it may raise ValkeyFailed.

    Attributes:
        unreadable: what it has found there that no worker can have written.
    """

    @property
    def unreadable(self) -> int: ...

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
            Unreadable: nothing was written; the lease is not what it was.
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
        """Captures of a partition whose lease has run out.

        A lease that cannot be read is put aside, so that it is not found again.
        """

    async def seal(self, capture: LostCapture, terminal: bytes) -> bool:
        """Write the terminal of a lost capture; whether it was this call that did."""


def _ignore(*_: object) -> None: ...


class ScriptStore:
    """The store of a server or cluster, through its scripts.

    Args:
        link: an open connection.
        told: called with each thing found there that no worker can have written; must not
            raise.
    """

    def __init__(self, link: Link, told: Callable[[Unreadable], object] = _ignore) -> None:
        self._link = link
        self._partitions = Partitions(link, told)
        address = link.address
        self._prefix = address.prefix
        self._lease_ms = round(1000 * address.lease_s)
        self._keep_ms = round(1000 * address.keep_s)
        self._paths: WeakKeyDictionary[Run, tuple[list[str], Head]] = WeakKeyDictionary()

    @property
    def unreadable(self) -> int:
        """See `CaptureStore`."""
        return self._partitions.unreadable

    async def begin(self, run: Run, opened: bytes) -> None:
        """See `CaptureStore`."""
        names = Names.of(self._prefix, run.capture_id)
        reply = await self._partitions.run(
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
        keys, head = self._path(run)
        words: list[Argument] = [first_seq]
        for pair in frames:
            words += pair
        command, may_wait = packed(words, head), len(frames) < _MANY
        self._check(
            keys,
            await self._partitions.over(
                keys, lambda: self._link.run(keys[0], command, may_wait=may_wait)
            ),
        )

    def _path(self, run: Run) -> tuple[list[str], Head]:
        """What all appends of a run have in common: they are made for each frame."""
        found = self._paths.get(run)
        if found is None:
            keys = self._keys(run)
            args = (self._lease_ms, self._keep_ms, self._link.address.maxlen)
            head = eval_of(scripts.APPEND, keys, run.capture_id, run.owner, *args)
            found = self._paths[run] = keys, head
        return found

    async def renew(self, run: Run) -> None:
        """See `CaptureStore`."""
        args: list[Argument] = [run.capture_id, run.owner, self._lease_ms, self._keep_ms]
        await self._checked(scripts.RENEW, run, args)

    async def finish(self, run: Run, terminal: bytes, last_seq: int | None) -> None:
        """See `CaptureStore`."""
        last = -1 if last_seq is None else last_seq
        args: list[Argument] = [run.capture_id, run.owner, self._keep_ms, terminal, last]
        await self._checked(scripts.FINISH, run, args)

    async def lost(self, partition: int) -> list[LostCapture]:
        """See `CaptureStore`."""
        names = Names(self._prefix, partition)
        found = await self._partitions.run(scripts.EXPIRED, [names.deadlines], [_AT_A_TIME])
        return [
            capture
            for member in found
            if (capture := await self._lost(names, member)) is not None
        ]

    async def _lost(self, names: Names, member: bytes) -> LostCapture | None:
        """The capture behind a member of the deadlines; if there is none, it is put aside."""
        key = names.lease(shown(member))
        odd: Unreadable | None = None
        try:
            capture_id = name_of(names, member)
            key = names.lease(capture_id)
            values = await self._link.ask(lambda: self._link.client.hmget(key, LEASE_FIELDS))
            fields = {
                name: value
                for name, value in zip(LEASE_FIELDS, values, strict=True)
                if value is not None
            }
            if fields:
                return lost_capture(names, capture_id, fields)
        except WrongKind:
            odd = Unreadable(key, "is no hash")
        except Unreadable as exc:
            odd = exc
        args: list[Argument] = [member, self._keep_ms]
        put = await self._link.script(
            scripts.PUT_ASIDE, [key, names.deadlines, aside(key)], args
        )
        if put == _WITH_LEASE and odd is None:
            odd = Unreadable(key, "has no field of a lease")
        if put and odd is not None:
            self._partitions.note(odd)
        return None

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
        return bool(await self._partitions.run(scripts.SEAL, keys, args))

    def _keys(self, run: Run) -> list[str]:
        names = Names.of(self._prefix, run.capture_id)
        stream = names.frames(run.capture_id, run.opened_ns)
        return [names.lease(run.capture_id), names.deadlines, stream]

    async def _checked(self, script: str, run: Run, args: Sequence[Argument]) -> None:
        """Run a script that first looks whether the lease is the run's."""
        keys = self._keys(run)
        self._check(keys, await self._partitions.run(script, keys, args))

    def _check(self, keys: Sequence[str], reply: Any) -> None:
        if reply == b"OK":
            return
        if reply == b"LOST":
            raise LeaseLost("the lease of the capture has run out")
        if reply == b"TAIL":
            raise TailLost("the server has lost frames that it had acknowledged")
        odd = Unreadable(keys[0], "has lost count of its frames")
        self._partitions.note(odd)
        raise odd

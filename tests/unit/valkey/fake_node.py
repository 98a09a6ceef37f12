"""A node in memory, behind a pipeline: what it is sent, and when it answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio
from coredis.parser import NotEnoughData, Parser
from trio.testing import memory_stream_pair

from cfw.valkey._pipeline import Argument, Pipeline

#: A command as the node gets it.
Words = list[bytes]
GREETING: list[list[Argument]] = [["HELLO", 3]]
OK = b"+OK\r\n"


def bulk(text: bytes) -> bytes:
    """An answer with bytes."""
    return b"$%d\r\n%b\r\n" % (len(text), text)


def echo(words: Words) -> bytes:
    """What a node answers: what it was told, and that it is ready to be told."""
    return OK if words[0] == b"HELLO" else bulk(b" ".join(words[1:]))


@attrs.define
class FakeNode:
    """Takes commands in order; it has carried one out before it answers.

    Args:
        says: the answer to a command, as it is sent.
        delay_s: from a write to its answers; infinite for none.
        connect_s: how long it takes to have a connection.
        answer_s: how long a pipeline waits for an answer.
        connect_limit_s: how long it waits for a connection.
        replicas: how many must have a turn.

    Attributes:
        turns: when writes came, and their commands.
        writes: how many there were since the greeting.
    """

    says: Callable[[Words], bytes] = echo
    delay_s: float = 0.001
    connect_s: float = 0
    answer_s: float = 2
    connect_limit_s: float = 1
    replicas: int = 0
    turns: list[tuple[float, list[Words]]] = attrs.Factory(list)
    writes: int = -1
    _theirs: trio.StapledStream[Any, Any] | None = None
    _nursery: trio.Nursery | None = None

    @asynccontextmanager
    async def pipeline(self) -> AsyncIterator[Pipeline]:
        """A pipeline to it that runs for as long as a block."""
        async with trio.open_nursery() as self._nursery:
            made = Pipeline(
                self._connect,
                GREETING,
                connect_s=self.connect_limit_s,
                answer_s=self.answer_s,
                replicas=self.replicas,
                replicas_s=1,
            )
            self._nursery.start_soon(made.run)
            yield made
            self._nursery.cancel_scope.cancel()

    @property
    def commands(self) -> list[Words]:
        """All that was carried out, in order."""
        return [words for _, turn in self.turns for words in turn]

    def cut(self) -> None:
        """Break the connection, if there is one."""
        if self._theirs is not None:
            self._theirs.send_stream.close()
            self._theirs.receive_stream.close()

    async def _connect(self) -> trio.abc.Stream:
        await trio.sleep(self.connect_s)
        ours, self._theirs = memory_stream_pair()
        carry: Any = ours.send_stream.send_all_hook

        async def count() -> None:
            self.writes += 1
            await carry()

        ours.send_stream.send_all_hook = count
        assert self._nursery is not None
        self._nursery.start_soon(self._serve, self._theirs)
        return ours

    async def _serve(self, stream: trio.StapledStream[Any, Any]) -> None:
        parser = Parser()
        try:
            while data := await stream.receive_some():
                parser.feed(bytes(data))
                turn: list[Words] = []
                while not isinstance(found := parser.parse(), NotEnoughData):
                    turn.append(found[1])  # type: ignore[arg-type]
                answers = b"".join(map(self.says, turn))
                if turn[0][0] != b"HELLO":
                    self.turns.append((trio.current_time(), turn))
                    await trio.sleep(self.delay_s)
                await stream.send_all(answers)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

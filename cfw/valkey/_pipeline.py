"""Scripts on their way to one node, all on one connection, and their answers.

What all captures have waiting goes out in one write, a turn. Frames that come shortly behind a
turn wait for the next one, so at a pace a turn has those of many rigs, and one wake-up, one
write and one read serve them all. Each script stays a command of its own: it runs or fails
alone, and who gave up the wait for its answer takes nothing from the others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, TypeAlias

import attrs
import trio
from coredis.constants.resp import DataType
from coredis.exceptions import ConnectionError as ConnectionLost
from coredis.exceptions import RedisError, ReplicationError
from coredis.parser import NotEnoughData, Parser

from cfw.tasks.nurseries import open_plain_nursery

#: What a script is given besides its keys.
Argument: TypeAlias = str | bytes | int
#: From one turn to the next, for what may wait; and from one look for answers to the next,
#: while there are more to come. So a frame is acknowledged some 25 ms after it came at most; a
#: forward buffer that is full has 50 to make room.
GATHER_S = 0.01
#: A turn that has so many bytes is worth it: it waits for no more.
FULL_BYTES = 1 << 20
#: Answers are some 8 bytes each, those of consumers some kilobytes.
_READ_BYTES = 1 << 16
#: Bytes so long are sent as they are; shorter words are put together first.
_LONG_BYTES = 1 << 12


@attrs.frozen
class Head:
    """The words that commands of a kind begin with, put together once.

    Args:
        words: how many there are.
        text: as they are sent.
    """

    words: int
    text: bytes

    @classmethod
    def of(cls, *words: Argument) -> Head:
        """Put them together."""
        return cls(len(words), b"".join(map(_packed, words)))


_NO_HEAD = Head(0, b"")


def packed(words: Sequence[Argument], head: Head = _NO_HEAD) -> list[bytes]:
    """A command as it is sent, in pieces, so that no long word of it is copied.

    Args:
        words: its name and its arguments, or what is behind `head`.
        head: what stands before them.
    """
    pieces: list[bytes] = []
    short = b"*%d\r\n%b" % (head.words + len(words), head.text)
    for word in words:
        if type(word) is bytes and len(word) >= _LONG_BYTES:
            pieces += (b"%b$%d\r\n" % (short, len(word)), word)
            short = b"\r\n"
        else:
            short += _packed(word)
    pieces.append(short)
    return pieces


def _packed(word: Argument) -> bytes:
    if isinstance(word, str):
        word = word.encode()
    elif isinstance(word, int):
        word = b"%d" % word
    return b"$%d\r\n%b\r\n" % (len(word), word)


@attrs.define(eq=False)
class _Asked:
    """A command on its way.

    Args:
        pieces: what is to be sent; none any more when it was, or nobody waits.
        size: bytes of those.
        may_wait: see `Pipeline.ask`.
        heralds: see there.
        until: see there.
        task: who waits for the answer; None when nobody does any more.
        answer: what has come.
    """

    pieces: Sequence[bytes]
    size: int
    may_wait: bool
    heralds: int
    until: float
    task: trio.lowlevel.Task | None
    answer: Any = None

    def give_up(self, _: object) -> trio.lowlevel.Abort:
        """Nobody waits any more; frames that were not sent are let go."""
        self.task, self.pieces = None, ()
        return trio.lowlevel.Abort.SUCCEEDED

    def tell(self, answer: Any) -> None:
        """Wake who waits, if anybody does."""
        if (task := self.task) is not None:
            self.task, self.pieces, self.answer = None, (), answer
            trio.lowlevel.reschedule(task)


class Pipeline:
    """One connection, from the moment it is wanted until it breaks.

    Memory: what is waiting or being sent belongs to captures whose forward buffers count it,
    but for one turn, which is a copy.

    Args:
        connect: makes the connection.
        greeting: commands that come first; one that is refused ends it.
        connect_s: time for both.
        answer_s: time for the answer to a command, from when it is asked.
        replicas: how many must have each turn before its scripts count as run.
        replicas_s: how long they may take.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[trio.abc.Stream]],
        greeting: Sequence[Sequence[Argument]],
        *,
        connect_s: float,
        answer_s: float,
        replicas: int = 0,
        replicas_s: float = 0,
    ) -> None:
        self._connect = connect
        self._greeting = greeting
        self._connect_s = connect_s
        self._answer_s = answer_s
        self._replicas = replicas
        self._replicas_ms = round(1000 * replicas_s)
        self._waiting: deque[_Asked] = deque()
        self._waiting_bytes = 0
        # In the order of their answers; None for one that nobody wants, and a turn where the
        # answer says how many replicas have it.
        self._sent: deque[_Asked | list[_Asked] | None] = deque()
        # How many of those may not wait.
        self._hurried = 0
        # There is something to send; it cannot wait; all of the last turn has been replicated.
        self._asked, self._pressed, self._replicated = (trio.Event() for _ in range(3))
        self._failure: Callable[[], RedisError] | None = None

    @property
    def has_ended(self) -> bool:
        """Whether it takes no commands any more."""
        return self._failure is not None

    async def ask(
        self, pieces: Sequence[bytes], *, may_wait: bool = False, heralds: int = 0
    ) -> Any:
        """Send a command and wait for its answer.

        Args:
            pieces: as `packed` gives them.
            may_wait: for a little while, for others to go along with.
            heralds: how many commands stand before it in `pieces` whose answers do not count.

        Raises:
            RedisError: the answer is an error, the connection could not be made, or broke.
            trio.TooSlowError: there was none in time.

        Cancellation: it may have been run, or will be, unless it was still waiting. Others are
            not touched.
        """
        if self._failure is not None:
            raise self._failure()
        size, task = sum(map(len, pieces)), trio.lowlevel.current_task()
        until = trio.current_time() + self._answer_s
        asked = _Asked(pieces, size, may_wait, heralds, until, task)
        self._waiting.append(asked)
        self._waiting_bytes += size
        self._asked.set()
        if not may_wait or self._waiting_bytes >= FULL_BYTES:
            self._pressed.set()
        await trio.lowlevel.wait_task_rescheduled(asked.give_up)
        if isinstance(asked.answer, Exception):
            raise asked.answer
        return asked.answer

    async def run(self) -> None:
        """Make the connection and use it until it breaks; raises nothing.

        Cancellation: all that is asked fails.
        """
        stream: trio.abc.Stream | None = None
        parser = Parser()
        try:
            with trio.fail_after(self._connect_s):
                stream = await self._connect()
                await self._greet(stream, parser)
            async with open_plain_nursery() as nursery:
                nursery.start_soon(self._write, stream)
                nursery.start_soon(self._expire)
                await self._read(stream, parser)
        except trio.TooSlowError:
            self._end(ConnectionLost, "Unable to establish a connection", TimeoutError())
        except RedisError as exc:
            self._end(type(exc), str(exc), exc.__cause__)
        except Exception as exc:
            # Whatever it is: the network fails in many ways, and so does what was no server.
            what = "Connection lost!" if stream else "Unable to establish a connection"
            self._end(ConnectionLost, what, exc)
        finally:
            self._end(ConnectionLost, "Connection closed", None)
            if stream is not None:
                await trio.aclose_forcefully(stream)

    def _end(self, kind: type[RedisError], what: str, cause: BaseException | None) -> None:
        """Tell everybody who waits, and who comes later; the first reason counts."""
        if self._failure is not None:
            return

        def failure() -> RedisError:
            # One for each who is told: they are raised in several tasks.
            exc = kind(what)
            exc.__cause__ = cause
            return exc

        self._failure = failure
        for asked in self._open():
            asked.tell(failure())
        self._waiting.clear()
        self._sent.clear()

    async def _greet(self, stream: trio.abc.Stream, parser: Parser) -> None:
        pieces = [piece for words in self._greeting for piece in packed(words)]
        await stream.send_all(b"".join(pieces))
        missing = len(self._greeting)
        while missing:
            for answer in await _answers(stream, parser):
                if isinstance(answer, Exception):
                    raise answer
                missing -= 1

    # --- sending ------------------------------------------------------------------------------

    async def _write(self, stream: trio.abc.Stream) -> None:
        next_at = trio.current_time()
        while True:
            await self._asked.wait()
            if trio.current_time() < next_at and not self._pressed.is_set():
                with trio.move_on_at(next_at):
                    await self._pressed.wait()
            if data := self._turn():
                next_at = trio.current_time() + GATHER_S
                await stream.send_all(data)
                del data  # else it would be held until there is more
                if self._replicas:
                    # One at a time: the server keeps what comes while it waits, without bounds.
                    await self._replicated.wait()

    def _turn(self) -> bytes:
        """What waits, some `FULL_BYTES` of it at most; empty when all have given up."""
        turn: list[_Asked] = []
        pieces: list[bytes] = []
        size = 0
        while self._waiting and size < FULL_BYTES:
            asked = self._waiting.popleft()
            self._waiting_bytes -= asked.size
            if asked.task is not None:
                turn.append(asked)
                pieces += asked.pieces
                size += asked.size
                asked.pieces = ()
                self._sent.extend([None] * asked.heralds)
                self._sent.append(asked)
                self._hurried += not asked.may_wait
        if not self._waiting:
            self._asked = trio.Event()
            if self._pressed.is_set():  # else the reader may wait for it
                self._pressed = trio.Event()
        if turn and self._replicas:
            self._replicated = trio.Event()
            self._sent.append(turn)
            pieces += packed(["WAIT", self._replicas, self._replicas_ms])
        return b"".join(pieces)

    # --- answers ------------------------------------------------------------------------------

    async def _read(self, stream: trio.abc.Stream, parser: Parser) -> None:
        while True:
            for answer in await _answers(stream, parser):
                self._settle(answer)
            if self._sent and not self._hurried:
                with trio.move_on_after(GATHER_S):
                    await self._pressed.wait()

    def _settle(self, answer: Any) -> None:
        if not self._sent:
            raise ConnectionLost("The server answers what nobody has asked")
        sent = self._sent.popleft()
        if isinstance(sent, list):
            self._replicated.set()
            for asked in sent:
                self._tell_replicated(asked, answer)
        elif sent is not None:
            self._hurried -= not sent.may_wait
            if self._replicas and not isinstance(answer, Exception):
                sent.answer = answer  # told with that of its turn
            else:
                sent.tell(answer)

    def _tell_replicated(self, asked: _Asked, answer: Any) -> None:
        if isinstance(answer, Exception):
            asked.tell(type(answer)(*answer.args))
        elif answer < self._replicas:
            asked.tell(ReplicationError(b"EVAL", self._replicas, self._replicas_ms))
        else:
            asked.tell(asked.answer)

    async def _expire(self) -> None:
        """Tell those whose time is over, so that none of them needs a deadline of its own."""
        while True:
            now = trio.current_time()
            until = now + self._answer_s
            for asked in self._open():
                if asked.until > now:
                    until = asked.until  # and those behind it come later
                    break
                asked.tell(trio.TooSlowError())
            await trio.sleep_until(until)

    def _open(self) -> Iterator[_Asked]:
        """All that somebody waits for, in the order in which it was asked."""
        for sent in (*self._sent, *self._waiting):
            for asked in sent if isinstance(sent, list) else (sent,):
                if asked is not None and asked.task is not None:
                    yield asked


async def _answers(stream: trio.abc.Stream, parser: Parser) -> list[Any]:
    """The answers that have come; an error among them is one."""
    data = await stream.receive_some(_READ_BYTES)
    if not data:
        raise ConnectionLost("Connection lost!")
    parser.feed(bytes(data))
    answers = []
    while not isinstance(found := parser.parse(), NotEnoughData):
        if found[0] != DataType.PUSH:
            answers.append(found[1])
    return answers

"""Scripts of many captures on one connection, on the virtual clock."""

from __future__ import annotations

import math
from typing import Any

import pytest
import trio
from coredis.exceptions import (
    AuthenticationFailureError,
    RedisError,
    ReplicationError,
    ResponseError,
)
from coredis.exceptions import ConnectionError as ConnectionLost
from trio.testing import MockClock

from cfw.valkey._pipeline import FULL_BYTES, GATHER_S, Head, Pipeline, packed
from tests.unit.valkey.fake_node import OK, FakeNode, Words, bulk, echo


async def asked(pipeline: Pipeline, *words: str, may_wait: bool = True) -> Any:
    return await pipeline.ask(packed(["DO", *words]), may_wait=may_wait)


async def outcomes(pipeline: Pipeline, *names: str) -> dict[str, Any]:
    """What several ask at once; an error is one, too."""
    found: dict[str, Any] = {}

    async def one(name: str) -> None:
        try:
            found[name] = await asked(pipeline, name)
        except (RedisError, trio.TooSlowError) as exc:
            found[name] = exc

    async with trio.open_nursery() as nursery:
        for name in names:
            nursery.start_soon(one, name)
    return found


def test_a_command_is_packed_as_the_protocol_has_it() -> None:
    """Words of all kinds, behind a head or not; long bytes are a piece of their own."""
    assert packed(["A", 12, b"\r\n", "é"]) == [
        b"*4\r\n$1\r\nA\r\n$2\r\n12\r\n$2\r\n\r\n\r\n$2\r\n\xc3\xa9\r\n"
    ]
    head = Head.of("EVAL", "return", 0)
    assert b"".join(packed([b"x"], head)) == b"".join(packed(["EVAL", "return", 0, b"x"]))
    for size in (4095, 4096, 4097):
        long = bytes(size)
        pieces = packed(["A", long, b"z"])
        assert b"".join(pieces) == b"*3\r\n$1\r\nA\r\n$%d\r\n%b\r\n$1\r\nz\r\n" % (size, long)
        assert any(piece is long for piece in pieces) == (size >= 4096)


async def test_what_several_ask_goes_out_in_one_write(autojump_clock: MockClock) -> None:
    """Each gets the answer to its own command, an error too, and nobody gets another's."""

    def says(words: Words) -> bytes:
        return b"-ERR not this one\r\n" if words[1:] == [b"b"] else echo(words)

    node = FakeNode(says)
    async with node.pipeline() as pipeline:
        found = await outcomes(pipeline, "a", "b", "c")
    assert found["a"] == b"a"
    assert found["c"] == b"c"
    assert isinstance(found["b"], ResponseError)
    assert len(node.turns) == 1


async def test_what_may_wait_goes_with_the_next_turn(autojump_clock: MockClock) -> None:
    """The first at once, all that come within GATHER_S together, and what may not wait pulls
    the others along."""
    node = FakeNode()
    times: dict[str, float] = {}
    async with node.pipeline() as pipeline, trio.open_nursery() as nursery:
        began = trio.current_time() + 1

        async def one(name: str, at_s: float, may_wait: bool) -> None:
            await trio.sleep_until(began + at_s)
            await asked(pipeline, name, may_wait=may_wait)
            times[name] = trio.current_time() - began

        for name, at_s, may_wait in (
            ("a", 0, True),
            ("b", 0.2 * GATHER_S, True),
            ("c", 0.8 * GATHER_S, True),
            ("d", 1.1 * GATHER_S, True),
            ("e", 1.3 * GATHER_S, False),
            ("f", 9 * GATHER_S, True),
        ):
            nursery.start_soon(one, name, at_s, may_wait)
    sent = [
        (round((at - began) / GATHER_S, 3), b"".join(words[1] for words in turn))
        for at, turn in node.turns
    ]
    assert sent == [(0, b"a"), (1, b"bc"), (1.3, b"de"), (9, b"f")]
    # Nobody waits for an answer that has come much longer than a turn takes.
    assert times["e"] == pytest.approx(1.3 * GATHER_S + node.delay_s)
    assert times["f"] == pytest.approx(9 * GATHER_S + node.delay_s)
    assert max(times.values()) < 11 * GATHER_S


@pytest.mark.parametrize(("more", "writes"), [(-1, 1), (0, 2), (1, 2)])
async def test_a_turn_is_bounded(autojump_clock: MockClock, more: int, writes: int) -> None:
    """Behind FULL_BYTES the next turn begins, without waiting, and none of it is lost."""
    node = FakeNode(says=lambda words: OK, connect_s=0.5)
    around = sum(map(len, packed(["DO", bytes(FULL_BYTES)]))) - FULL_BYTES
    commands = [packed(["DO", bytes(FULL_BYTES - around + more)]), packed(["DO", "next"])]
    assert sum(map(len, commands[0])) == FULL_BYTES + more
    async with node.pipeline() as pipeline, trio.open_nursery() as nursery:
        for command in commands:
            nursery.start_soon(pipeline.ask, command)
            await trio.sleep(0.1)
        await trio.sleep(0.3 + GATHER_S / 2)
        assert node.writes == writes
    assert len(node.commands) == 2


async def test_full_does_not_wait(autojump_clock: MockClock) -> None:
    """FULL_BYTES that may wait go at once all the same."""
    node = FakeNode(says=lambda words: OK)
    async with node.pipeline() as pipeline:
        await asked(pipeline, "first")
        began = trio.current_time()
        await pipeline.ask(packed(["DO", bytes(FULL_BYTES)]), may_wait=True)
        assert trio.current_time() - began < GATHER_S


async def test_who_gives_up_before_it_is_sent_is_not_sent(autojump_clock: MockClock) -> None:
    """Its frames are let go at once; the others of the turn go out."""
    node = FakeNode()
    async with node.pipeline() as pipeline:
        await asked(pipeline, "first")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(asked, pipeline, "other")
            with trio.move_on_after(GATHER_S / 4) as scope:
                await asked(pipeline, "gone")
            assert scope.cancelled_caught
            assert [one.pieces for one in pipeline._waiting if one.task is None] == [()]
    assert [words[1] for words in node.commands] == [b"first", b"other"]


async def test_who_gives_up_when_it_is_sent_takes_nothing_from_the_others(
    autojump_clock: MockClock,
) -> None:
    """Its answer comes and is dropped; the connection stays."""
    node = FakeNode(delay_s=0.5)
    found = {}
    async with node.pipeline() as pipeline:
        async with trio.open_nursery() as nursery:

            async def other() -> None:
                found["other"] = await asked(pipeline, "other")

            nursery.start_soon(other)
            with trio.move_on_after(0.1) as scope:
                await asked(pipeline, "gone")
            assert scope.cancelled_caught
        assert await asked(pipeline, "next") == b"next"
    assert found == {"other": b"other"}
    assert {words[1] for words in node.commands} == {b"gone", b"other", b"next"}


@pytest.mark.parametrize(("delay_s", "is_late"), [(1.9, False), (2.1, True)])
async def test_an_answer_has_its_time(
    autojump_clock: MockClock, delay_s: float, is_late: bool
) -> None:
    """From when it was asked; one that comes later is dropped, and the connection stays."""
    node = FakeNode(delay_s=delay_s)
    async with node.pipeline() as pipeline:
        for _ in range(2):
            began = trio.current_time()
            if is_late:
                with pytest.raises(trio.TooSlowError):
                    await asked(pipeline, "a")
                assert trio.current_time() - began == pytest.approx(node.answer_s)
                await trio.sleep(delay_s)
            else:
                assert await asked(pipeline, "a") == b"a"
        node.delay_s = 0.1
        assert await asked(pipeline, "b") == b"b"
        assert not pipeline.has_ended


async def test_each_has_a_time_of_its_own(autojump_clock: MockClock) -> None:
    """Also behind one that has been answered, and one that was asked long before."""
    node = FakeNode(delay_s=math.inf)
    told: dict[float, float] = {}
    async with node.pipeline() as pipeline:
        began = trio.current_time()

        async def one(at_s: float) -> None:
            await trio.sleep(at_s)
            with pytest.raises(trio.TooSlowError):
                await asked(pipeline, "a")
            told[at_s] = trio.current_time() - began

        async with trio.open_nursery() as nursery:
            for at_s in (0.0, 0.3, 1.7, 2.5):
                nursery.start_soon(one, at_s)
    assert told == pytest.approx({at_s: at_s + node.answer_s for at_s in told})


async def test_a_connection_that_breaks_is_told_to_all(autojump_clock: MockClock) -> None:
    """To those whose commands were sent, those that wait for a turn, and who comes later."""
    node = FakeNode(delay_s=math.inf)
    async with node.pipeline() as pipeline:
        async with trio.open_nursery() as nursery:

            async def cut() -> None:
                await trio.sleep(GATHER_S / 2)
                node.cut()

            async def late() -> None:
                await trio.sleep(GATHER_S / 4)
                found.update(await outcomes(pipeline, "c"))

            found: dict[str, Any] = {}
            nursery.start_soon(cut)
            nursery.start_soon(late)
            found.update(await outcomes(pipeline, "a", "b"))
        assert pipeline.has_ended
        with pytest.raises(ConnectionLost):
            await asked(pipeline, "d")
    assert set(found) == {"a", "b", "c"}
    assert all(isinstance(one, ConnectionLost) for one in found.values())


@pytest.mark.parametrize(("connect_s", "is_made"), [(0.9, True), (1.1, False)])
async def test_a_connection_is_made_in_time_or_not_at_all(
    autojump_clock: MockClock, connect_s: float, is_made: bool
) -> None:
    """All that wait for it are told together; the words name what to look at."""
    node = FakeNode(connect_s=connect_s)
    async with node.pipeline() as pipeline:
        found = await outcomes(pipeline, "a", "b")
    if is_made:
        assert found == {"a": b"a", "b": b"b"}
    else:
        for exc in found.values():
            assert isinstance(exc, ConnectionLost)
            assert isinstance(exc.__cause__, TimeoutError)


async def test_a_greeting_that_is_refused_is_told_to_all(autojump_clock: MockClock) -> None:
    """As what it is; that is no connection lost, which would be tried again."""
    node = FakeNode(says=lambda _: b"-WRONGPASS invalid username-password pair\r\n")
    async with node.pipeline() as pipeline:
        found = await outcomes(pipeline, "a", "b")
    assert all(isinstance(one, AuthenticationFailureError) for one in found.values())
    assert node.turns == []


@pytest.mark.parametrize("garbage", [b"HTTP/1.1 400 Bad Request\r\n", OK + OK, b"$x\r\n"])
async def test_answers_of_what_is_no_such_server_end_it(
    autojump_clock: MockClock, garbage: bytes
) -> None:
    """One too many would be another's: nobody is given it."""
    node = FakeNode(says=lambda words: OK if words[0] == b"HELLO" else garbage)
    async with node.pipeline() as pipeline:
        (found,) = (await outcomes(pipeline, "a")).values()
        await trio.sleep(1)
        assert pipeline.has_ended
    assert found == b"OK" if garbage == OK + OK else isinstance(found, RedisError)


async def test_a_message_pushed_between_answers_is_nobodys(autojump_clock: MockClock) -> None:
    """As RESP3 allows at any time."""
    node = FakeNode(says=lambda words: b">2\r\n+invalidate\r\n*0\r\n" + echo(words))
    async with node.pipeline() as pipeline:
        assert await asked(pipeline, "a") == b"a"
        assert await asked(pipeline, "b") == b"b"


@pytest.mark.parametrize(("have", "is_enough"), [(0, False), (1, False), (2, True), (3, True)])
async def test_a_turn_counts_when_replicas_have_it(
    autojump_clock: MockClock, have: int, is_enough: bool
) -> None:
    """One WAIT for all of it; an error of a script is told as what it is."""

    def says(words: Words) -> bytes:
        if words[0] == b"WAIT":
            return b":%d\r\n" % have
        return b"-ERR no\r\n" if words[1:] == [b"b"] else echo(words)

    node = FakeNode(says, replicas=2)
    async with node.pipeline() as pipeline:
        found = await outcomes(pipeline, "a", "b", "c")
    assert node.commands[-1] == [b"WAIT", b"2", b"1000"]
    assert len(node.commands) == 4
    assert isinstance(found.pop("b"), ResponseError)
    if is_enough:
        assert found == {"a": b"a", "c": b"c"}
    else:
        assert all(isinstance(one, ReplicationError) for one in found.values())


async def test_replicas_are_waited_for_one_turn_at_a_time(autojump_clock: MockClock) -> None:
    """The server keeps what it is sent while it waits: that must not be without bounds."""

    def says(words: Words) -> bytes:
        return b":1\r\n" if words[0] == b"WAIT" else echo(words)

    node = FakeNode(says, delay_s=0.5, replicas=1)
    async with node.pipeline() as pipeline, trio.open_nursery() as nursery:
        for at_s in (0, 0.1, 0.2, 0.3):

            async def one(at_s: float = at_s) -> None:
                await trio.sleep(at_s)
                assert await asked(pipeline, str(at_s)) == str(at_s).encode()

            nursery.start_soon(one)
    assert [len(turn) - 1 for _, turn in node.turns] == [1, 3]


async def test_answers_may_come_in_any_pieces(autojump_clock: MockClock) -> None:
    """A byte at a time, and all at once."""
    text = b"-ERR\r\n" + bulk(b"a\r\nb") + b"*2\r\n:1\r\n_\r\n"
    for cut in range(len(text) + 1):
        ours, theirs = trio.testing.memory_stream_pair()

        async def connect(stream: trio.abc.Stream = ours) -> trio.abc.Stream:
            return stream

        pipeline = Pipeline(connect, [], connect_s=1, answer_s=2)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pipeline.run)
            found: list[Any] = []

            async def ask_all(pipeline: Pipeline = pipeline, into: list[Any] = found) -> None:
                into.append(await outcomes(pipeline, "x", "y", "z"))

            nursery.start_soon(ask_all)
            await theirs.receive_some()
            await theirs.send_all(text[:cut])
            await trio.sleep(0.1)
            await theirs.send_all(text[cut:])
            await trio.sleep(0.1)
            nursery.cancel_scope.cancel()
        kinds = [
            one if not isinstance(one, Exception) else "error" for one in found[0].values()
        ]
        assert sorted(map(str, kinds)) == sorted(["error", str(b"a\r\nb"), "[1, None]"])

"""Cuts as values, the streams they are played into, and a foreign server that they break."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import trio
from trio.testing import (
    MockClock,
    check_half_closeable_stream,
    check_two_way_stream,
    wait_all_tasks_blocked,
)

import cfw.testing.bytecuts as module
from cfw.testing.bytecuts import (
    KINDS,
    Cut,
    Kind,
    MemoryStream,
    Recorder,
    bytecuts,
    stream_pair,
)

WORDS = b"hello, peer"


# --- cuts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_each_cut_is_replayed_from_its_text(kind: Kind) -> None:
    """The text names the cut among all others, and makes the same writes again."""
    cuts = list(bytecuts(WORDS, [kind]))
    assert len({str(cut) for cut in cuts}) == len(cuts) >= len(WORDS) - 1
    for cut in cuts:
        again = Cut.parse(str(cut), WORDS)
        assert (again, again.writes) == (cut, cut.writes)
        assert all(again.writes)


@pytest.mark.parametrize(
    ("text", "writes"),
    [
        ("eof@0", []),
        ("eof@11", [WORDS]),
        ("reset@5", [b"hello"]),
        ("stall@1", [b"h"]),
        ("split@5", [b"hello", b", peer"]),
        ("trickle@8:2", [b"hello, p", b"e", b"e", b"r"]),
        ("trickle@9:16", [b"hello, pe", b"e", b"r"]),
        ("flip@0:5", [b"Hello, peer"]),
        ("insert@11:33", [b"hello, peer!"]),
        ("delete@10", [b"hello, pee"]),
    ],
)
def test_what_is_written(text: str, writes: list[bytes]) -> None:
    """Each kind does to the bytes what its row in the table says."""
    assert Cut.parse(text, WORDS).writes == writes


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("eof", "KIND@OFFSET"),
        ("melt@3", "no kind of cut"),
        ("eof@12", "outside of these 11 bytes"),
        ("split@0", "outside"),
        ("delete@11", "outside"),
        ("eof@3:1", "takes no detail"),
        ("flip@3", "which bit"),
        ("flip@3:8", "which bit"),
        ("insert@3:256", "which byte"),
        ("trickle@3:0", "how many"),
    ],
)
def test_a_text_that_is_no_cut(text: str, problem: str) -> None:
    """The error says what is wrong with it."""
    with pytest.raises(ValueError, match=problem):
        Cut.parse(text, WORDS)


def test_every_bit_and_every_nth() -> None:
    """Options change how many cuts there are, and nothing else."""
    assert len(list(bytecuts(WORDS, ["flip"], every_bit=True))) == 8 * len(WORDS)
    assert [cut.offset for cut in bytecuts(WORDS, ["eof"], stride=4)] == [0, 4, 8]
    assert {cut.kind for cut in bytecuts(WORDS)} == set(KINDS)
    with pytest.raises(ValueError, match="step"):
        list(bytecuts(WORDS, stride=0))


def test_it_stands_alone() -> None:
    """It imports Trio, attrs, which Trio brings, the standard library and sweeps' streams."""
    assert module.__file__ is not None
    tree = ast.parse(Path(module.__file__).read_text("utf-8"))
    names = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    names |= {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    names = {name for name in names if name.partition(".")[0] not in sys.stdlib_module_names}
    assert names == {"attrs", "trio", "cfw.testing.sweep.streams"}


# --- streams --------------------------------------------------------------------------------


async def make_pair(window_bytes: int | None) -> tuple[MemoryStream, MemoryStream]:
    return stream_pair(window_bytes)


async def make_clogged_pair() -> tuple[MemoryStream, MemoryStream]:
    left, right = stream_pair(2)
    await left.send_all(b"xx")
    await right.send_all(b"xx")
    return left, right


async def test_the_streams_keep_trios_contract() -> None:
    """Trio's own checks of a stream pass, with a window and without."""
    await check_half_closeable_stream(partial(make_pair, None), make_clogged_pair)
    await check_two_way_stream(partial(make_pair, 100_000), make_clogged_pair)


async def test_a_sender_waits_for_its_window(autojump_clock: MockClock) -> None:
    """A full window stops the sender; what is read makes room for as much."""
    left, right = stream_pair(4)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(left.send_all, b"0123456789")
        await wait_all_tasks_blocked()
        assert await right.receive_some() == b"0123"
        await wait_all_tasks_blocked()
        right.stop_reading()
        assert await right.receive_some(3) == b"456"
        assert await right.receive_some(3) == b"7"
        with trio.move_on_after(9) as scope:
            await right.receive_some()
        assert scope.cancelled_caught
        right.resume_reading()
        assert await right.receive_some() == b"89"


async def test_a_clogged_stream_says_so(autojump_clock: MockClock) -> None:
    """`wait_send_all_might_not_block` waits for room, and ends with the connection."""
    left, right = await make_clogged_pair()
    with trio.move_on_after(1) as scope:
        await left.wait_send_all_might_not_block()
    assert scope.cancelled_caught
    await right.receive_some()
    await left.wait_send_all_might_not_block()
    right.reset()
    with pytest.raises(trio.BrokenResourceError):
        await left.wait_send_all_might_not_block()


@pytest.mark.parametrize("end", [MemoryStream.close, MemoryStream.reset])
async def test_what_was_sent_is_read_before_the_end(
    end: Callable[[MemoryStream], None],
) -> None:
    """A closed end is read to its end of file, a reset one to its break."""
    left, right = stream_pair()
    await left.send_all(b"last words")
    end(left)
    end(left)
    assert await right.receive_some() == b"last words"
    if end is MemoryStream.close:
        assert await right.receive_some() == b""
    else:
        with pytest.raises(trio.BrokenResourceError):
            await right.receive_some()
    with pytest.raises(trio.BrokenResourceError):
        await right.send_all(b"too late")
    with pytest.raises(trio.ClosedResourceError):
        await left.receive_some()


async def test_a_recorder_keeps_what_was_sent() -> None:
    """What goes through it is a conversation; what comes back is not."""
    left, right = stream_pair()
    recorder = Recorder(left)
    await recorder.wait_send_all_might_not_block()
    await recorder.send_all(b"ping")
    await right.send_all(b"pong")
    assert await recorder.receive_some() == b"pong"
    await recorder.aclose()
    assert (bytes(recorder.sent), left.is_closed) == (b"ping", True)


# --- playing --------------------------------------------------------------------------------


async def heard(
    stream: trio.abc.Stream, reads: list[bytes | str], count: int, done: trio.Event
) -> None:
    """Record so many reads, or fewer when the connection breaks."""
    try:
        while len(reads) < count:
            reads.append(bytes(await stream.receive_some()) or "eof")
    except trio.BrokenResourceError:
        reads.append("reset")
    done.set()


@pytest.mark.parametrize(
    ("text", "reads"),
    [
        ("eof@5", [b"hello", "eof"]),
        ("reset@5", [b"hello", "reset"]),
        ("stall@5", [b"hello"]),
        ("split@5", [b"hello", b", peer"]),
        ("trickle@8:2", [b"hello, p", b"e", b"e", b"r"]),
        ("delete@10", [b"hello, pee"]),
    ],
)
@pytest.mark.parametrize("is_tcp", [False, True], ids=["memory", "tcp"])
async def test_what_the_other_side_reads(
    text: str, reads: list[bytes | str], is_tcp: bool
) -> None:
    """On a memory stream and on TCP the other side sees the same."""
    seen: list[bytes | str] = []
    done = trio.Event()
    async with trio.open_nursery() as nursery:
        ours: trio.abc.Stream
        theirs: trio.abc.Stream
        if is_tcp:
            (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
            theirs = await trio.testing.open_stream_to_socket_listener(listener)
            ours = await listener.accept()
            await listener.aclose()
        else:
            ours, theirs = stream_pair()
        nursery.start_soon(heard, ours, seen, len(reads), done)
        assert await Cut.parse(text, WORDS).play(theirs, pause_s=0.02)
        with trio.fail_after(5):
            await done.wait()
    await ours.aclose()
    await theirs.aclose()
    if text == "reset@5":
        seen = seen[-1:]  # a reset may overtake what was sent before it
        reads = reads[-1:]
    assert seen == reads


async def test_a_stream_without_halves_is_closed() -> None:
    """Where there is no end of file to send, the whole stream ends."""
    for text in ("eof@5", "reset@5"):
        ours, theirs = stream_pair()
        assert await Cut.parse(text, WORDS).play(Recorder(theirs))
        assert await ours.receive_some() == b"hello"
        assert await ours.receive_some() == b""


async def test_a_peer_that_leaves_early_is_no_error(autojump_clock: MockClock) -> None:
    """`play` says that not all was sent."""
    ours, theirs = stream_pair()
    await ours.aclose()
    assert not await Cut.parse("split@5", WORDS).play(theirs)


async def shout(stream: trio.abc.Stream) -> None:
    """Answer lines in capitals, with a bug: it takes a read for a line."""
    while line := await stream.receive_some():
        await stream.send_all(bytes(line).strip().upper() + b"\n")
        if not line.endswith(b"\n"):
            raise ValueError(f"half a line: {bytes(line)!r}")


async def test_it_finds_the_bugs_of_a_foreign_server(autojump_clock: MockClock) -> None:
    """Cuts within a line, and no others, break a server that takes a read for a line."""
    conversation = b"one\ntwo\n"
    broken = []
    for cut in bytecuts(conversation, ["split", "eof", "stall"]):
        ours, theirs = stream_pair()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(shout, ours)
                await cut.play(theirs)
                await wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
        except* ValueError:
            broken.append(str(cut))
    assert broken == [
        *(f"split@{offset}" for offset in (1, 2, 3, 5, 6, 7)),
        *(f"eof@{offset}" for offset in (1, 2, 3, 5, 6, 7)),
        *(f"stall@{offset}" for offset in (1, 2, 3, 5, 6, 7)),
    ]

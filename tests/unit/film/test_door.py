"""HTTP at the port for rigs: bounded in time, whatever the peer does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
import trio.testing

from cfw.film.door import REQUEST_S, SEND_S, TALK_S, Door
from cfw.http.messages import Answer, Request, Response
from cfw.wire import RequestBytes
from tests.unit.wire.peer import Peer

ASKED = b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n"


async def page(request: Request) -> Answer:
    """An application that has one page."""
    assert request.path == "/page"
    return Response(200, b"a page")


@asynccontextmanager
async def talking(begun: bytes = ASKED) -> AsyncIterator[tuple[Peer, trio.Event]]:
    """A peer whose first request is answered, and what is set when the talk is over."""
    ours, theirs = trio.testing.memory_stream_pair()
    is_over = trio.Event()

    async def serve() -> None:
        await Door(page).serve(ours, RequestBytes(begun, b""))
        is_over.set()
        await ours.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        yield Peer(theirs), is_over
        nursery.cancel_scope.cancel()


async def test_who_asks_for_nothing_more_is_left(autojump_clock: None) -> None:
    """A page and its files come without a pause."""
    async with talking() as (peer, is_over):
        await peer.read_until(b"a page")
        started = trio.current_time()
        await is_over.wait()
        assert trio.current_time() - started == REQUEST_S


async def test_no_byte_begins_the_time_of_a_page_request_anew(autojump_clock: None) -> None:
    """About one a second, from the first on."""
    async with talking() as (peer, is_over):
        await peer.read_until(b"a page")
        started = trio.current_time()
        for byte in ASKED:
            if is_over.is_set():
                break
            await peer.send(bytes([byte]))
            await trio.sleep(0.9)  # no byte comes at the very end of a time
        assert is_over.is_set()
        assert trio.current_time() - started <= REQUEST_S + 2


async def test_nobody_holds_a_place_of_a_rig_by_asking_now_and_then(
    autojump_clock: None,
) -> None:
    """Each request in its time, and all of them together in theirs."""
    async with talking() as (peer, is_over):
        started = trio.current_time()
        while not is_over.is_set():
            await peer.read_until(b"a page")
            await trio.sleep(REQUEST_S - 1)
            if not is_over.is_set():
                await peer.send(ASKED)
        assert TALK_S <= trio.current_time() - started < TALK_S + REQUEST_S


async def test_a_page_that_is_not_read_is_given_up(autojump_clock: None) -> None:
    """The peer takes nothing at all."""
    ours, _ = trio.testing.memory_stream_pair()
    ours.send_stream.send_all_hook = trio.sleep_forever
    started = trio.current_time()
    await Door(page).serve(ours, RequestBytes(ASKED, b""))
    assert trio.current_time() - started == SEND_S


async def test_a_bug_in_a_page_is_told_as_one_and_no_more() -> None:
    """The router has nothing to catch."""

    async def broken(_: Request) -> Answer:
        raise LookupError("a private detail")

    ours, theirs = trio.testing.memory_stream_pair()
    peer = Peer(theirs)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Door(broken).serve, ours, RequestBytes(ASKED, b""))
        answer = await peer.read_until(b"internal error")
        assert answer.startswith(b"HTTP/1.1 500 ")
        assert b"private" not in answer
        nursery.cancel_scope.cancel()

"""trio-websocket: who connects waits for ever when the peer leaves in the opening handshake."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import trio

from cfw.testing.sweep import SweepFailure, World, run_sweep, stream_pair
from tests.sweep_elsewhere import check_found, need

need("trio-websocket")
import trio_websocket


async def a_word(world: World) -> None:
    """A client and a server shake hands, say one word, and close, unless the peer leaves."""
    # Typed as the sockets that it is meant for; any stream will do.
    ours: Any
    ours, theirs = stream_pair()
    world.expose("peer leaves", ours.reset)

    async def serve() -> None:
        try:
            async with trio.open_nursery() as nursery:
                request = await trio_websocket.wrap_server_stream(nursery, theirs)
                server = await request.accept()
                await server.get_message()
                await server.aclose()
        except* trio_websocket.ConnectionClosed:
            pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        client = await trio_websocket.wrap_client_stream(nursery, ours, "host", "/")
        with suppress(trio_websocket.ConnectionClosed):
            async with client:
                await client.send_message("word")
                await client.get_message()


async def a_conversation(world: World) -> None:
    """What is cancelled is the client, once it is connected."""
    # Typed as the sockets that it is meant for; any stream will do.
    ours: Any
    ours, theirs = stream_pair()

    async def serve() -> None:
        async with trio.open_nursery() as nursery:
            request = await trio_websocket.wrap_server_stream(nursery, theirs)
            server = await request.accept()
            try:
                while True:
                    await server.send_message(await server.get_message())
            except trio_websocket.ConnectionClosed:
                pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        client = await trio_websocket.wrap_client_stream(nursery, ours, "host", "/")
        async with client:
            with trio.CancelScope() as scope, world.expose("client", scope):
                for _ in range(2):
                    await client.send_message("word")
                    await client.get_message()


def test_who_connects_waits_for_ever_when_the_peer_leaves() -> None:
    """The reader ends, and nobody tells those who wait for the handshake to be over."""
    with pytest.raises(SweepFailure) as caught:
        run_sweep(a_word, at="peer leaves", schedules=["fifo"])
    check_found(caught.value, "finished", "wrap_client_stream (Event.wait)")


def test_a_conversation_is_clean() -> None:
    """Whenever the client is cancelled, both ends come to their end."""
    assert run_sweep(a_conversation, at="client").complete

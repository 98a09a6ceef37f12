"""`open_feed` against a scripted worker, on a virtual clock."""

# The block of `open_feed` is what is tested, so it stands by itself, whole.
# ruff: noqa: PT012, SIM117

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from cfw.client import ConnectionLost, open_feed
from cfw.client._feed import feed_address
from schemas import CameraFeedWorkerFeed, FeedAbort, FeedClose, FeedFrame, FeedOpened, to_json
from tests.unit.client.fake_worker import JPEG, FakeWorker, fake_worker, feed_messages


async def _tell(worker: FakeWorker, *messages: CameraFeedWorkerFeed | bytes) -> None:
    for message in messages:
        text = message if isinstance(message, bytes) else to_json(message)
        await worker.connection.send_message(text)


def _tells(*messages: CameraFeedWorkerFeed | bytes, close: int | None = 1001) -> Any:
    async def script(worker: FakeWorker) -> None:
        await _tell(worker, *messages)
        if close is None:
            await worker.stream.aclose()
        else:
            await worker.close(close, "the worker is shutting down")

    return script


@pytest.mark.parametrize("close", [1000, 1001])
async def test_messages_in_order(autojump_clock: MockClock, close: int) -> None:
    """Frames come with their bytes, and the iteration ends with the feed."""
    opened, frame, closed, aborted = feed_messages()
    async with fake_worker(_tells(opened, frame, JPEG, closed, aborted, close=close)) as rig:
        async with open_feed("http://worker", stream=rig.stream) as feed:
            got = [item async for item in feed]
    assert got == [(opened, None), (frame, JPEG), (closed, None), (aborted, None)]
    kinds = [type(message) for message, _ in got]
    assert kinds == [FeedOpened, FeedFrame, FeedClose, FeedAbort]
    assert rig.worker.path == "/feed"


async def test_what_is_asked_for(autojump_clock: MockClock) -> None:
    """The capture and the mode are told to the worker."""
    async with fake_worker(_tells()) as rig:
        async with open_feed(
            "ws://worker/admin/", capture_id="a:1", mode="live", stream=rig.stream
        ) as feed:
            assert [item async for item in feed] == []
    assert rig.worker.path == "/admin/feed?capture_id=a%3A1&mode=live"


@pytest.mark.parametrize(
    ("url", "resource", "port", "is_tls"),
    [
        ("http://worker:8766", "/feed", 8766, False),
        ("https://worker/", "/feed", 443, True),
        ("ws://worker/feed", "/feed", 80, False),
        ("wss://worker/a/b?token=x", "/a/b/feed?token=x", 443, True),
    ],
)
def test_address(url: str, resource: str, port: int, is_tls: bool) -> None:
    """Every way to write where the admin listener is."""
    address = feed_address(url, None, None)
    assert (address.resource, address.port, address.is_tls) == (resource, port, is_tls)


@pytest.mark.parametrize("url", ["worker:8766", "ftp://worker", "http://"])
async def test_not_an_address(url: str) -> None:
    """What is no URL is refused before anything is dialled."""
    with pytest.raises(ValueError, match="URL"):
        async with open_feed(url):
            pytest.fail("there is no feed")


async def test_cancelled_step_loses_nothing(autojump_clock: MockClock) -> None:
    """Between a frame's metadata and its bytes, too."""
    _, frame, closed, _ = feed_messages()

    async def script(worker: FakeWorker) -> None:
        await _tell(worker, frame)
        await trio.sleep(5)
        await _tell(worker, JPEG, closed)
        await worker.close(1001)

    async with fake_worker(script) as rig:
        async with open_feed("http://worker", stream=rig.stream) as feed:
            with trio.move_on_after(1) as early:
                await anext(feed)
            assert early.cancelled_caught
            assert [item async for item in feed] == [(frame, JPEG), (closed, None)]


@pytest.mark.parametrize(
    ("script", "text", "code"),
    [
        (_tells(close=None), "without a close frame", None),
        (_tells(close=1008), r"code 1008 \(the worker is shutting down\)", 1008),
        (_tells(JPEG), "bytes without", None),
        (_tells(feed_messages()[1], JPEG + b"x"), "frame 1 without its bytes", None),
        (_tells(feed_messages()[1], feed_messages()[2]), "frame 1 without its bytes", None),
        (_tells(feed_messages()[1]), "code 1001", 1001),
    ],
)
async def test_feeds_that_end_badly(
    autojump_clock: MockClock, script: Any, text: str, code: int | None
) -> None:
    """A feed that breaks off, or is none, is told as a lost connection."""
    async with fake_worker(script) as rig:
        with pytest.raises(ConnectionLost, match=text) as caught:
            async with open_feed("http://worker", stream=rig.stream) as feed:
                async for _ in feed:
                    pass
    assert caught.value.close_code == code


async def test_exception_of_the_body(autojump_clock: MockClock) -> None:
    """It leaves as it is, and the worker sees the reader go."""
    async with fake_worker(FakeWorker.read_to_end) as rig:
        with pytest.raises(KeyError) as caught:
            async with open_feed("http://worker", stream=rig.stream):
                raise KeyError
        await trio.testing.wait_all_tasks_blocked()
        assert rig.worker.close_code == 1006
    assert caught.value.__context__ is None

"""Sinks by URL, and the sink that only counts."""

from __future__ import annotations

import inspect

import pytest

from cfw.plugins import UnknownScheme
from cfw.sinks import check_sink_url, open_sink
from cfw.sinks.hub import Hub
from cfw.sinks.null import NullSink
from tests.unit.sinks.items import close, frame, opened


@pytest.mark.parametrize(("url", "kind"), [("hub:", Hub), ("null:", NullSink), ("HUB:", Hub)])
async def test_a_url_names_a_sink(url: str, kind: type) -> None:
    """The scheme is found through the installed entry points, in any case."""
    check_sink_url(url)
    async with open_sink(url) as sink:
        assert type(sink) is kind


@pytest.mark.parametrize("url", ["", "hub", "nosuch:", "://"])
def test_an_unknown_scheme_is_refused_with_what_is_allowed(url: str) -> None:
    """Checking needs no event loop and opens nothing."""
    with pytest.raises(UnknownScheme, match=r"hub:.*null:"):
        check_sink_url(url)


@pytest.mark.parametrize("url", ["hub:x", "null://user:secret@host/"])
def test_options_that_would_be_ignored_are_refused(url: str) -> None:
    """The message says what to write instead, and repeats no password."""
    with pytest.raises(ValueError, match=r"takes no options; write '(hub|null):'") as caught:
        check_sink_url(url)
    assert "secret" not in str(caught.value)


async def test_leaving_the_hub_ends_its_subscriptions() -> None:
    """The context of the sink owns its subscribers."""
    async with open_sink("hub:") as sink:
        assert isinstance(sink, Hub)
        with sink.subscribe() as subscription:
            pass
    with sink.subscribe() as subscription:
        assert [item async for item in subscription] == []


async def test_null_counts_and_discards() -> None:
    """Counts are exact over several captures."""
    async with open_sink("null:") as sink:
        assert isinstance(sink, NullSink)
        for _ in range(2):
            async with sink.capture(opened()) as capture:
                await capture.send(frame(1, data=b"abc"))
                await capture.send(frame(2, data=b"defgh"))
                await capture.finish(close())
    assert (sink.captures, sink.frames, sink.bytes, sink.terminals) == (2, 4, 16, 2)


def test_null_has_no_checkpoint() -> None:
    """Its `send` runs to its end in one step: it costs no turn of the scheduler."""
    sending = NullSink().send(frame(1))
    with pytest.raises(StopIteration):
        sending.send(None)
    assert inspect.getcoroutinestate(sending) == inspect.CORO_CLOSED

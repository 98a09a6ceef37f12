"""Where accepted frames go. A sink is chosen by URL.

`hub:`, `null:` and, with the extra `camera-feed-worker[valkey]`, `valkey://` come with cfw.

Third parties add one through an entry point of the group `cfw.sinks`, named after the URL
scheme: a callable that takes the URL and returns an async context manager of a `Sink`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol, runtime_checkable

from cfw.plugins import load_scheme, redact_url
from cfw.state import Frame
from schemas import FeedOpened, Terminal

__all__ = [
    "BatchSink",
    "CaptureSink",
    "CountingSink",
    "LeasedSink",
    "PromptSink",
    "Sink",
    "SinkFactory",
    "check_sink_url",
    "open_sink",
    "refuse_options",
]

GROUP = "cfw.sinks"


class CaptureSink(Protocol):
    """Takes one capture: its frames in order, then exactly one terminal."""

    async def send(self, frame: Frame) -> None:
        """Take one frame; it counts as forwarded when this returns.

        While it waits, the forward buffer fills; when that is full the capture is aborted.
        It may be cancelled at any checkpoint; the frame then counts as not forwarded.

        Raises:
            Exception: whatever it raises ends the capture with `forward_failed`.
        """

    async def finish(self, terminal: Terminal) -> None:
        """Take the terminal. Called exactly once, after the last `send`, under a deadline."""


@runtime_checkable
class BatchSink(Protocol):
    """A `CaptureSink` that would rather take several frames at once; it may have this too."""

    async def send_many(self, frames: Sequence[Frame]) -> None:
        """Take all the frames that wait, in order, at least one; called instead of `send`.

        They count as forwarded, all of them, when this returns. When it raises or is
        cancelled, none of them does.

        Raises:
            Exception: whatever it raises ends the capture with `forward_failed`.
        """


@runtime_checkable
class PromptSink(Protocol):
    """A `CaptureSink` that can take frames without waiting; it may have this too."""

    def send_nowait(self, frames: Sequence[Frame]) -> bool:
        """Take frames at once, in order, at least one, or say that it would have to wait.

        Called from the task that reads the rig, and only while no other frame of the capture
        waits or is being sent: so a frame that comes alone needs no turn of the forwarder.

        Returns:
            True when all of them are taken; they count as forwarded then. False when none is,
            and `send` or `send_many` will be called with them.

        Raises:
            Exception: whatever it raises ends the capture with `forward_failed`.
        """


@runtime_checkable
class LeasedSink(Protocol):
    """A `CaptureSink` whose hold on its capture can be lost; it may have this too."""

    async def watch(self) -> None:
        """Keep the hold for as long as the capture takes frames; runs beside `send`.

        It is cancelled before `finish` is called.

        Raises:
            Exception: whatever it raises ends the capture with `forward_failed`.
        """


class Sink(Protocol):
    """Takes the captures of a whole server."""

    def capture(self, opened: FeedOpened) -> AbstractAsyncContextManager[CaptureSink]:
        """A context for one capture; entered before its first frame, left after `finish`.

        Entering, leaving and all calls between are under deadlines of the caller.

        Raises:
            DomainError: entering it refuses the capture, for example because another worker
                has one of that id; the rig is told this error. Any other exception is
                `forward_failed`.
        """


@runtime_checkable
class CountingSink(Protocol):
    """A `Sink` that finds foreign things where it writes to; it may have this too.

    What must go on beside its captures it runs with `cfw.tasks.background.running_beside`.
    """

    @property
    def unreadable(self) -> int:
        """How many things were there that it could not read, and left out."""
        ...


class SinkFactory(Protocol):
    """What an entry point of the group `cfw.sinks` leads to.

    A call checks the URL and raises ValueError, but opens nothing: that is left to entering
    what it returns. So a URL can be checked alone.
    """

    def __call__(self, url: str) -> AbstractAsyncContextManager[Sink]: ...


def open_sink(url: str) -> AbstractAsyncContextManager[Sink]:
    """Find the sink that `url` names; entering the context opens it, leaving closes it.

    Args:
        url: `hub:`, `null:`, `valkey://...` or an installed scheme.

    Raises:
        ValueError: unknown scheme, or a URL its sink cannot use; nothing was opened.
        OutOfReach: entering it found nobody there.
    """
    factory: SinkFactory = load_scheme(GROUP, url)
    return factory(url)


def refuse_options(scheme: str, url: str) -> None:
    """Refuse what follows the scheme of a sink that has no options.

    Args:
        scheme: of the sink.
        url: what was given; its secrets are not told.

    Raises:
        ValueError: something follows the scheme.
    """
    if url.lower() != f"{scheme}:":
        raise ValueError(
            f"the {scheme} sink takes no options; write '{scheme}:' instead of "
            f"{redact_url(url)!r}"
        )


def check_sink_url(url: str) -> None:
    """Check that `url` names a sink, opening nothing.

    Args:
        url: as for `open_sink`.

    Raises:
        ValueError: unknown scheme, or a URL its sink cannot use.
    """
    open_sink(url)

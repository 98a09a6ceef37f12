"""A capture, a film or a feed for whoever has no Trio: its thread, and what it shows.

`cfw.client.sync` waits for it as a script does, `cfw.client.aio` as a task of asyncio does.
"""

from __future__ import annotations

import atexit
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, Generic, TypeAlias, TypeVar

import trio

from cfw.client._capture import Capture
from cfw.client._clock import ClockOffset
from cfw.client._film import Film
from cfw.client._receipts import FilmPart, Receipt
from cfw.client._start import FilmStart
from schemas import WorkerLimits

T = TypeVar("T")

#: A cancelled capture closes its socket at once; this is for a thread that a bug holds.
_STOP_S = 5

#: Makes the block that lives in the thread.
Open: TypeAlias = Callable[[], AbstractAsyncContextManager[T]]


class Background(Generic[T]):
    """The thread in which one block lives, and what the caller's thread tells it.

    Attributes:
        value: what the block gives: a capture, a film, a feed; None before it is open.
        failure: what ended it; whoever raises it takes it out.
        token: of the thread's Trio loop; None before there is one.
    """

    def __init__(self, open_one: Open[T]) -> None:
        self.value: T | None = None
        self.failure: BaseException | None = None
        self.token: trio.lowlevel.TrioToken | None = None
        self.opened = threading.Event()  # or never will be
        self.ended = threading.Event()
        self._open_one = open_one
        self._is_cancelled = False
        self._scope = trio.CancelScope()
        self._left = trio.Event()
        # A daemon: a capture that nobody closes must not hold up the interpreter's end.
        self._thread = threading.Thread(target=self._run, name="cfw-capture", daemon=True)

    def start(self) -> None:
        """Open the capture, and wait until that is done or has failed."""
        try:
            self._thread.start()
        except Exception:
            self.ended.set()  # there is no thread to be had
            raise
        self.opened.wait()

    def leave(self) -> None:
        """Leave the block of the capture, and wait for the receipt or what comes instead."""
        self._tell(self._left.set)
        self.ended.wait()
        self._thread.join()

    def cancel(self) -> None:
        """Have the thread end at once; any thread may call it, at any time, again and again."""
        # Set before the token is read, as `_main` reads in the other order: one sees it.
        self._is_cancelled = True
        self._tell(self._scope.cancel)

    def stop(self) -> None:
        """Cancel and wait until nothing is left."""
        # While the interpreter ends no other thread runs: one may hold a lock for ever.
        if sys.is_finalizing():
            return
        self.cancel()
        self.ended.wait(_STOP_S)
        if self._thread.is_alive():
            self._thread.join(_STOP_S)

    def _tell(self, what: Callable[[], object]) -> None:
        if self.token is not None:
            with suppress(trio.RunFinishedError):
                self.token.run_sync_soon(what)

    def _run(self) -> None:
        _running.add(self)
        try:
            trio.run(self._main)
        except BaseException as exc:
            self.failure = exc
        finally:
            _running.discard(self)
            self.opened.set()
            self.ended.set()

    async def _main(self) -> None:
        self.token = trio.lowlevel.current_trio_token()
        if self._is_cancelled:
            return
        with self._scope:
            async with self._open_one() as self.value:
                self.opened.set()
                await self._left.wait()


_running: set[Background[Any]] = set()


@atexit.register
def _stop_all() -> None:
    """End what nobody has left, while its thread can still run."""
    for background in tuple(_running):
        background.stop()


class Block(Generic[T]):
    """What lives in such a thread from the beginning of a statement to its end."""

    _name, _opener = "capture", "open_capture"
    _statement = ""

    def __init__(self, open_one: Open[T]) -> None:
        self._background = Background(open_one)
        self._is_entered = self._is_closed = False

    def _enter(self) -> None:
        if self._is_entered:
            raise RuntimeError(f"this {self._name} has been used; open another one")
        self._is_entered = True

    def _closed(self) -> trio.ClosedResourceError:
        return trio.ClosedResourceError(f"the {self._name} has been closed")

    @property
    def _value(self) -> T:
        if self._background.value is None:
            raise RuntimeError(f"the {self._name} is not open; use it in {self._statement}")
        return self._background.value

    def _raise_failure(self) -> None:
        failure, self._background.failure = self._background.failure, None
        if failure is not None:
            try:
                raise failure
            finally:
                del failure  # its traceback holds this frame


class CaptureBlock(Block[Capture]):
    """What a capture shows."""

    @property
    def capture_id(self) -> str:
        """Its name at the worker and in the feed."""
        return self._value.capture_id

    @property
    def frames_sent(self) -> int:
        """Frames given to `send_frame` and not refused by it."""
        return self._value.frames_sent

    @property
    def bytes_sent(self) -> int:
        """Of those frames together."""
        return self._value.bytes_sent

    @property
    def receipt(self) -> Receipt | None:
        """What the worker confirmed; None until the block has ended without an exception."""
        return self._value.receipt

    @property
    def limits(self) -> WorkerLimits | None:
        """Of this worker; None when it tells none."""
        return self._value.limits

    @property
    def offset(self) -> ClockOffset | None:
        """Of this rig's clock, as the handshake tells it; None when it does not."""
        return self._value.offset


class FilmBlock(Block[Film]):
    """What a film shows."""

    _name, _opener = "film", "film"

    @property
    def film_id(self) -> str:
        """The `capture_id` of its first capture, and the beginning of those of others."""
        return self._value.film_id

    @property
    def parts(self) -> tuple[FilmPart, ...]:
        """The captures so far, in order; those that failed before their first frame are not."""
        return self._value.parts

    @property
    def frames_sent(self) -> int:
        """Frames given to `send_frame` that a capture has taken."""
        return self._value.frames_sent

    @property
    def bytes_sent(self) -> int:
        """Of those frames together."""
        return self._value.bytes_sent

    @property
    def receipt(self) -> Receipt:
        """What the worker has confirmed so far: the receipts of all captures, added up."""
        return self._value.receipt

    @property
    def lost(self) -> tuple[FilmPart, ...]:
        """The captures that came to no receipt, with the frames that were given to them."""
        return self._value.lost

    @property
    def start(self) -> FilmStart | None:
        """Of a film that was to start at an instant; None for any other."""
        return self._value.start

"""The same capture for scripts without Trio: OpenCV, picamera, a loop of one's own.

    with open_capture(url, user_id="ada", session_id="s1",
                      width=640, height=480, fps=15) as capture:
        capture.send_frame(jpeg)
    print(capture.receipt.frames)

The capture lives in a Trio loop in a thread of its own, from the `with` to its end:

    caller's thread                            thread "cfw-capture"
    __enter__, waits until it is open    -->   async with open_capture(...)
    send_frame, waits                    -->       await capture.send_frame(...)
    __exit__, waits until it has ended   -->   the block is left, or cancelled
"""

from __future__ import annotations

import atexit
import sys
import threading
import weakref
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import TypeAlias, Unpack

import trio

from cfw.client._capture import Capture, run_capture
from cfw.client._encode import Frame
from cfw.client._end import Receipt
from cfw.client._options import CaptureOptions, Options

__all__ = ["SyncCapture", "open_capture"]

#: A cancelled capture closes its socket at once; this is for a thread that a bug holds.
_STOP_S = 5

_Open: TypeAlias = Callable[[], AbstractAsyncContextManager[Capture]]


class _Background:
    """The thread in which one capture lives, and what the caller's thread tells it."""

    def __init__(self, open_one: _Open) -> None:
        self.capture: Capture | None = None
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
            async with self._open_one() as self.capture:
                self.opened.set()
                await self._left.wait()


_running: set[_Background] = set()


@atexit.register
def _stop_all() -> None:
    """End what nobody has left, while its thread can still run."""
    for background in tuple(_running):
        background.stop()


class SyncCapture:
    """A capture for a `with` statement; `open_capture` makes it, and it is used once."""

    def __init__(self, open_one: _Open) -> None:
        self._background = _Background(open_one)
        self._is_entered = self._is_closed = False
        # Ctrl-C may come between the `with` and the first line of `__exit__`; then this
        # ends the thread, as it does for a capture that is entered by hand and forgotten.
        weakref.finalize(self, self._background.cancel).atexit = False

    def __enter__(self) -> SyncCapture:
        if trio.lowlevel.in_trio_run():
            raise RuntimeError("this would block Trio's loop: use cfw.client.open_capture here")
        if self._is_entered:
            raise RuntimeError("this capture has been used; open another one")
        self._is_entered = True
        try:
            self._background.start()
            self._raise_failure()
        except BaseException:
            self._is_closed = True
            self._background.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_closed = True
        try:
            if kind is None:
                self._background.leave()
                self._raise_failure()
        finally:
            self._background.stop()

    def send_frame(self, frame: Frame, timestamp: datetime | str | None = None) -> None:
        """Send one frame, and wait until the connection has taken it.

        Several threads may call it; the frames go in the order of the calls.

        Args:
            frame: one JPEG image as bytes; or a picture as a uint8 array, height x width x 3
                or height x width (grey), of the size declared.
            timestamp: when the frame was taken. Text is forwarded as it is, a `datetime` in
                ISO 8601 (a naive one is read as UTC); None means now.

        Raises:
            SchemaError: the timestamp is none, or there are no bytes; nothing was sent.
            ValueError: the array is no such picture; nothing was sent.
            ImportError: an array needs an encoder and none is installed; nothing was sent.
            CaptureAborted: the worker ended the capture, now or since the last call.
            ConnectionLost: the connection is gone.
            trio.ClosedResourceError: the block of `open_capture` has been left.

        Interruption: Ctrl-C leaves at once (on Windows when the frame is out); the frame goes
        out whole if the block is not left.
        """
        if self._is_closed:
            raise trio.ClosedResourceError("the capture has been closed")
        try:
            trio.from_thread.run(
                self._capture.send_frame, frame, timestamp, trio_token=self._background.token
            )
        except (trio.RunFinishedError, trio.Cancelled):
            # Another thread left the block meanwhile.
            raise trio.ClosedResourceError("the capture has been closed") from None

    @property
    def capture_id(self) -> str:
        """The capture's name at the worker and in the feed."""
        return self._capture.capture_id

    @property
    def frames_sent(self) -> int:
        """Frames given to `send_frame` and not refused by it."""
        return self._capture.frames_sent

    @property
    def bytes_sent(self) -> int:
        """Of those frames together."""
        return self._capture.bytes_sent

    @property
    def receipt(self) -> Receipt | None:
        """What the worker confirmed; None until the block has ended without an exception."""
        return self._capture.receipt

    @property
    def _capture(self) -> Capture:
        if self._background.capture is None:
            raise RuntimeError("the capture is not open; use it in a with statement")
        return self._background.capture

    def _raise_failure(self) -> None:
        failure, self._background.failure = self._background.failure, None
        if failure is not None:
            try:
                raise failure
            finally:
                del failure  # its traceback holds this frame


def open_capture(url: str, **options: Unpack[CaptureOptions]) -> SyncCapture:
    """Connect to a worker, send one capture, and wait for its receipt.

        with open_capture("ws://127.0.0.1:8765", user_id="ada", session_id="s1",
                          width=640, height=480, fps=15, color="bgr") as capture:
            while ...:
                ok, picture = camera.read()
                capture.send_frame(picture)
        print(capture.receipt)

    What it is told, raises and does is that of `cfw.client.open_capture`, but that everything
    blocks the thread that calls it, which may be any but that of a Trio loop. An asyncio
    program calls it in `asyncio.to_thread`.

    Args:
        url: `ws://` or `wss://`; without a path, the worker's own is used.
        options: see `cfw.client.CaptureOptions`.

    Raises, where the block begins or ends:
        RuntimeError: the calling thread runs a Trio loop.
        Exception: each that `cfw.client.open_capture` raises; a TypeError at the call.

    Interruption: Ctrl-C leaves at once; the socket is closed, without `capture.close`, and
    the thread has ended.
    """
    return SyncCapture(partial(run_capture, url, Options(**options)))

"""A film: any number of frames, in as many captures as a worker's limits need.

    caller's body --[one frame]--> the part that is open --> a capture of its own
                                   the part before it    --> waits for its receipt

A frame is given to one capture and never to another, so none is doubled. One whose capture
came to no receipt may have reached the worker or not: it counts as sent and not confirmed, and
nobody can say more. A frame that no capture has taken goes to the next one.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from typing import Final, TypeAlias, Unpack

import attrs
import trio

from cfw.client._capture import Capture, run_capture
from cfw.client._clock import RigClock
from cfw.client._encode import Frame
from cfw.client._errors import ConnectionRefused, FilmIncomplete, LimitsUnknown
from cfw.client._options import CaptureOptions, CaptureSettings, check_seconds
from cfw.client._receipts import FilmPart, Receipt
from cfw.client._retry import Backoff, passes
from cfw.client._start import FilmStart, find_start
from cfw.client._worker import Worker, ask
from cfw.tasks.nurseries import open_plain_nursery
from schemas import CaptureError, SchemaError, Timestamp, WorkerLimits

#: Makes a connection to use instead of dialling, each time one is needed.
Dial: TypeAlias = Callable[[], Awaitable[trio.abc.Stream]]

#: What is kept of a limit in seconds for the way to the worker: a part of it, within bounds.
_MARGIN: Final = 0.1
_LEAST_MARGIN_S: Final = 1.0
_MOST_MARGIN_S: Final = 5.0
#: After trouble, how long a new capture is watched before it is trusted with a frame: what is
#: refused is refused by then.
SETTLE_S: Final = 0.25
_NS_PER_S: Final = 1_000_000_000


class FilmOptions(CaptureOptions, total=False):
    """The keyword arguments of `film` and `film_sync`, beside `CaptureOptions`.

    There, `capture_id` is the first capture's; a second one is called `ID.2`. `timestamp_start`
    is the first one's; others begin with a frame.

    Args:
        split: go on in a new capture before this one reaches a limit of the worker: in length,
            frames, bytes, or seconds without a frame; False if it is not given. The limits are
            asked for at each connection. The next capture runs while this one waits for its
            receipt.
        retry_s: after a capture was lost, how long to try to open another one, in seconds;
            `math.inf` for ever, None not at all. Tried again is what may pass: a lost
            connection, a worker that is away, is stopping, has no room, or whose consumer
            failed. The first capture has to open at once.
        start_at: an instant of the worker's clock, at which the block begins; rigs that are
            given the same one start together, as far as each knows that clock. Text in ISO
            8601, or a `datetime`; without an offset it is UTC. `timestamp_start` is that
            instant by the rig's clock, and `Film.start` tells how well it is known. None
            starts now.
        on_part: called with each capture that has ended, lost ones included, in the thread
            that the film lives in; it may neither wait nor raise. None tells nobody.
    """

    split: bool
    retry_s: float | None
    start_at: datetime | str | None
    on_part: Callable[[FilmPart], object] | None


@attrs.frozen(kw_only=True)
class FilmSettings(CaptureSettings):
    """See `FilmOptions`.

    Raises:
        ValueError: a timeout is none, or the film is to start twice.
        SchemaError: `start_at` is none.
    """

    split: bool = False
    retry_s: float | None = attrs.field(
        default=None, validator=attrs.validators.optional(check_seconds)
    )
    start_at: datetime | str | None = None
    on_part: Callable[[FilmPart], object] | None = None

    def __attrs_post_init__(self) -> None:
        if self.start is not None and self.timestamp_start is not None:
            raise ValueError("give either start_at or timestamp_start: a film starts once")

    @property
    def start(self) -> Timestamp | None:
        """What `start_at` says."""
        return None if self.start_at is None else _instant(self.start_at, "start_at")


@attrs.define(eq=False)
class _Part:
    """A capture that runs, or waits for its receipt.

    Args:
        capture_id: its name.
        first_frame: as in `FilmPart`.
        opened_at: by Trio's clock, before the worker can have counted any time of it.
        capture: None before it is open.
        start_ns: its `timestamp_start`.
        limits: those that it must keep within; None when the film is not to be split at them.
        longest_ns: how long it may be by event time; None for any length.
        waiting: cancelled, or over, when it is to be closed.
        is_closing: whether it is.
        failure: why it came to no receipt.
        ended: set when nothing more will happen to it.
        running: cancelled when the film is left. Shielded once the part is open, so that it
            lives as long as the film's block, also while that is cancelled from outside.
    """

    capture_id: str
    first_frame: int
    opened_at: float
    start_ns: int
    capture: Capture | None = None
    limits: WorkerLimits | None = None
    longest_ns: float | None = None
    waiting: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    is_closing: bool = False
    failure: CaptureError | None = None
    ended: trio.Event = attrs.field(factory=trio.Event)
    running: trio.CancelScope = attrs.field(factory=trio.CancelScope)

    @property
    def told(self) -> FilmPart:
        capture = self.capture
        if capture is None:
            return FilmPart(self.capture_id, self.first_frame, 0, 0, None, self.failure)
        return FilmPart(
            self.capture_id,
            self.first_frame,
            capture.frames_sent,
            capture.bytes_sent,
            capture.receipt,
            self.failure,
        )

    def close(self) -> None:
        """Have it closed; nothing more is given to it."""
        self.is_closing = True
        self.waiting.cancel()

    def has_room(self, size: int, taken_ns: int) -> bool:
        """Whether a frame of so many bytes, taken then, keeps within the limits."""
        assert self.capture is not None
        limits, capture = self.limits, self.capture
        if capture.frames_sent == 0:
            return True
        if self.longest_ns is not None and taken_ns - self.start_ns > self.longest_ns:
            return False
        return limits is None or (
            capture.frames_sent < limits.max_frames
            and capture.bytes_sent + size <= limits.max_total_bytes
        )

    def keep_time(self) -> None:
        """See that it is closed in time, counted from a frame or from its beginning."""
        if self.limits is not None:
            lasts_s, idle_s = self.limits.max_duration_s, self.limits.idle_s
            self.waiting.deadline = min(
                self.opened_at + lasts_s - _margin(lasts_s),
                trio.current_time() + idle_s - _margin(idle_s),
            )


def _margin(limit_s: float) -> float:
    least_s = min(_LEAST_MARGIN_S, limit_s / 2)
    return min(max(_MARGIN * limit_s, least_s), _MOST_MARGIN_S)


class Film:
    """A film that is being sent; `film` makes it.

    Attributes:
        film_id: the `capture_id` of its first capture, and the beginning of those of others.
        start: of a film that was to start at an instant; None for any other.
    """

    def __init__(
        self,
        url: str,
        settings: FilmSettings,
        dial: Dial | None,
        nursery: trio.Nursery,
    ) -> None:
        self.film_id = settings.capture_id or str(uuid.uuid4())
        self.start: FilmStart | None = None
        self._url = url
        self._settings = settings
        self._backoff = None if settings.retry_s is None else Backoff(settings.retry_s)
        self._dial = dial
        self._nursery = nursery
        self._clock = RigClock()
        self._encoder = settings.encoder()
        self._turn = trio.StrictFIFOLock()
        self._is_closed = False
        self._names = 0
        self._done: list[FilmPart] = []
        self._running: list[_Part] = []
        self._fatal: CaptureError | None = None
        self._frames_done = self._bytes_done = 0

    @property
    def parts(self) -> tuple[FilmPart, ...]:
        """The captures so far, in order; those that failed before their first frame are not."""
        found = [*self._done, *(part.told for part in self._running)]
        return tuple(sorted(found, key=lambda part: part.first_frame))

    @property
    def frames_sent(self) -> int:
        """Frames given to `send_frame` that a capture has taken."""
        return self._frames_done + sum(part.told.frames_sent for part in self._running)

    @property
    def bytes_sent(self) -> int:
        """Of those frames together."""
        return self._bytes_done + sum(part.told.bytes_sent for part in self._running)

    @property
    def receipt(self) -> Receipt:
        """What the worker has confirmed so far: the receipts of all captures, added up."""
        receipts = [part.receipt for part in self._done if part.receipt is not None]
        return Receipt(
            sum(receipt.frames for receipt in receipts),
            sum(receipt.bytes for receipt in receipts),
        )

    @property
    def lost(self) -> tuple[FilmPart, ...]:
        """The captures that came to no receipt, with the frames that were given to them.

        The worker may have taken any of these frames, or none; its consumers know, from the
        capture's terminal.
        """
        return tuple(part for part in self.parts if part.failure is not None)

    async def send_frame(self, frame: Frame, timestamp: datetime | str | None = None) -> None:
        """Send one frame, and wait until the connection has taken it.

        Several tasks may call it; the frames go in the order of the calls. While a connection
        is opened again, it waits.

        Args:
            frame: as for `Capture.send_frame`.
            timestamp: likewise.

        Raises:
            SchemaError, ValueError, ImportError: as there; nothing was sent.
            CaptureAborted, ConnectionLost: a capture failed, now or since the last call, and
                is not to be retried; or was, for too long.
            trio.ClosedResourceError: the block of `film` has been left.

        Cancellation: safe. A frame that waits is then not sent; one that is on its way goes
        out whole.
        """
        taken = self._clock.now() if timestamp is None else _instant(timestamp)
        data = self._encoder.read(frame)
        async with self._turn:
            self._check_open()
            if isinstance(data, memoryview):
                data = await trio.to_thread.run_sync(self._encoder.encode, data)
            while True:
                part = await self._part_for(data, taken)
                assert part.capture is not None
                before = part.capture.frames_sent
                # A capture that begins with a frame also ends with one: the frame may be older
                # than a capture may be long.
                is_told = timestamp is not None or part.longest_ns is not None
                try:
                    await part.capture.put(data, taken, rig_tells_time=is_told)
                except CaptureError:
                    # Why, its task finds too, and says whether to go on.
                    await part.ended.wait()
                except trio.ClosedResourceError:
                    if not part.is_closing:  # it has failed, and its task has seen it first
                        await part.ended.wait()
                else:
                    part.keep_time()
                    return
                self._check_open()
                if part.capture.frames_sent > before:
                    return  # on its way when the capture failed: told with its part

    def _check_open(self) -> None:
        if self._fatal is not None:
            raise self._fatal
        if self._is_closed:
            raise trio.ClosedResourceError("the film has been closed")

    async def begin(self) -> None:
        """Open the first part; with an instant, return at that instant of the worker's clock.

        Raises:
            CaptureError: it cannot be opened, or the instant is over.
        """
        if (asked_for := self._settings.start) is None:
            await self.open_part(None)
            return
        start = await find_start(asked_for, self._clock, self._ask)
        part = await self.open_part(start.timestamp)
        assert part.capture is not None
        until = self._clock.trio_time(start.timestamp.ns)
        self.start = attrs.evolve(start, late_s=max(0.0, trio.current_time() - until))
        await trio.sleep_until(until)

    async def _ask(self) -> Worker:
        return await ask(self._url, self._settings, await self._dialled(), self._clock)

    # --- parts --------------------------------------------------------------------------------

    async def _part_for(self, data: bytes, taken: Timestamp) -> _Part:
        """The part that takes a frame: the one that is open, or a new one."""
        part = self._running[-1] if self._running else None
        if part is not None and not part.is_closing:
            if part.has_room(len(data), taken.ns):
                return part
            self._close(part)
        # One may wait for its receipt while the next one runs, so that a camera does not wait.
        while len(self._running) > 1:
            await self._running[0].ended.wait()
            self._check_open()
        while True:
            if (part := await self._open_again(taken)) is not None:
                return part

    def _close(self, part: _Part) -> None:
        """Have a part closed that is well; what was lost before it is over then."""
        part.close()
        if self._backoff is not None and trio.current_time() - part.opened_at >= SETTLE_S:
            self._backoff.succeeded()

    async def _open_again(self, start: Timestamp) -> _Part | None:
        """Open the next part; None when that failed and may be tried again."""
        backoff = self._backoff
        was_in_trouble = backoff is not None and backoff.in_trouble
        if backoff is not None:
            await backoff.pause()
        try:
            part = await self.open_part(start)
        except CaptureError as exc:
            if backoff is None or not passes(exc):
                raise
            backoff.failed(exc)
            return None
        if was_in_trouble:
            with trio.move_on_after(SETTLE_S):
                await part.ended.wait()
        self._check_open()
        return None if part.ended.is_set() else part

    async def open_part(self, start: Timestamp | None) -> _Part:
        """Open a capture, from which on frames go there.

        Args:
            start: when it begins, by event time; None for what the options say, or now.
        """
        self._names += 1
        name = self.film_id if self._names == 1 else f"{self.film_id}.{self._names}"
        settings = attrs.evolve(self._settings, capture_id=name, start_at=None)
        start_ns = self._clock.now_ns()
        if start is None:
            if settings.timestamp_start is not None:
                start_ns = _instant(settings.timestamp_start, "timestamp_start").ns
        else:
            settings = attrs.evolve(settings, timestamp_start=start.text)
            start_ns = start.ns
        part = _Part(name, self.frames_sent + 1, trio.current_time(), start_ns)
        await self._nursery.start(self._run_part, part, settings)
        return part

    async def _run_part(
        self, part: _Part, settings: CaptureSettings, task_status: trio.TaskStatus[None]
    ) -> None:
        is_begun = False
        try:
            with part.running:
                stream = await self._dialled()
                async with run_capture(self._url, settings, stream, self._clock) as capture:
                    self._limit(part, capture.limits)
                    part.capture = capture
                    part.keep_time()
                    self._running.append(part)
                    is_begun = True
                    task_status.started()
                    # A start that is being cancelled does not take the task over.
                    await trio.lowlevel.checkpoint_if_cancelled()
                    part.running.shield = True
                    with part.waiting:
                        await capture.wait_ended()
                    if part.waiting.cancelled_caught:
                        self._close(part)
        except CaptureError as exc:
            if not is_begun:
                raise
            part.failure = exc
        finally:
            if is_begun:
                self._end(part)

    async def _dialled(self) -> trio.abc.Stream | None:
        if self._dial is None:
            return None
        try:
            return await self._dial()
        except OSError as exc:
            raise ConnectionRefused(f"cannot connect: {exc}") from exc

    def _limit(self, part: _Part, limits: WorkerLimits | None) -> None:
        """What a part has to keep within, of what its worker tells."""
        if self._settings.split:
            if limits is None:
                raise LimitsUnknown(
                    "this worker does not tell its limits, so that a film cannot be split at "
                    "them: it is older than 0.3, or a proxy keeps Cfw-Limits to itself"
                )
            part.limits = limits
        # Without `split` too, a frame that has waited for a new connection may be older than a
        # capture may be long: the frames behind it need another one.
        if limits is not None and (self._settings.split or self._names > 1):
            part.longest_ns = limits.max_duration_s * _NS_PER_S

    def _end(self, part: _Part) -> None:
        """A part has come to its end: note how, and whether the film goes on."""
        self._running.remove(part)
        told = part.told
        if told.failure is None and told.receipt is None:
            self._add(told)  # cancelled: the film is being left
        elif told.failure is None:
            self._add(told)
            if self._backoff is not None:
                self._backoff.succeeded()
        else:
            if told.frames_sent > 0:
                self._add(told)
            self._note(part, told.failure)
        part.ended.set()

    def _add(self, told: FilmPart) -> None:
        self._done.append(told)
        if self._settings.on_part is not None:
            self._settings.on_part(told)
        self._frames_done += told.frames_sent
        self._bytes_done += told.bytes_sent

    def _note(self, part: _Part, failure: CaptureError) -> None:
        if self._backoff is None or not passes(failure):
            self._fatal = self._fatal or failure
            return
        self._backoff.failed(failure, trio.current_time() - part.opened_at)

    async def finish(self) -> None:
        """Close the last part, and wait for every receipt.

        Raises:
            CaptureError: a part failed for good.
            FilmIncomplete: parts were lost on the way.
        """
        async with self._turn:
            self._check_open()
            self._is_closed = True
            if self._running:
                self._running[-1].close()
            while self._running:
                await self._running[0].ended.wait()
        if self._fatal is not None:
            raise self._fatal
        if self.lost:
            raise FilmIncomplete(self.lost, len(self.parts), self.frames_sent)

    def leave(self) -> None:
        """Nothing more is taken, and what still runs is cut off."""
        self._is_closed = True
        for part in self._running:
            part.running.cancel()


def _instant(timestamp: datetime | str, name: str = "timestamp_frame") -> Timestamp:
    try:
        if isinstance(timestamp, datetime):
            return Timestamp.from_datetime(timestamp)
        return Timestamp.parse(timestamp)
    except (TypeError, ValueError) as exc:
        raise SchemaError(name, str(exc)) from None


def film(
    url: str,
    *,
    dial: Dial | None = None,
    **options: Unpack[FilmOptions],
) -> AbstractAsyncContextManager[Film]:
    """Connect to a worker and send a film, in as many captures as it takes.

        async with film("ws://127.0.0.1:8765", split=True, retry_s=600, user_id="ada",
                        session_id="s1", width=640, height=480, fps=15) as sent:
            for jpeg in camera:
                await sent.send_frame(jpeg)
        print(sent.receipt, len(sent.parts))

    Without `split` and `retry_s` it is a capture as `open_capture` sends it. The block ends
    without an exception only with a receipt for every frame. An exception of the body leaves as
    it is; the capture that runs is not closed then, and counts for consumers as one that was
    cut off.

    Args:
        url: `ws://` or `wss://`; without a path, the worker's own is used.
        dial: makes a connection to use instead of dialling, for example to a Unix socket,
            each time one is needed; it is closed with its capture. None dials what the URL
            says.
        options: see `FilmOptions`.

    Raises:
        TypeError: an option is missing, or there is none of that name; at the call.
        ValueError, ImportError, SchemaError: as for `open_capture`; nothing was sent.
        LimitsUnknown: the worker does not tell its limits, and `split` needs them.
        ClockUnknown: it does not tell its clock, and `start_at` needs that.
        StartMissed: `start_at` is over.
        FilmIncomplete: at the end, when captures were lost on the way; it tells which.
        CaptureError: each that `open_capture` raises, when it is not to be tried again, or
            was for `retry_s`.

    Cancellation: leaves at once; sockets are closed, without `capture.close`.
    """
    return run_film(url, FilmSettings(**options), dial)


@asynccontextmanager
async def run_film(
    url: str, settings: FilmSettings, dial: Dial | None = None
) -> AsyncIterator[Film]:
    """See `film`."""
    async with open_plain_nursery() as nursery:
        made = Film(url, settings, dial, nursery)
        try:
            await made.begin()
            yield made
            await made.finish()
        finally:
            made.leave()

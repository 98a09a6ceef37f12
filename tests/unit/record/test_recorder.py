"""The recorder, reading feeds that are scripted."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from prometheus_client import generate_latest

import cfw.record
from cfw.client import AccessDenied, ConnectionLost, ConnectionRefused, FeedOutage
from cfw.record import Listener, Listeners, Recorder, RecorderMetrics, Written
from cfw.record import _capture as writing
from tests.patience import PATIENCE_S
from tests.unit.record.kit import PICTURES, closed, frames, opened

JPEGS = PICTURES[:4]
Items = Iterable[tuple[Any, bytes | None]]


def whole(capture_id: str = "c1") -> list[tuple[Any, bytes | None]]:
    """The messages of a capture, from its beginning to its end."""
    end = (closed(JPEGS, capture_id), None)
    return [(opened(capture_id), None), *frames(JPEGS, capture_id), end]


class Heard(Listener):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.written: list[Written] = []
        self.reasons: list[str] = []
        self.failures: list[str] = []
        self.connections = 0
        self.slow_s = 0.0
        self.most_waiting = 0

    def connected(self, outage: FeedOutage | None) -> None:
        self.connections += 1

    def lost(self, outage: FeedOutage) -> None:
        self.reasons.append(outage.reason)

    def ended(self, written: Written) -> None:
        self.written.append(written)

    def failed(self, capture_id: str, part: Path | None, reason: str) -> None:
        self.failures.append(f"{capture_id}: {reason}")

    def slow(self, waited_s: float) -> None:
        self.slow_s += waited_s

    def waiting(self, size: int) -> None:
        self.most_waiting = max(self.most_waiting, size)

    @property
    def ends(self) -> list[tuple[str, str, str | None]]:
        """Capture, state, and what it lacks."""
        manifests = [each.manifest for each in self.written]
        return [(m.opened.capture_id, m.state, m.cut) for m in manifests]


def feeds(*scripts: Items | BaseException) -> Callable[[], Any]:
    """Opens one after the other. One without messages ends, others go on or raise."""
    left = [*scripts]

    @asynccontextmanager
    async def opening() -> AsyncIterator[Any]:
        script = left.pop(0)
        if isinstance(script, BaseException):
            raise script

        async def messages() -> AsyncIterator[Any]:
            for item in script:
                await trio.lowlevel.checkpoint()
                if isinstance(item, BaseException):
                    raise item
                yield item
            if script:
                await trio.sleep_forever()

        yield messages()

    return opening


async def recorded(
    folder: Path, *scripts: Any, captures: int | None = 1, **options: Any
) -> tuple[Recorder, Heard]:
    """Record these feeds."""
    heard = Heard()
    recorder = Recorder(folder, listener=heard, captures=captures, **options)
    with trio.fail_after(PATIENCE_S):
        await recorder.run(feeds(*scripts), reading=trio.CancelScope())
    return recorder, heard


async def test_so_many_captures_and_no_more(tmp_path: Path) -> None:
    """The next one that begins is not looked at."""
    recorder, heard = await recorded(tmp_path, [*whole("a"), *whole("b")])
    assert heard.ends == [("a", "whole", None)]
    assert (recorder.whole, recorder.cut, recorder.failed) == (1, 0, 0)


async def test_a_feed_that_was_lost_cuts_what_runs_and_is_joined_again(tmp_path: Path) -> None:
    """A capture that goes on is a second recording, which lacks what came before."""
    first, *rest = whole()
    lost = ConnectionLost("the worker closed the feed with code 1008 (too slow)", 1008)
    _, heard = await recorded(
        tmp_path, [first, *rest[:2], lost], [first, *rest[3:]], captures=2
    )
    # Each has a thread of its own, so either may end first.
    assert [state for _, state, _ in heard.ends] == ["cut", "cut"]
    lacking, why = sorted(str(why) for *_, why in heard.ends)
    assert lacking == "frames 1 to 3 are missing"
    assert "code 1008 (too slow)" in why
    assert (heard.connections, len(heard.reasons)) == (2, 1)


async def test_a_worker_that_was_never_there_is_an_error(tmp_path: Path) -> None:
    """Once it was, it is waited for; a token that is refused is not tried again."""
    gone = ConnectionRefused("nobody")
    with pytest.raises(ConnectionRefused):
        await recorded(tmp_path, gone)
    _, heard = await recorded(tmp_path, [], gone, gone, whole())
    assert heard.reasons == ["the worker closed the feed"]
    with pytest.raises(AccessDenied):
        await recorded(tmp_path, [], AccessDenied("no", status=401))


async def test_a_disk_that_is_slow_holds_the_feed_up_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits is bounded, and that it waited is told."""
    begun = trio.Event()
    go_on = [begun]
    add_all = writing.CaptureWriter.add_all

    def slowly(self: writing.CaptureWriter, batch: Any) -> None:
        trio.from_thread.run(go_on[0].wait)
        add_all(self, batch)

    monkeypatch.setattr(writing.CaptureWriter, "add_all", slowly)
    room = len(JPEGS[0]) + len(JPEGS[1]) + 5_000
    async with trio.open_nursery() as nursery:

        async def run() -> None:
            _, heard = await recorded(tmp_path, whole(), room_bytes=room)
            assert heard.ends == [("c1", "whole", None)]
            assert heard.slow_s > 0
            assert 0 < heard.most_waiting <= room

        nursery.start_soon(run)
        await trio.sleep(0.1)
        begun.set()


async def test_one_that_cannot_be_written_fails_alone(tmp_path: Path) -> None:
    """Its frames are let go of; others are recorded."""
    (tmp_path / "c1").write_text("a file where a folder should be")
    pattern = "{capture_id}/{user_id}"
    recorder, heard = await recorded(
        tmp_path, [*whole("c1"), *whole("c2")], captures=2, pattern=pattern
    )
    assert heard.ends == [("c2", "whole", None)]
    assert re.match(r"c1: \w+Error: ", heard.failures[0])
    assert (recorder.whole, recorder.failed) == (1, 1)


async def test_a_capture_of_the_same_id_ends_the_one_before(tmp_path: Path) -> None:
    """Its terminal did not come, and it says so."""
    _, heard = await recorded(tmp_path, [*whole()[:3], *whole()], captures=2)
    ends = {(state, cut) for _, state, cut in heard.ends}
    why = "another capture of this id has opened; the end of the capture did not come"
    assert ends == {("cut", why), ("whole", None)}


async def test_every_metric_is_told(tmp_path: Path) -> None:
    """In the table of RECORD.md, and they count."""
    metrics, heard = RecorderMetrics(), Heard()
    recorder = Recorder(tmp_path, listener=Listeners(metrics, heard), captures=1)
    await recorder.run(feeds(whole()), reading=trio.CancelScope())
    shown = generate_latest(metrics.registry).decode()
    assert 'cfw_record_ended_total{end="whole"} 1.0' in shown
    assert "cfw_record_frames_total 4.0" in shown
    names = re.findall(r"^# TYPE (\w+?)(?:_total)? (?:counter|gauge)$", shown, re.MULTILINE)
    page = (Path(cfw.record.__file__).parent / "RECORD.md").read_text("utf-8")
    told = re.findall(r"`(cfw_record_\w+)`", page)
    assert sorted(told) == sorted(name for name in names if not name.endswith("_created"))

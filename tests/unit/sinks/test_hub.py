"""What subscribers of the hub get, in what order, and who waits for whom."""

from __future__ import annotations

import gc
import weakref
from contextlib import ExitStack
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock, assert_no_checkpoints, wait_all_tasks_blocked

from cfw.sinks import PromptSink
from cfw.sinks.hub import (
    LIVE_ENDED,
    LOSSLESS_ITEMS,
    Hub,
    Mode,
    SubscriberTooSlow,
    Subscription,
)
from tests.profiled import Profiled
from tests.unit.sinks.items import abort, brief, close, frame, opened, running

MODES: list[Mode] = ["lossless", "live"]


async def take(subscription: Subscription, count: int) -> list[str]:
    """The next items, which must be there or come without more being sent."""
    with trio.fail_after(1):
        return [brief(await subscription.__anext__()) for _ in range(count)]


async def collect(subscription: Subscription, into: list[str], pace_s: float = 0) -> None:
    """A consumer that takes one item every `pace_s` seconds."""
    async for item in subscription:
        into.append(brief(item))
        await trio.sleep(pace_s)


def seqs(first: int, last: int, capture_id: str = "cap") -> list[str]:
    return [f"{capture_id}{seq}" for seq in range(first, last + 1)]


# --- both modes -----------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
async def test_a_consumer_that_keeps_up_gets_every_item(mode: Mode) -> None:
    """Opened, the frames in order, the terminal; the very object that was sent."""
    hub = Hub()
    got = []
    with hub.subscribe(mode=mode) as subscription:
        async with running(hub) as capture:
            got += await take(subscription, 1)
            for seq in range(1, 21):
                sent = frame(seq)
                await capture.send(sent)
                assert await subscription.__anext__() is sent
                got.append(brief(sent))
        got += await take(subscription, 1)
        assert (subscription.delivered, subscription.dropped) == (20, 0)
    assert got == ["cap+", *seqs(1, 20), "cap."]


@pytest.mark.parametrize("mode", MODES)
async def test_capture_id_narrows_to_one_capture(mode: Mode) -> None:
    """Without it all captures come; with it only that one, again when the id comes again."""
    hub = Hub()
    with hub.subscribe(mode=mode) as every, hub.subscribe(mode=mode, capture_id="b") as only:
        for _ in range(2):
            for capture_id in "ab":
                async with running(hub, capture_id) as capture:
                    await capture.send(frame(1, capture_id))
                assert await take(every, 3) == [f"{capture_id}{what}" for what in "+1."]
        assert await take(only, 6) == ["b+", "b1", "b."] * 2


@pytest.mark.parametrize("mode", MODES)
async def test_joining_in_mid_capture_begins_with_opened(mode: Mode) -> None:
    """What was sent before is not repeated, but the capture is introduced."""
    hub = Hub()
    async with running(hub, "a") as a, running(hub, "b"):
        await a.send(frame(1, "a"))
        with hub.subscribe(mode=mode) as subscription:
            await a.send(frame(2, "a"))
            got = await take(subscription, 3)
    assert sorted(got) == ["a+", "a2", "b+"]
    assert got.index("a+") < got.index("a2")


@pytest.mark.parametrize("mode", MODES)
async def test_joining_more_captures_than_the_window_holds(mode: Mode) -> None:
    """All running captures are introduced, however many there are."""
    hub = Hub()
    ids = [f"c{n}-" for n in range(3 * LOSSLESS_ITEMS)]
    async with trio.open_nursery() as nursery:
        for capture_id in ids:
            await nursery.start(_stay_open, hub, capture_id)
        with hub.subscribe(mode=mode) as subscription:
            assert await take(subscription, len(ids)) == [f"{i}+" for i in ids]
        nursery.cancel_scope.cancel()


async def _stay_open(
    hub: Hub, capture_id: str, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    async with hub.capture(opened(capture_id)):
        task_status.started()
        await trio.sleep_forever()


@pytest.mark.parametrize("mode", MODES)
async def test_closing_the_hub_ends_iteration_behind_what_is_held(mode: Mode) -> None:
    """Nothing that was sent before is lost, nothing sent after is delivered."""
    hub = Hub()
    with hub.subscribe(mode=mode) as subscription:
        async with running(hub) as capture:
            await capture.send(frame(1))
        hub.close()
        async with running(hub, "late"):
            pass
        assert [brief(item) async for item in subscription] == ["cap+", "cap1", "cap."]
        assert hub.subscribers == 0


@pytest.mark.parametrize("mode", MODES)
async def test_closing_the_hub_wakes_a_waiting_consumer(mode: Mode) -> None:
    """A consumer with nothing to read is not left behind."""
    hub = Hub()
    got: list[str] = []
    async with trio.open_nursery() as nursery:
        with hub.subscribe(mode=mode) as subscription:
            nursery.start_soon(collect, subscription, got)
            await wait_all_tasks_blocked()
            hub.close()
            await wait_all_tasks_blocked()
            assert not nursery.child_tasks
    assert got == []


@pytest.mark.parametrize("mode", MODES)
async def test_a_subscription_is_for_one_task_and_one_context(mode: Mode) -> None:
    """Both mistakes are told, not guessed at."""
    hub = Hub()
    async with trio.open_nursery() as nursery:
        with hub.subscribe(mode=mode) as subscription:
            nursery.start_soon(collect, subscription, [])
            await wait_all_tasks_blocked()
            with pytest.raises(trio.BusyResourceError):
                await subscription.__anext__()
            nursery.cancel_scope.cancel()
    with pytest.raises(trio.ClosedResourceError):
        await subscription.__anext__()


@pytest.mark.parametrize("mode", MODES)
async def test_leaving_wakes_whoever_iterates(mode: Mode) -> None:
    """A task that waits for the next item is told that the subscription was left."""
    hub = Hub()
    told: list[str] = []

    async def wait() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await subscription.__anext__()
        told.append("left")

    async with trio.open_nursery() as nursery:
        with hub.subscribe(mode=mode) as subscription:
            nursery.start_soon(wait)
            await wait_all_tasks_blocked()
            assert told == []
        await wait_all_tasks_blocked()
        assert told == ["left"]


def test_an_unknown_mode_is_refused_with_what_is_allowed() -> None:
    """The mode often comes from outside."""
    with (
        pytest.raises(ValueError, match="one of lossless, live; not 'both'"),
        Hub().subscribe(mode=cast(Any, "both")),
    ):
        pass


@pytest.mark.parametrize("mode", MODES)
async def test_a_cancelled_consumer_loses_nothing(mode: Mode) -> None:
    """Cancelled while it waits, and cancelled before it asks: the item is still there."""
    hub = Hub()
    with hub.subscribe(mode=mode) as subscription:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(collect, subscription, [])
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        async with running(hub):
            with trio.CancelScope() as scope:
                scope.cancel()
                await subscription.__anext__()
            assert scope.cancelled_caught
            assert await take(subscription, 1) == ["cap+"]


async def test_without_subscribers_nothing_waits_and_nothing_stays() -> None:
    """The hub is no storage: a frame costs no checkpoint and leaves no reference."""
    hub = Hub()
    async with running(hub) as capture:
        data = frame(1)
        kept = weakref.ref(data) if hasattr(data, "__weakref__") else None
        with assert_no_checkpoints():
            await capture.send(data)
            for seq in range(2, 1000):
                await capture.send(frame(seq))
        del data
        gc.collect()
        assert kept is None or kept() is None


@pytest.mark.parametrize("mode", MODES)
async def test_one_wake_up_serves_a_burst(mode: Mode) -> None:
    """Items at hand are taken without a turn of the scheduler for each."""
    hub = Hub()
    with hub.subscribe(mode=mode) as subscription:
        async with running(hub, "a") as a, running(hub, "b") as b:
            await a.send(frame(1, "a"))
            await b.send(frame(1, "b"))
            others: list[str] = []
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_note, others)
                got = [brief(await subscription.__anext__()) for _ in range(4)]
                assert others == []
    assert sorted(got) == ["a+", "a1", "b+", "b1"]


@pytest.mark.parametrize("mode", MODES)
async def test_leaving_in_mid_capture_leaves_nothing_behind(mode: Mode) -> None:
    """The capture goes on as if nobody had been there."""
    hub = Hub()
    async with running(hub) as capture:
        with hub.subscribe(mode=mode) as subscription:
            await capture.send(frame(1))
            assert hub.subscribers == 1
        assert hub.subscribers == 0
        kept = weakref.ref(subscription)
        del subscription
        gc.collect()
        assert kept() is None
        for seq in range(2, 30):
            await capture.send(frame(seq))


async def _note(into: list[str]) -> None:
    into.append("ran")


# --- lossless -------------------------------------------------------------------------------


async def fill(hub: Hub, capture: Any) -> int:
    """Send until the window (which opened is in) is full; the next frame's number."""
    for seq in range(1, LOSSLESS_ITEMS):
        with assert_no_checkpoints():
            await capture.send(frame(seq))
    return LOSSLESS_ITEMS


async def test_a_full_window_makes_the_capture_wait(autojump_clock: MockClock) -> None:
    """Fill, see it stop; take one, see it go on with exactly one frame; drain, all came."""
    hub = Hub()
    sent: list[int] = []

    async def send_rest(capture: Any, seq: int) -> None:
        for number in range(seq, seq + 3):
            await capture.send(frame(number))
            sent.append(number)

    with hub.subscribe() as subscription:
        async with running(hub) as capture, trio.open_nursery() as nursery:
            seq = await fill(hub, capture)
            nursery.start_soon(send_rest, capture, seq)
            await trio.sleep(60)
            assert sent == []
            got = await take(subscription, 1)
            await trio.sleep(60)
            assert sent == [seq]
            got += await take(subscription, LOSSLESS_ITEMS + 2)
        got += await take(subscription, 1)
    assert got == ["cap+", *seqs(1, seq + 2), "cap."]


async def test_a_slow_subscriber_neither_reorders_nor_loses_for_others(
    autojump_clock: MockClock,
) -> None:
    """Three paces, one order; the capture goes at the pace of the slowest."""
    hub = Hub()
    got: dict[float, list[str]] = {0: [], 0.1: [], 1: []}
    async with trio.open_nursery() as nursery:
        for pace_s, into in got.items():
            nursery.start_soon(_subscribe, hub, into, pace_s)
        await wait_all_tasks_blocked()
        async with running(hub) as capture:
            for seq in range(1, 51):
                await capture.send(frame(seq))
        hub.close()
    assert got == {pace_s: ["cap+", *seqs(1, 50), "cap."] for pace_s in got}
    assert trio.current_time() >= 50


async def _subscribe(hub: Hub, into: list[str], pace_s: float) -> None:
    with hub.subscribe() as subscription:
        await collect(subscription, into, pace_s)


async def test_others_get_an_item_at_once_though_one_has_no_room(
    autojump_clock: MockClock,
) -> None:
    """While the capture waits for a stalled subscriber, the others have the frame already."""
    hub = Hub()
    with hub.subscribe(), hub.subscribe() as reader:
        async with hub.capture(opened()) as capture:
            seq = await fill(hub, capture)
            assert await take(reader, seq) == ["cap+", *seqs(1, seq - 1)]
            with trio.move_on_after(60) as waited:
                await capture.send(frame(seq))
            assert waited.cancelled_caught
            assert await take(reader, 1) == [f"cap{seq}"]


async def test_a_full_subscriber_of_one_capture_does_not_hold_up_another(
    autojump_clock: MockClock,
) -> None:
    """Two captures share one subscriber; what only one of them has is its own trouble."""
    hub = Hub()
    with hub.subscribe(capture_id="a"), hub.subscribe() as every:
        got: list[str] = []
        async with (
            hub.capture(opened("a")) as a,
            running(hub, "b") as b,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(collect, every, got)
            with trio.move_on_after(5) as waited:
                for seq in range(1, 100):
                    await a.send(frame(seq, "a"))
            assert waited.cancelled_caught
            with trio.fail_after(5):
                for seq in range(1, 100):
                    await b.send(frame(seq, "b"))
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert [item for item in got if item[0] == "b"] == ["b+", *seqs(1, 99, "b")]
        assert [item for item in got if item[0] == "a"] == ["a+", *seqs(1, LOSSLESS_ITEMS, "a")]


async def test_waiting_captures_are_served_in_the_order_they_came(
    autojump_clock: MockClock,
) -> None:
    """No capture overtakes another at a full subscriber."""
    hub = Hub()

    async def wait_for_room(capture: Any, capture_id: str) -> None:
        await capture.send(frame(1, capture_id))
        order.append(capture_id)

    order: list[str] = []
    with hub.subscribe() as subscription:
        async with running(hub, "x") as x:
            for seq in range(1, LOSSLESS_ITEMS):
                await x.send(frame(seq, "x"))
            await take(subscription, 3)
            async with running(hub, "a") as a, running(hub, "b") as b, running(hub, "c") as c:
                async with trio.open_nursery() as nursery:
                    for capture, name in ((c, "c"), (a, "a"), (b, "b")):
                        nursery.start_soon(wait_for_room, capture, name)
                        await trio.sleep(1)
                    for _ in range(3):
                        await take(subscription, 1)
                        await trio.sleep(1)
                await take(subscription, LOSSLESS_ITEMS)
    assert order == ["c", "a", "b"]


async def test_leaving_frees_the_capture_at_once(autojump_clock: MockClock) -> None:
    """A subscriber that goes while a send waits for it is no longer waited for."""
    hub = Hub()
    async with running(hub) as capture:
        async with trio.open_nursery() as nursery:
            with hub.subscribe():
                seq = await fill(hub, capture)
                nursery.start_soon(capture.send, frame(seq))
                await trio.sleep(7)
        assert trio.current_time() == 7
        with assert_no_checkpoints():
            await capture.send(frame(seq + 1))


async def test_a_cancelled_send_leaves_a_prefix_in_order(autojump_clock: MockClock) -> None:
    """It is taken back where there was no room; no later frame can make a gap or come twice."""
    hub = Hub()
    with hub.subscribe() as stalled, hub.subscribe() as reader:
        async with hub.capture(opened()) as capture:
            seq = await fill(hub, capture)
            await take(reader, 3)
            with trio.move_on_after(1):
                await capture.send(frame(seq))
            with pytest.raises(RuntimeError, match="cancelled"):
                await capture.send(frame(seq))
            with pytest.raises(RuntimeError, match="cancelled"):
                await capture.send(frame(seq + 1))
            assert await take(stalled, LOSSLESS_ITEMS) == ["cap+", *seqs(1, seq - 1)]
            await capture.finish(abort())
            assert await take(stalled, 1) == ["cap!"]
            assert await take(reader, LOSSLESS_ITEMS - 1) == [*seqs(3, seq), "cap!"]


async def test_cancelling_at_every_instant_keeps_order(autojump_clock: MockClock) -> None:
    """Sweep: whenever the capture is cancelled, every subscriber has a prefix, then the end."""
    for tick in range(40):
        hub = Hub()
        got: dict[float, list[str]] = {0.1: [], 0.3: []}
        async with trio.open_nursery() as nursery:
            for pace_s, into in got.items():
                nursery.start_soon(_subscribe, hub, into, pace_s)
            await wait_all_tasks_blocked()
            async with hub.capture(opened()) as capture:
                with trio.move_on_after(tick * 0.1 + 0.05):
                    for seq in range(1, 20):
                        await capture.send(frame(seq))
                await capture.finish(abort())
            hub.close()
        for into in got.values():
            assert into == ["cap+", *seqs(1, len(into) - 2), "cap!"], tick
        lengths = [len(into) for into in got.values()]
        assert max(lengths) - min(lengths) <= 1


async def test_the_terminal_waits_for_room_and_comes(autojump_clock: MockClock) -> None:
    """`finish` returns when the slow subscriber has room for the terminal, not before."""
    hub = Hub()
    with hub.subscribe() as subscription:
        got: list[str] = []
        async with trio.open_nursery() as nursery:
            async with running(hub) as capture:
                seq = await fill(hub, capture)
                nursery.start_soon(_collect_from, subscription, got, 5)
            assert trio.current_time() == 5
            hub.close()
    assert got == ["cap+", *seqs(1, seq - 1), "cap."]


async def _collect_from(subscription: Subscription, into: list[str], delay_s: float) -> None:
    await trio.sleep(delay_s)
    await collect(subscription, into)


async def test_who_has_no_room_for_a_terminal_in_time_is_let_go(
    autojump_clock: MockClock,
) -> None:
    """It gets what is queued, then the reason; the others and later captures go on."""
    hub = Hub()
    got: list[str] = []
    with hub.subscribe() as stalled:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_subscribe, hub, got, 0)
            await wait_all_tasks_blocked()
            async with hub.capture(opened()) as capture:
                seq = await fill(hub, capture)
                async with running(hub, "other") as other:
                    nursery.start_soon(other.send, frame(1, "other"))
                    with trio.move_on_after(5) as deadline:
                        await capture.finish(close())
                    assert deadline.cancelled_caught
                    assert hub.subscribers == 1
                    await wait_all_tasks_blocked()
                    with assert_no_checkpoints():
                        await other.send(frame(2, "other"))
            hub.close()
        assert sorted(got) == sorted(
            ["cap+", *seqs(1, seq - 1), "cap.", "other+", "other1", "other2", "other."]
        )
        held = await take(stalled, LOSSLESS_ITEMS + 3)
        assert held == ["cap+", *seqs(1, seq - 1), "other+", "cap.", "other1"]
        with pytest.raises(SubscriberTooSlow, match="read faster, or use mode live"):
            await stalled.__anext__()


async def test_a_stalled_subscriber_holds_a_bounded_queue(autojump_clock: MockClock) -> None:
    """Captures come and go for hours; only the first is held up, and memory stays."""
    hub = Hub()
    with hub.subscribe() as stalled:
        for number in range(500):
            async with hub.capture(opened(f"c{number}-")) as capture:
                with trio.move_on_after(1):
                    for seq in range(1, 20):
                        await capture.send(frame(seq, f"c{number}-"))
                with trio.move_on_after(5):
                    await capture.finish(abort(f"c{number}-"))
        assert trio.current_time() == 6
        with pytest.raises(SubscriberTooSlow):
            await take(stalled, LOSSLESS_ITEMS + 2)
        assert stalled.delivered == LOSSLESS_ITEMS - 1


async def test_joining_while_a_capture_finishes_shows_nothing_of_it(
    autojump_clock: MockClock,
) -> None:
    """A newcomer never gets an opened whose terminal has already gone by."""
    hub = Hub()
    with hub.subscribe() as slow:
        async with hub.capture(opened()) as capture, trio.open_nursery() as nursery:
            seq = await fill(hub, capture)
            nursery.start_soon(capture.finish, close())
            await wait_all_tasks_blocked()
            with hub.subscribe() as newcomer:
                await take(slow, seq + 1)
                hub.close()
                assert [item async for item in newcomer] == []


# --- live -----------------------------------------------------------------------------------


async def test_live_keeps_the_newest_frame_and_never_waits() -> None:
    """Frames that a newer one replaced are counted."""
    hub = Hub()
    with hub.subscribe(mode="live") as subscription:
        async with hub.capture(opened()) as capture:
            with assert_no_checkpoints():
                for seq in range(1, 101):
                    await capture.send(frame(seq))
            assert await take(subscription, 2) == ["cap+", "cap100"]
            with assert_no_checkpoints():
                await capture.send(frame(101))
                await capture.send(frame(102))
                await capture.finish(close())
            assert await take(subscription, 2) == ["cap102", "cap."]
        assert (subscription.delivered, subscription.dropped) == (2, 100)


async def test_live_captures_take_turns() -> None:
    """A fast capture does not hide a slow one."""
    hub = Hub()
    got: list[str] = []
    with hub.subscribe(mode="live") as subscription:
        async with hub.capture(opened("a")) as a, hub.capture(opened("b")) as b:
            for seq in range(1, 5):
                await a.send(frame(seq, "a"))
                await b.send(frame(seq, "b"))
                got += await take(subscription, 1)
            got += await take(subscription, 1)
    assert got == ["a+", "b+", "a3", "b4", "a4"]


async def test_live_tells_the_old_capture_to_its_end_before_a_new_one_of_its_id() -> None:
    """An id may come again while the consumer is busy; the two are never mixed."""
    hub = Hub()
    with hub.subscribe(mode="live") as subscription:
        async with hub.capture(opened()) as first:
            assert await take(subscription, 1) == ["cap+"]
            await first.send(frame(1))
            await first.finish(abort())
        async with running(hub) as second:
            await second.send(frame(1))
            assert await take(subscription, 4) == ["cap1", "cap!", "cap+", "cap1"]
        assert await take(subscription, 1) == ["cap."]


async def test_a_stalled_live_consumer_holds_a_bounded_number_of_captures() -> None:
    """Of captures it saw nothing of, the newest are kept; none that it saw is left open."""
    hub = Hub()
    total = 500
    with hub.subscribe(mode="live") as subscription:
        async with hub.capture(opened("seen")) as seen:
            await take(subscription, 1)
            await seen.send(frame(1, "seen"))
            await seen.finish(close("seen"))
        for number in range(total):
            async with running(hub, f"c{number}-") as capture:
                await capture.send(frame(1, f"c{number}-"))
                await capture.send(frame(2, f"c{number}-"))
        hub.close()
        got = [brief(item) async for item in subscription]
    kept = range(total - LIVE_ENDED, total)
    assert got == ["seen1", "seen.", *[f"c{n}-{what}" for n in kept for what in "+2."]]
    assert subscription.forgotten == total - LIVE_ENDED
    assert subscription.dropped == total + subscription.forgotten
    assert subscription.delivered == LIVE_ENDED + 1


async def test_a_slow_live_consumer_never_sees_half_a_capture() -> None:
    """Whatever the pace, each opened it gets is followed by its terminal."""
    hub = Hub()
    got: list[str] = []
    with hub.subscribe(mode="live") as subscription:
        for number in range(200):
            async with running(hub, f"c{number}-") as capture:
                await capture.send(frame(1, f"c{number}-"))
                got += await take(subscription, 1)
        hub.close()
        got += [brief(item) async for item in subscription]
    begun = [item[:-1] for item in got if item.endswith("+")]
    ended = [item[:-1] for item in got if item.endswith(".")]
    assert begun == ended
    assert len(begun) + subscription.forgotten == 200


@pytest.mark.parametrize("mode", MODES)
async def test_a_capture_left_without_a_terminal_is_no_leak(mode: Mode) -> None:
    """A server's bug costs the consumer a terminal, not memory."""
    hub = Hub()
    with hub.subscribe(mode=mode) as subscription:
        async with hub.capture(opened()) as capture:
            await capture.send(frame(1))
            kept = weakref.ref(capture) if hasattr(capture, "__weakref__") else None
        del capture
        gc.collect()
        assert kept is not None
        assert kept() is None
        assert await take(subscription, 2) == ["cap+", "cap1"]


async def test_only_what_is_asked_for_is_told() -> None:
    """Beginnings and ends come unasked; of frames as many as were asked for, and no other."""
    hub = Hub()
    with hub.subscribe_asked() as subscription:
        async with running(hub, "a") as first, running(hub, "b") as second:
            assert await take(subscription, 2) == ["a+", "b+"]
            for seq in range(1, 6):
                await first.send(frame(seq, "a"))
                await second.send(frame(seq, "b"))
            assert subscription.newest() == []
            subscription.ask(["a", "nobody"], 2)
            assert subscription.newest() == [frame(5, "a")]
            assert subscription.newest() == []
            await first.send(frame(6, "a"))
            await second.send(frame(6, "b"))
            assert subscription.has_asked()
            assert subscription.newest() == [frame(6, "a")]
            assert not subscription.has_asked()
            await first.send(frame(7, "a"))
            assert subscription.newest() == []
            # The newest there is, also when it is not new; what was had is not told twice.
            subscription.ask(["a", "b"])
            assert subscription.newest() == [frame(7, "a"), frame(6, "b")]
            subscription.ask(["b"], 2)
            assert subscription.newest() == []
            for seq in (7, 8, 9):
                await second.send(frame(seq, "b"))
            assert subscription.newest() == [frame(9, "b")]
            assert (subscription.delivered, subscription.dropped) == (5, 2)
            assert not subscription.is_ready()
            subscription.ask(["a"])
        # What was asked for and did not come is no frame that was missed.
        assert not subscription.has_asked()
        assert await take(subscription, 2) == ["b.", "a."]
        assert (subscription.delivered, subscription.dropped) == (5, 2)


async def test_what_is_asked_for_anew_takes_the_place_of_what_is_left() -> None:
    """A reader that asks again before all has come gets no more than it asked for last."""
    hub = Hub()
    with hub.subscribe_asked() as subscription:
        async with running(hub) as capture:
            assert await take(subscription, 1) == ["cap+"]
            subscription.ask(["cap"], 100)
            subscription.ask(["cap"], 2)
            got = []
            for seq in range(1, 5):
                await capture.send(frame(seq))
                got += subscription.newest()
            assert got == [frame(1), frame(2)]


@pytest.mark.parametrize(
    ("max_bytes", "taken"),
    [(0, ["a1"]), (10, ["a1"]), (19, ["a1"]), (20, ["a1", "b1"]), (29, ["a1", "b1"])],
)
async def test_what_has_no_room_comes_first_the_next_time(
    max_bytes: int, taken: list[str]
) -> None:
    """Whoever asks says how much it takes at once; of one picture all, whatever its size."""
    hub = Hub()
    with hub.subscribe_asked() as subscription:
        async with running(hub, "a") as a, running(hub, "b") as b, running(hub, "c") as c:
            await take(subscription, 3)
            subscription.ask("abc", 9)
            captures = {"a": a, "b": b, "c": c}
            for name, capture in captures.items():
                await capture.send(frame(1, name, bytes(10)))
            assert [*map(brief, subscription.newest(max_bytes))] == taken
            assert subscription.has_left_out()
            for name, capture in captures.items():
                await capture.send(frame(2, name, bytes(10)))
            left = [name for name in "abc" if f"{name}1" not in taken]
            # Those alone; then it begins anew.
            assert [*map(brief, subscription.newest())] == [f"{name}2" for name in left]
            assert not subscription.has_left_out()
            assert [*map(brief, subscription.newest())] == [f"{name[0]}2" for name in taken]


async def test_what_is_asked_for_before_the_opened_was_taken_comes_behind_it() -> None:
    """And the newest frame of a capture that ends, if it was asked for."""
    hub = Hub()
    with hub.subscribe_asked() as subscription:
        async with running(hub) as capture:
            subscription.ask(["cap"])
            await capture.send(frame(1))
            await capture.send(frame(2))
            assert subscription.newest() == []
            assert await take(subscription, 1) == ["cap+"]
            assert subscription.newest() == [frame(2)]
            await capture.send(frame(3))
            subscription.ask(["cap"])
        assert subscription.newest() == []
        assert await take(subscription, 2) == ["cap3", "cap."]


async def test_what_was_asked_for_can_be_forgotten() -> None:
    """Also what had no room."""
    hub = Hub()
    with hub.subscribe_asked() as subscription:
        async with running(hub, "a") as a, running(hub, "b") as b:
            await take(subscription, 2)
            subscription.ask("ab", 9)
            await a.send(frame(1, "a"))
            await b.send(frame(1, "b"))
            assert len(subscription.newest(1)) == 1
            subscription.forget()
            assert not subscription.has_asked()
            assert not subscription.has_left_out()
            assert subscription.newest() == []
            subscription.ask("b")
            assert subscription.newest() == [frame(1, "b")]


async def test_frames_that_are_asked_for_wake_nobody() -> None:
    """However many there are: who asks for them takes them when it has time."""
    hub = Hub()
    got: list[str] = []
    with hub.subscribe_asked() as subscription:
        async with running(hub) as capture, trio.open_nursery() as nursery:
            nursery.start_soon(collect, subscription, got)
            await wait_all_tasks_blocked()
            waiting = subscription._wake
            subscription.ask(["cap"], 1_000)
            for seq in range(1, 101):
                await capture.send(frame(seq))
            assert subscription._wake is waiting
            assert waiting is not None
            assert not waiting.is_set()
            assert got == ["cap+"]
            nursery.cancel_scope.cancel()


async def test_live_viewers_who_are_behind_cost_a_capture_nothing() -> None:
    """Twenty that have not taken the last frame: as many calls a frame as for one."""

    async def calls(viewers: int) -> int:
        hub = Hub()
        count = 0

        def note(_frame: object, event: str) -> None:
            nonlocal count
            count += event == "call"

        with ExitStack() as stack:
            for _ in range(viewers):
                stack.enter_context(hub.subscribe(mode="live"))
            async with running(hub) as capture:
                await capture.send(frame(1))
                frames = [frame(seq) for seq in range(2, 102)]
                with Profiled(note):
                    for item in frames:
                        await capture.send(item)
        return count

    assert await calls(20) == await calls(1)


async def test_a_live_viewer_that_leaves_frees_the_frame() -> None:
    """The capture keeps no frame that nobody will take; a newcomer gets none from before."""
    hub = Hub()
    async with running(hub) as capture:
        with hub.subscribe(mode="live") as first, hub.subscribe(mode="live") as second:
            await take(first, 1)
            await take(second, 1)
            item = frame(1)
            kept = weakref.ref(item)
            await capture.send(item)
            assert await take(first, 1) == ["cap1"]
        del item
        gc.collect()
        assert kept() is None
        await capture.send(frame(2))
        with hub.subscribe(mode="live") as third:
            await capture.send(frame(3))
            assert await take(third, 2) == ["cap+", "cap3"]
            assert third.dropped == 0


@pytest.mark.parametrize("held", [LOSSLESS_ITEMS - 3, LOSSLESS_ITEMS - 2, LOSSLESS_ITEMS - 1])
async def test_frames_are_taken_at_once_where_every_consumer_has_room(held: int) -> None:
    """Two frames for a lossless consumer that holds so many items: all of them or none, and
    a live one takes the newest either way."""
    hub = Hub()
    with hub.subscribe() as lossless, hub.subscribe(mode="live") as live:
        async with hub.capture(opened()) as capture:
            assert isinstance(capture, PromptSink)
            for seq in range(1, held):  # `opened` is one of them
                assert capture.send_nowait([frame(seq)])
            has_room = held + 2 <= LOSSLESS_ITEMS
            assert capture.send_nowait([frame(held), frame(held + 1)]) is has_room
            last = held + 1 if has_room else held - 1
            assert await take(lossless, last + 1) == [
                "cap+",
                *(f"cap{n + 1}" for n in range(last)),
            ]
            assert (await take(live, 2))[1] == f"cap{last}"
            assert capture.send_nowait([frame(last + 1)])
            await capture.finish(close())


async def test_a_capture_whose_send_was_cut_takes_nothing_at_once() -> None:
    """Some have that frame and some do not; `send` says so."""
    hub = Hub()
    with hub.subscribe() as subscription:
        async with hub.capture(opened()) as capture:
            for seq in range(1, LOSSLESS_ITEMS):
                await capture.send(frame(seq))
            with trio.move_on_after(0):
                await capture.send(frame(LOSSLESS_ITEMS))
            await take(subscription, 5)
            assert isinstance(capture, PromptSink)
            assert not capture.send_nowait([frame(LOSSLESS_ITEMS)])
            with pytest.raises(RuntimeError, match="was cancelled"):
                await capture.send(frame(LOSSLESS_ITEMS))

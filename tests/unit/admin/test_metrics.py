"""What a worker measures: real values of real captures, exact times on the virtual clock."""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import prometheus_client
import pytest
import trio
import yaml
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked

from cfw.admin.exposition import exposition
from cfw.limits import Limits
from cfw.metrics import (
    BUCKETS_S,
    STALL_EVERY_S,
    Histogram,
    Metrics,
    observe_delay,
    watch_stalls,
)
from cfw.routes.registry import Registry
from cfw.routes.rigs import Rigs
from cfw.state import Frame
from cfw.testing.fakes import RecordingSink, ScriptedAuthority, StallingSink
from schemas import ErrorCode
from tests.factories import START_NS, at, close_fields, jpeg, make_meta, meta_fields
from tests.patience import PATIENCE_S
from tests.unit.admin.served import make_app, served
from tests.unit.routes.kit import Bench, Rig, bench
from tests.unit.wire.peer import pair
from tests.whole.smoke.worker import Worker, closing, ending, meta, opening, running

#: Name and labels of a sample, to its value.
Samples = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


class Scraped:
    """The samples of one scrape."""

    def __init__(self, text: str) -> None:
        self.samples: Samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in parse_text(text)
            for sample in family.samples
        }

    def __call__(self, name: str, **labels: str) -> float:
        """The value of one sample; it must be there."""
        return self.samples[name, frozenset(labels.items())]

    def labels(self, name: str) -> dict[str, set[str]]:
        """The labels of a sample name, each with its values; none when it is not there."""
        found: dict[str, set[str]] = {}
        for known, labels in self.samples:
            for label, value in labels if known == name else ():
                found.setdefault(label, set()).add(value)
        return found

    @property
    def names(self) -> set[str]:
        return {name for name, _ in self.samples}


def scrape(made: Bench) -> Scraped:
    """What a worker with this router would show now."""
    show = exposition(made.router.services.metrics, made.registry, Rigs(60))
    return Scraped(show("")[0].decode())


async def get(url: str, **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.get(url, headers=headers)


async def scraped(worker: Worker) -> Scraped:
    answer = await get(f"{worker.addresses.admin}/metrics")
    assert answer.status_code == 200
    return Scraped(answer.text)


async def capture(worker: Worker, frames: int, **fields: Any) -> int | None:
    """Send a capture of frames of 200 bytes; gives its close code."""
    async with worker.connect() as ws:
        await ws.send(opening(**fields))
        for seq in range(1, frames + 1):
            await ws.send(meta(seq))
            await ws.send(jpeg())
        await ws.send(closing())
        _, code, _ = await ending(ws)
    return code


async def scraped_when(worker: Worker, condition: Callable[[Scraped], bool]) -> Scraped:
    """The first scrape that shows what is waited for."""
    with trio.fail_after(PATIENCE_S):
        while not condition(found := await scraped(worker)):  # noqa: ASYNC110 - a real socket
            await trio.sleep(0.01)
    return found


async def gone(worker: Worker) -> Scraped:
    """A scrape once no connection is left."""
    return await scraped_when(worker, lambda found: not found("cfw_connections"))


# --- a real worker --------------------------------------------------------------------------


async def test_a_real_capture_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """One clean capture and one refused: each number is what happened."""
    async with running(monkeypatch) as worker:
        assert await capture(worker, 3) == 1000
        assert await capture(worker, 0, session_id="of nobody") == 1008
        found = await gone(worker)
    assert found("cfw_captures_running") == 0
    assert found("cfw_captures_ended_total", end="clean") == 1
    assert found("cfw_captures_ended_total", end="session_invalid") == 1
    for side in ("accepted", "forwarded"):
        assert found(f"cfw_{side}_frames_total") == 3
        assert found(f"cfw_{side}_bytes_total") == 600
    assert found("cfw_forward_buffer_frames") == found("cfw_forward_buffer_bytes") == 0
    assert found("cfw_ingest_to_sink_seconds_count") == 3
    assert 0 <= found("cfw_ingest_to_sink_seconds_sum") < 60
    assert found("cfw_session_check_seconds_count", result="active") == 1
    assert found("cfw_session_check_seconds_count", result="invalid") == 1
    assert found("cfw_abort_seconds_count") == 1
    assert found("cfw_forward_buffer_filling_total") == 0


async def test_a_running_capture_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its frames count, and wait, before it has ended; afterwards they still count."""
    sink = StallingSink(at=2)
    async with running(monkeypatch, sink=sink, limits__max_forward_buffer_frames=8) as worker:
        async with worker.connect() as ws:
            await ws.send(opening())
            for seq in range(1, 5):
                await ws.send(meta(seq))
                await ws.send(jpeg())
            found = await scraped_when(
                worker,
                lambda found: (
                    found("cfw_accepted_frames_total") == 4
                    and found("cfw_forwarded_frames_total") == 1
                ),
            )
            assert found("cfw_connections") == found("cfw_captures_running") == 1
            assert found("cfw_forwarded_frames_total") == 1
            assert found("cfw_forward_buffer_frames") == 3
            assert found("cfw_forward_buffer_bytes") == 600
            assert 3 / 8 <= found("cfw_forward_buffer_peak_ratio") <= 4 / 8
            sink.release.set()
            await ws.send(closing())
            assert (await ending(ws))[1] == 1000
        found = await gone(worker)
    assert found("cfw_forwarded_frames_total") == found("cfw_accepted_frames_total") == 4
    assert found("cfw_forward_buffer_frames") == found("cfw_forward_buffer_peak_ratio") == 0


async def test_workers_in_one_process_count_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """No clash, nothing shared, and nothing of ours in the library's own registry."""
    async with running(monkeypatch) as one, running(monkeypatch) as other:
        assert await capture(one, 1) == 1000
        assert (await gone(one))("cfw_captures_ended_total", end="clean") == 1
        assert (await gone(other))("cfw_captures_ended_total", end="clean") == 0
    assert b"cfw_" not in prometheus_client.generate_latest()


async def test_draining_is_said_before_anything_else() -> None:
    """A worker that goes away does so whatever its authority does."""
    metrics = Metrics()
    metrics.is_authority_reachable = False
    for is_ready, status in ((False, "draining"), (True, "authority_unreachable")):
        app = make_app(metrics=metrics, is_ready=lambda is_ready=is_ready: is_ready)
        async with served(app) as server:
            answer = await get(f"http://127.0.0.1:{server.port}/readyz")
        assert (answer.status_code, answer.json()) == (503, {"status": status})


# --- the format -----------------------------------------------------------------------------


async def test_all_series_are_there_before_anything_has_happened() -> None:
    """A counter that appears with its first 1 hides that 1 from `rate()`."""
    async with bench() as made:
        found = scrape(made)
    ends = {"clean", *(code.value for code in ErrorCode)}
    assert found.labels("cfw_captures_ended_total") == {"end": ends}
    reasons = {"draining", "capacity", "address", "descriptors", "tls", "identity", "handshake"}
    assert found.labels("cfw_connections_refused_total") == {"reason": reasons}
    results = {"active", "closed", "invalid", "unreachable", "unanswered"}
    assert found.labels("cfw_session_check_seconds_count") == {"result": results}
    assert set(found.samples.values()) == {0.0, 1.0}
    assert [key[0] for key, value in found.samples.items() if value] == [
        "cfw_session_authority_reachable"
    ]
    assert all(name.startswith("cfw_") for name in found.names)


async def test_prometheus_and_openmetrics_are_both_spoken() -> None:
    """The Accept header chooses; the stricter parser of each takes all of it."""
    async with served(make_app()) as server:
        url = f"http://127.0.0.1:{server.port}/metrics"
        plain = await get(url)
        strict = await get(url, accept="application/openmetrics-text; version=1.0.0")
        refused = await trio.to_thread.run_sync(lambda: httpx.post(url, trust_env=False))
    assert plain.headers["content-type"].startswith("text/plain; version=")
    assert plain.headers["cache-control"] == "no-store"
    assert strict.headers["content-type"].startswith("application/openmetrics-text")
    names = {family.name for family in parse_openmetrics(strict.text)}  # type: ignore[no-untyped-call]
    assert names == {family.name for family in parse_text(plain.text)}
    assert refused.status_code == 405


def test_a_duration_falls_into_the_bucket_whose_bound_it_does_not_pass() -> None:
    """Bounds are inclusive, as Prometheus has them; the sum never goes back."""
    histogram = Histogram()
    for seconds in (-1e-9, 0, 0.0005, 0.00051, 10, 10.1):
        histogram.observe(seconds)
    assert histogram.counts[:2] == [3, 1]
    assert histogram.counts[-2:] == [1, 1]
    assert histogram.count == 6
    assert histogram.sum_s == pytest.approx(0.0005 + 0.00051 + 10 + 10.1)


async def test_each_frame_of_a_batch_has_its_own_delay(autojump_clock: MockClock) -> None:
    """Frames that were read at several instants and taken at one are counted one by one."""
    delays, epoch_ns = Histogram(), START_NS - round(trio.current_time() * 1e9)
    await trio.sleep(1)
    read_at = [0.25, 0.25, 0.9, 0.25]
    observe_delay(
        delays,
        epoch_ns,
        trio.current_time,
        [Frame(make_meta(1), b"", START_NS + round(at_s * 1e9)) for at_s in read_at],
    )
    assert [delays.counts[bisect_left(BUCKETS_S, late)] for late in (0.75, 0.1)] == [3, 1]
    assert delays.count == 4
    assert delays.sum_s == pytest.approx(3 * 0.75 + 0.1)


def test_buckets_are_shown_cumulative() -> None:
    """Each bound with all that is not above it; +Inf is the count."""
    metrics = Metrics()
    for seconds in (0.0001, 0.3, 99):
        metrics.stalls.observe(seconds)
    text = exposition(metrics, Registry(Limits()), Rigs(60))("")[0].decode()
    found = Scraped(text)
    name = "cfw_event_loop_stall_seconds"
    shown = [found(f"{name}_bucket", le=str(float(bound))) for bound in BUCKETS_S]
    assert shown == [1.0] * 9 + [2.0] * 5
    assert found(f"{name}_bucket", le="+Inf") == found(f"{name}_count") == 3
    assert found(f"{name}_sum") == pytest.approx(99.3001)


# --- exact times ----------------------------------------------------------------------------


async def test_delays_and_checks_are_timed_exactly(autojump_clock: MockClock) -> None:
    """A sink of 30 ms a frame, an authority of 70 ms a check."""
    sink, authority = RecordingSink(delay_s=0.03), ScriptedAuthority(delay_s=0.07)
    async with bench(sink, authority) as made:
        rig = await made.capture()
        await trio.sleep(0.1)
        for seq in (1, 2):
            await rig.frame(seq)
            await trio.sleep(0.1)
        await rig.say(close_fields())
        assert (await rig.ending()).code == 1000
        found = scrape(made)
    assert found("cfw_ingest_to_sink_seconds_count") == 2
    assert found("cfw_ingest_to_sink_seconds_sum") == pytest.approx(0.06)
    assert found("cfw_ingest_to_sink_seconds_bucket", le="0.025") == 0
    assert found("cfw_ingest_to_sink_seconds_bucket", le="0.05") == 2
    name = "cfw_session_check_seconds"
    assert found(f"{name}_sum", result="active") == pytest.approx(0.07)


async def test_a_check_without_an_answer_took_as_long_as_it_was_given(
    autojump_clock: MockClock,
) -> None:
    """Unreachable by timeout counts like unreachable by error."""
    async with bench(authority=ScriptedAuthority(["stall"])) as made:
        rig = await made.capture()
        assert (await rig.ending()).code == 1008
        found = scrape(made)
    name = "cfw_session_check_seconds"
    assert found(f"{name}_count", result="unreachable") == 1
    assert found(f"{name}_sum", result="unreachable") == pytest.approx(2)


async def test_an_abort_is_timed_from_the_violation(autojump_clock: MockClock) -> None:
    """The sink is given its terminal first; the 400 ms it takes are part of the latency."""
    async with bench(RecordingSink(finish_s=0.4)) as made:
        rig = await made.capture()
        await rig.frame(2)  # 1 was due
        assert (await rig.ending()).aborts[0].error_code is ErrorCode.PROTOCOL_VIOLATION
        found = scrape(made)
    assert found("cfw_captures_ended_total", end="protocol_violation") == 1
    assert found("cfw_abort_seconds_count") == 1
    assert found("cfw_abort_seconds_sum") == pytest.approx(0.4)


async def test_a_clean_end_and_a_rig_that_left_are_no_aborts(
    autojump_clock: MockClock,
) -> None:
    """Only an abort that was sent has a latency."""
    async with bench() as made:
        rig = await made.capture()
        await rig.say(close_fields())
        assert (await rig.ending()).code == 1000
        rig = await made.capture(capture_id="cap-2")
        await trio.sleep(0.1)
        await rig.peer.stream.aclose()
        await trio.sleep(10)
        found = scrape(made)
    assert found("cfw_captures_ended_total", end="client_disconnected") == 1
    assert found("cfw_abort_seconds_count") == 0


async def test_a_stalled_loop_is_measured(autojump_clock: MockClock) -> None:
    """The clock jumps while the task sleeps: that is how late it wakes up."""
    metrics = Metrics()
    autojump_clock.autojump_threshold = float("inf")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch_stalls, metrics)
        await wait_all_tasks_blocked()
        autojump_clock.jump(STALL_EVERY_S)
        await wait_all_tasks_blocked()
        assert (metrics.stalls.count, metrics.stalls.sum_s) == (1, 0)
        autojump_clock.jump(STALL_EVERY_S + 0.7)
        await wait_all_tasks_blocked()
        assert metrics.stalls.count == 2
        assert metrics.stalls.sum_s == pytest.approx(0.7)
        nursery.cancel_scope.cancel()


# --- connections ----------------------------------------------------------------------------


async def test_connections_are_counted_in_and_out(autojump_clock: MockClock) -> None:
    """One too many, one after the drain began, one that speaks no WebSocket."""
    async with bench(limits={"max_connections": 1}) as made:
        rig = await made.capture()
        await trio.sleep(0.1)
        assert scrape(made)("cfw_connections") == 1
        for _ in range(2):
            await refused(made, b"GET / HTTP/1.1\r\n\r\n")
        await rig.say(close_fields())
        assert (await rig.ending()).code == 1000
        await made.router.wait_gone()
        await refused(made, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        made.router.drain()
        await refused(made, b"")
        found = scrape(made)
    assert found("cfw_connections") == 0
    name = "cfw_connections_refused_total"
    assert found(name, reason="capacity") == 2
    assert found(name, reason="handshake") == 1
    assert found(name, reason="draining") == 1


async def refused(made: Bench, request: bytes) -> None:
    """Connect, say this, and be served until the router is done with it."""
    ours, peer = pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.router.handle, ours)
        await peer.send(request)
        await peer.read_rest()


# --- early warning --------------------------------------------------------------------------


async def send_paced(rig: Rig, frames: range, every_s: float) -> None:
    for seq in frames:
        await rig.frame(seq, timestamp_frame=at(trio.current_time()))
        await trio.sleep(every_s)


async def test_a_buffer_that_fills_is_told_early(autojump_clock: MockClock) -> None:
    """At 6 of 8 frames nothing, at 7 one line, and none again for that capture."""
    sink = StallingSink(at=3)
    with capture_logs() as lines:
        async with bench(sink, limits={"max_forward_buffer_frames": 8}) as made:
            rig = await made.capture()
            await send_paced(rig, range(1, 9), 0.1)  # 2 taken, 6 wait
            assert not [line for line in lines if line["event"] == "buffer.filling"]
            await send_paced(rig, range(9, 10), 0.1)
            (line,) = [line for line in lines if line["event"] == "buffer.filling"]
            assert scrape(made)("cfw_forward_buffer_filling_total") == 1
            assert scrape(made)("cfw_forward_buffer_peak_ratio") == 7 / 8
            sink.release.set()
            await trio.sleep(0.1)
            sink.release = trio.Event()
            sink.at = 10
            await send_paced(rig, range(10, 17), 0.1)
            sink.release.set()
            await rig.say(close_fields(timestamp_end=at(trio.current_time())))
            assert (await rig.ending()).code == 1000
            assert scrape(made)("cfw_forward_buffer_filling_total") == 1
    assert [line["event"] for line in lines].count("buffer.filling") == 1
    shown = {name: line[name] for name in ("log_level", "slow_side", "fill", "capture_id")}
    assert shown == {
        "log_level": "warning",
        "slow_side": "sink",
        "fill": 0.875,
        "capture_id": "cap-1",
    }
    assert (line["frames"], line["max_forward_buffer_frames"]) == (7, 8)
    assert (line["bytes"], line["max_forward_buffer_bytes"]) == (1400, 10_000_000)
    # 9 frames came and 2 were taken in the 0.825 s until the warning.
    assert line["accepted_per_s"] == pytest.approx(9 / 0.825, abs=0.01)
    assert line["forwarded_per_s"] == pytest.approx(2 / 0.825, abs=0.01)


@pytest.mark.parametrize(("size", "warned"), [(374, 0), (375, 0), (376, 1)])
async def test_bytes_fill_a_buffer_too(
    size: int, warned: int, autojump_clock: MockClock
) -> None:
    """75 % of 1000 bytes may be reached and not passed."""
    limits = {"max_forward_buffer_bytes": 1000, "max_frame_bytes": 500}
    sink = StallingSink(at=1)
    async with bench(sink, limits=limits) as made:
        rig = await made.capture()
        for seq, each in ((1, 375), (2, size)):
            await rig.frame(seq, jpeg(each))
        await trio.sleep(0.1)
        assert scrape(made)("cfw_forward_buffer_filling_total") == warned
        sink.release.set()
        await rig.say(close_fields())
        assert (await rig.ending()).code == 1000


async def test_the_warning_comes_before_the_abort(autojump_clock: MockClock) -> None:
    """Also when all frames come in one read."""
    with capture_logs() as lines:
        async with bench(StallingSink(at=1), limits={"max_forward_buffer_frames": 4}) as made:
            rig = await made.capture()
            await burst(rig, 5)
            abort = (await rig.ending()).aborts[0]
    assert abort.error_code is ErrorCode.LIMIT_FORWARD_BUFFER_EXCEEDED
    events = [line["event"] for line in lines]
    assert events.index("buffer.filling") < events.index("capture.aborted")


async def test_a_burst_blames_no_sink_that_takes_at_once(autojump_clock: MockClock) -> None:
    """The buffer was full because its forwarder had no turn; it is looked at again later."""
    sink = StallingSink(at=12)
    with capture_logs() as lines:
        async with bench(sink, limits={"max_forward_buffer_frames": 8}) as made:
            rig = await made.capture()
            await burst(rig, 8)
            await trio.sleep(0.1)
            assert scrape(made)("cfw_forward_buffer_peak_ratio") == 1
            assert scrape(made)("cfw_forward_buffer_filling_total") == 0
            await send_paced(rig, range(9, 19), 0.1)
            assert scrape(made)("cfw_forward_buffer_filling_total") == 1
            sink.release.set()
            await rig.say(close_fields(timestamp_end=at(trio.current_time())))
            assert (await rig.ending()).code == 1000
    assert [line["event"] for line in lines].count("buffer.filling") == 1


async def burst(rig: Rig, frames: int) -> None:
    parts = [(meta_fields(seq), jpeg()) for seq in range(1, frames + 1)]
    await rig.say(*(message for part in parts for message in part))


# --- dashboard and alerts -------------------------------------------------------------------

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)\s*\{([^}]*)\}")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")
_NAME = re.compile(r"(?<![\w:$.])[a-zA-Z_:][\w:]*(?!\s*\()(?![\w:])")
#: Labels that Prometheus itself gives every series.
GIVEN = {"instance", "job"}


def used(expr: str) -> set[str]:
    """The metric names of an expression: every name that is no function, label or keyword."""
    bare = _STRING.sub('""', expr)
    bare = re.sub(r"\{[^}]*\}", "", _GROUPING.sub("", bare))
    bare = re.sub(r"\[[^\]]*\]", "", bare)
    return set(_NAME.findall(bare)) - {"and", "or", "unless", "bool", "sum", "min", "max"}


def problems(expr: str, found: Scraped) -> list[str]:
    """What an expression asks for that the worker does not have."""
    wrong = [f"no metric {name}" for name in used(expr) if name not in found.names]
    for name, matchers in _SELECTOR.findall(expr):
        labels = found.labels(name)
        for label, operator, value in _MATCHER.findall(matchers):
            if label in GIVEN:
                continue
            values = value.split("|") if "~" in operator else [value]
            wrong += [
                f"{name} has no {label}={each}"
                for each in values
                if each not in labels.get(label, ())
            ]
    known = GIVEN.union(*(found.labels(name) for name in used(expr)))
    for grouping in _GROUPING.findall(expr):
        labels_used = {label.strip() for label in grouping.split(",")}
        wrong += [f"no label {label}" for label in labels_used - known]
    return wrong


def dashboard_exprs() -> Iterator[tuple[str, str]]:
    for path in files("cfw.admin").joinpath("grafana").iterdir():
        dashboard = json.loads(path.read_text("utf-8"))
        panels = dashboard["panels"]
        assert len({panel["id"] for panel in panels}) == len(panels)
        for panel in panels:
            for target in panel["targets"]:
                yield f"{dashboard['title']}: {panel['title']}", target["expr"]


def alert_exprs() -> Iterator[tuple[str, str]]:
    rules = yaml.safe_load(files("cfw.admin").joinpath("alerts.yml").read_text("utf-8"))
    for group in rules["groups"]:
        for rule in group["rules"]:
            assert {"alert", "expr", "labels", "annotations"} <= set(rule)
            assert set(rule["annotations"]) == {"summary", "description"}
            yield rule["alert"], rule["expr"]


async def test_dashboard_and_alerts_ask_for_what_a_worker_shows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each metric name, label and label value is one of a running worker that expects a rig."""
    rigs = tmp_path / "rigs.toml"
    rigs.write_text('door = "ada"')
    async with running(monkeypatch, rigs__file=str(rigs)) as worker:
        found = await scraped(worker)
    exprs = [*dashboard_exprs(), *alert_exprs()]
    assert len(exprs) > 20
    assert {where: wrong for where, expr in exprs if (wrong := problems(expr, found))} == {}
    # Every family is looked at somewhere.
    asked = set().union(*(used(expr) for _, expr in exprs))
    families = {re.sub("_(bucket|sum|count)$", "", name) for name in found.names}
    assert families == {re.sub("_(bucket|sum|count)$", "", name) for name in asked}


@pytest.mark.parametrize(
    ("expr", "wrong"),
    [
        ("sum(rate(cfw_frames_total[5m])) > 1", ["no metric cfw_frames_total"]),
        ("up == 0 and cfw_connections > 1", ["no metric up"]),
        (
            'cfw_captures_ended_total{end=~"clean|lost"}',
            ["cfw_captures_ended_total has no end=lost"],
        ),
        ("sum by (reason) (cfw_captures_ended_total)", ["no label reason"]),
        ('sum by (end) (rate(cfw_captures_ended_total{end!="clean"}[5m])) * 60 > 0', []),
    ],
)
async def test_the_check_sees_what_is_wrong(expr: str, wrong: list[str]) -> None:
    """A check that cannot fail is none."""
    async with bench() as made:
        assert problems(expr, scrape(made)) == wrong

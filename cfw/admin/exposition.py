"""The measures of one worker as Prometheus reads them, collected when it asks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from cfw.metrics import BUCKETS_S, Histogram, Metrics
from cfw.routes.registry import Registry
from cfw.routes.rigs import Rigs
from schemas import ErrorCode

#: Of no version, or of this one.
_OPENMETRICS = re.compile(
    r"\s*application/openmetrics-text\s*(?!.*;\s*version=(?!1\.0\.0\b))(;|$)"
)
_OPENMETRICS_1 = "application/openmetrics-text; version=1.0.0"
_BOUNDS = [*map(floatToGoString, BUCKETS_S), "+Inf"]


def exposition(
    metrics: Metrics, registry: Registry, rigs: Rigs
) -> Callable[[str], tuple[bytes, str]]:
    """Make what answers a scrape: from its Accept header, the body and its content type.

    Args:
        metrics: what the worker measures.
        registry: its captures, and how they ended.
        rigs: those that are expected.
    """
    # A registry of its own: two workers in one process would clash in the library's.
    collectors = CollectorRegistry()
    collectors.register(_Worker(metrics, registry, rigs))

    def answer(accept: str) -> tuple[bytes, str]:
        # The library raises at what is no version, and says any other one back.
        is_open = any(map(_OPENMETRICS.match, accept.split(",")))
        encode, content_type = choose_encoder(_OPENMETRICS_1 if is_open else "")
        return encode(collectors), content_type

    return answer


class _Worker(Collector):
    def __init__(self, metrics: Metrics, registry: Registry, rigs: Rigs) -> None:
        self._metrics = metrics
        self._rigs = rigs
        self._registry = registry

    def describe(self) -> Iterator[Metric]:
        return self.collect()

    def collect(self) -> Iterator[Metric]:
        metrics, registry = self._metrics, self._registry
        yield _gauge("cfw_connections", "Connections open now.", metrics.connections)
        yield _counters(
            "cfw_connections_refused",
            "Connections not let in: draining, no room, none for this address, no descriptor, "
            "no good TLS or WebSocket handshake, or not known (identity).",
            "reason",
            metrics.refused,
        )
        yield _gauge("cfw_captures_running", "Captures running now.", len(registry))
        yield _counters(
            "cfw_captures_ended",
            "Captures that are over: clean, or the error code of their abort.",
            "end",
            {"clean": registry.ends[None]}
            | {code.value: registry.ends[code] for code in ErrorCode},
        )
        missing = GaugeMetricFamily(
            "cfw_rig_missing",
            "1 while a rig that is expected has no capture for rigs.missing_after_s.",
            labels=["rig"],
        )
        for name, is_missing in self._rigs.missing().items():
            missing.add_metric([name], is_missing)
        yield missing
        yield from self._traffic()
        yield CounterMetricFamily(
            "cfw_sink_unreadable",
            "What the sink found on its server that no worker can have written; put aside.",
            self._metrics.unreadable(),
        )
        yield _histogram(
            "cfw_ingest_to_sink_seconds",
            "From having all of a frame to the sink having taken it.",
            metrics.ingest_to_sink,
        )
        checks = HistogramMetricFamily(
            "cfw_session_check_seconds", "Checks of sessions, by result.", labels=["result"]
        )
        for result, histogram in metrics.session_checks.items():
            checks.add_metric([result], _buckets(histogram), histogram.sum_s)
        yield checks
        yield _gauge(
            "cfw_session_authority_reachable",
            "1 while the session authority answers, and before the first check.",
            metrics.is_authority_reachable,
        )
        yield _histogram(
            "cfw_abort_seconds",
            "From noticing a violation to having sent the abort message.",
            metrics.aborts,
        )
        yield _histogram(
            "cfw_event_loop_stall_seconds",
            "How late the event loop woke up a task that slept.",
            metrics.stalls,
        )
        yield CounterMetricFamily(
            "cfw_log_lines_lost",
            "Lines of the log that standard error did not take, or had no room for.",
            metrics.log_lines_lost(),
        )

    def _traffic(self) -> Iterator[Metric]:
        traffic = self._metrics.traffic()
        accepted, forwarded = "accepted from rigs.", "that sinks have taken."
        for name, text, value in (
            ("cfw_accepted_frames", f"Frames {accepted}", traffic.frames_accepted),
            ("cfw_accepted_bytes", f"Bytes of frames {accepted}", traffic.bytes_accepted),
            ("cfw_forwarded_frames", f"Frames {forwarded}", traffic.frames_forwarded),
            ("cfw_forwarded_bytes", f"Bytes of frames {forwarded}", traffic.bytes_forwarded),
        ):
            yield CounterMetricFamily(name, text, value)
        frames, size = self._metrics.buffered()
        yield _gauge("cfw_forward_buffer_frames", "Frames that wait for sinks now.", frames)
        yield _gauge("cfw_forward_buffer_bytes", "Bytes that wait for sinks now.", size)
        yield _gauge(
            "cfw_forward_buffer_peak_ratio",
            "How full the fullest buffer of a running capture has been; 1 is full.",
            self._metrics.peak_ratio(),
        )
        yield CounterMetricFamily(
            "cfw_forward_buffer_filling",
            "Captures whose forward buffer passed 75 %: the sink is slow.",
            self._metrics.filling,
        )


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value)


def _counters(name: str, text: str, label: str, values: dict[str, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for value, count in values.items():
        family.add_metric([value], count)
    return family


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    return HistogramMetricFamily(name, text, _buckets(histogram), histogram.sum_s)


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """Each bound with how many are not above it, as Prometheus wants them."""
    return list(zip(_BOUNDS, accumulate(histogram.counts), strict=True))

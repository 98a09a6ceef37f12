"""What a recorder shows to Prometheus; RECORD.md has the table."""

from __future__ import annotations

from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from cfw.client import FeedOutage
from cfw.record._capture import Written
from cfw.record._events import Listener


class RecorderMetrics(Listener):
    """Counts what it hears, and shows it on a port."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own = self.registry
        self._connected = Gauge(
            "cfw_record_connected", "1 while the feed is read.", registry=own
        )
        self._losses = Counter(
            "cfw_record_feed_losses", "Times the feed was lost.", registry=own
        )
        self._ended = Counter("cfw_record_ended", "Recordings.", ["end"], registry=own)
        for end in ("whole", "cut", "failed"):
            self._ended.labels(end)
        self._frames = Counter("cfw_record_frames", "Frames that came.", registry=own)
        self._bytes = Counter("cfw_record_bytes", "Bytes of these.", registry=own)
        self._waiting = Gauge("cfw_record_waiting_bytes", "Waiting for the disk.", registry=own)
        self._waited = Counter(
            "cfw_record_slow_seconds", "The disk has kept captures waiting.", registry=own
        )

    def serve(self, port: int) -> int:
        """Show them on loopback; says on which port.

        Raises:
            OSError: the port is taken.
        """
        server, _ = start_http_server(port, addr="127.0.0.1", registry=self.registry)
        return int(server.server_port)

    def connected(self, outage: FeedOutage | None) -> None:
        self._connected.set(1)

    def lost(self, outage: FeedOutage) -> None:
        self._connected.set(0)
        self._losses.inc()

    def frame(self, size: int) -> None:
        self._frames.inc()
        self._bytes.inc(size)

    def waiting(self, size: int) -> None:
        self._waiting.set(size)

    def ended(self, written: Written) -> None:
        self._ended.labels(written.manifest.state).inc()

    def failed(self, capture_id: str, part: Path | None, reason: str) -> None:
        self._ended.labels("failed").inc()

    def slow(self, waited_s: float) -> None:
        self._waited.inc(waited_s)

"""What a worker measures of itself: plain numbers, added up where things happen.

`cfw.admin.exposition` shows them to Prometheus; only the admin listener imports it.
"""

from cfw.metrics._measures import BUCKETS_S, CheckResult, Histogram, Metrics, Refusal
from cfw.metrics._watch import STALL_EVERY_S, observe_delay, watch_stalls

__all__ = [
    "BUCKETS_S",
    "STALL_EVERY_S",
    "CheckResult",
    "Histogram",
    "Metrics",
    "Refusal",
    "observe_delay",
    "watch_stalls",
]

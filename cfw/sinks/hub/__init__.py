"""`hub:` - hands captures to subscribers in this process; it stores nothing.

    capture --> lossless lane: one queue, a window of LOSSLESS_ITEMS --> consumer
            `-> live lane: the newest frame of the capture           --> consumer

Each capture owns two lanes, one for each promise; each consumer is in one lane of every
capture it gets. What **lossless** promises stands in `_lossless`, what **live** does in
`_live`. Without a subscriber frames are discarded.
"""

from cfw.sinks.hub._hub import Hub, open_hub
from cfw.sinks.hub._live import LIVE_ENDED, AskedSubscription
from cfw.sinks.hub._lossless import LOSSLESS_ITEMS
from cfw.sinks.hub._subscription import FeedItem, Mode, SubscriberTooSlow, Subscription

__all__ = [
    "LIVE_ENDED",
    "LOSSLESS_ITEMS",
    "AskedSubscription",
    "FeedItem",
    "Hub",
    "Mode",
    "SubscriberTooSlow",
    "Subscription",
    "open_hub",
]

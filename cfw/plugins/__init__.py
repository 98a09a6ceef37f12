"""What sinks and session authorities stand on: they are chosen by URL, also those of others.

    schemes   the factory that a URL's scheme names, and why there is none
    urls      a URL without its secrets

What one of them runs beside the captures it runs with `cfw.tasks.background`.
"""

from cfw.plugins.schemes import (
    AmbiguousScheme,
    BrokenPlugin,
    OutOfReach,
    PluginError,
    UnknownScheme,
    load_scheme,
)
from cfw.plugins.urls import redact_url

__all__ = [
    "AmbiguousScheme",
    "BrokenPlugin",
    "OutOfReach",
    "PluginError",
    "UnknownScheme",
    "load_scheme",
    "redact_url",
]

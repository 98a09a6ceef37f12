"""The application: a configuration becomes a running worker."""

from cfw.api.access import Reload
from cfw.api.main import Addresses, ListenError, Shutdown, longest_stop_s, naming, serve

__all__ = [
    "Addresses",
    "ListenError",
    "Reload",
    "Shutdown",
    "longest_stop_s",
    "naming",
    "serve",
]

"""The application: a configuration becomes a running worker."""

from cfw.api.main import Addresses, ListenError, Shutdown, serve

__all__ = ["Addresses", "ListenError", "Shutdown", "serve"]

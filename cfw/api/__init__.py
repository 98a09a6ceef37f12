"""The application: a configuration becomes a running worker."""

from cfw.api.main import Addresses, Shutdown, serve

__all__ = ["Addresses", "Shutdown", "serve"]

"""What operators and viewers read over HTTP: health, running captures, and the feed."""

from cfw.admin.app import create_app
from cfw.admin.hosts import is_loopback, loopback_only
from cfw.admin.serve import AdminServer, serve_admin

__all__ = ["AdminServer", "create_app", "is_loopback", "loopback_only", "serve_admin"]

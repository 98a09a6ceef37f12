"""What operators and viewers read over HTTP: health, running captures, and the feed."""

from cfw.admin.app import create_app
from cfw.admin.guard import token_only
from cfw.admin.invitations import Desk
from cfw.admin.serve import AdminServer, serve_admin
from cfw.http.origin import loopback_only

__all__ = [
    "AdminServer",
    "Desk",
    "create_app",
    "loopback_only",
    "serve_admin",
    "token_only",
]

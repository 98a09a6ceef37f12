"""The capture route, as the application mounts it."""

from cfw.routes import PATH, Router

__all__ = ["PATH", "Router"]

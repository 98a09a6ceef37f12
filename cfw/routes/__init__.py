"""The shell: one nursery per connection carries out what the core decides."""

from cfw.routes.router import PATH, Router

__all__ = ["PATH", "Router"]

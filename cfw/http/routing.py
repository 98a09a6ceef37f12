"""Which request is answered by what."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from cfw.http.messages import Answer, Handler, Request, problem


@attrs.frozen
class Route:
    """What one path has to say.

    Args:
        path: compared as it is, but for a second part in braces, which stands for any, as in
            `/captures/{capture_id}/latest.jpg`.
        handler: answers, or makes a WebSocket.
        methods: HEAD belongs to GET.
    """

    path: str
    handler: Handler
    methods: tuple[str, ...] = ("GET", "HEAD")


class App:
    """An application: a `Handler` of its routes, and of what is on none of them."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = {route.path: route for route in routes}
        self._open = {
            _opened(path.split("/")): route
            for path, route in self.routes.items()
            if "{" in path
        }

    async def __call__(self, request: Request) -> Answer:
        """Answer a request: 404 for a path that is unknown, 405 for a method."""
        route = self.routes.get(request.path)
        if route is None and len(parts := request.path.split("/")) > 2 and parts[2]:
            route = self._open.get(_opened(parts))
        if route is None:
            return problem("not found", 404)
        if request.method not in route.methods:
            allow = {"allow": ", ".join(route.methods)}
            return problem("method not allowed", 405, allow)
        return await route.handler(request)


def _opened(parts: list[str]) -> tuple[str, ...]:
    """The parts of a path, whatever the second one is."""
    return (*parts[:2], "", *parts[3:])

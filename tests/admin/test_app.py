"""The pages of the admin listener, over a real socket."""

from __future__ import annotations

import attrs
import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from structlog.testing import capture_logs

from cfw.admin import create_app
from cfw.limits import Limits
from cfw.registry import CaptureStatus, Registry
from schemas import Timestamp
from tests.admin.served import served, until

OPENED = Timestamp.parse("2026-05-04T10:20:30.123456789+02:00")


def make_app(*, registry: Registry | None = None, is_ready: bool = True) -> Starlette:
    if registry is None:
        registry = Registry(Limits())
    return create_app(registry=registry, hub=None, is_ready=lambda: is_ready)


async def get(app: Starlette, path: str, method: str = "GET") -> httpx.Response:
    async with served(app) as server, httpx.AsyncClient(trust_env=False) as client:
        return await client.request(method, f"http://127.0.0.1:{server.port}{path}")


async def test_healthz_says_that_the_process_answers() -> None:
    """Also while it drains: a draining worker is not to be killed."""
    answer = await get(make_app(is_ready=False), "/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


@pytest.mark.parametrize(
    ("is_ready", "status", "text"), [(True, 200, "ready"), (False, 503, "draining")]
)
async def test_readyz_says_whether_captures_are_taken(
    is_ready: bool, status: int, text: str
) -> None:
    """A balancer reads the status, a person the text."""
    answer = await get(make_app(is_ready=is_ready), "/readyz")
    assert (answer.status_code, answer.json()) == (status, {"status": text})


async def test_captures_lists_what_runs() -> None:
    """Every field of the status, the instant as ISO text; empty when none runs."""
    status = CaptureStatus(
        capture_id="cap",
        user_id="user",
        session_id="session",
        state="active",
        frames=3,
        bytes=900,
        buffer_frames=1,
        buffer_bytes=300,
        opened=OPENED,
        fps=14.5,
    )
    registry = Registry(Limits())
    app = make_app(registry=registry)
    with registry.claim("cap", lambda: status):
        answer = await get(app, "/captures")
    # Nothing it has is left out.
    expected = attrs.asdict(status, recurse=False) | {"opened": OPENED.text}
    assert answer.json() == {"captures": [expected]}
    assert (await get(app, "/captures")).json() == {"captures": []}


async def test_answers_are_json_of_this_moment_and_name_no_software() -> None:
    """Nothing is cached on the way, and no header tells versions."""
    answer = await get(make_app(), "/healthz")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert "server" not in answer.headers


@pytest.mark.parametrize("path", ["/", "/nosuch", "/healthz/", "/healthz/..%2fcaptures"])
async def test_an_unknown_path_is_a_json_404(path: str) -> None:
    """No page, no redirect."""
    answer = await get(make_app(), path)
    assert (answer.status_code, answer.json()) == (404, {"error": "not found"})


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/captures"])
async def test_nothing_can_be_changed(method: str, path: str) -> None:
    """Only GET, and HEAD as HTTP demands it beside GET."""
    answer = await get(make_app(), path, method)
    assert (answer.status_code, answer.json()) == (405, {"error": "method not allowed"})
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}


async def test_head_is_get_without_a_body() -> None:
    """Some health checks ask that way."""
    answer = await get(make_app(), "/healthz", "HEAD")
    assert (answer.status_code, answer.content) == (200, b"")


async def test_a_bug_is_told_to_the_log_and_not_to_the_client() -> None:
    """A plain 500; one error line with the cause; the listener goes on."""

    async def broken(_: Request) -> Response:
        raise LookupError("a private detail")

    app = make_app()
    app.add_route("/broken", broken)
    async with served(app) as server, httpx.AsyncClient(trust_env=False) as client:
        url = f"http://127.0.0.1:{server.port}"
        with capture_logs() as logs:
            answer = await client.get(f"{url}/broken")
            await until(lambda: logs)
        assert (answer.status_code, answer.json()) == (500, {"error": "internal error"})
        assert [(line["event"], line["log_level"]) for line in logs] == [
            ("admin.failed", "error")
        ]
        assert logs[0]["exc_info"]
        assert (await client.get(f"{url}/healthz")).status_code == 200


async def test_is_ready_is_asked_each_time() -> None:
    """The answer flips with the worker, on one connection."""
    answers = iter([True, False, True])
    app = create_app(registry=Registry(Limits()), hub=None, is_ready=lambda: next(answers))
    async with served(app) as server, httpx.AsyncClient(trust_env=False) as client:
        url = f"http://127.0.0.1:{server.port}/readyz"
        codes = [(await client.get(url)).status_code for _ in range(3)]
        assert codes == [200, 503, 200]
        assert server.connections == 1

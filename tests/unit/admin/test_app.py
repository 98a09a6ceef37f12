"""The pages of the admin listener, over a real socket."""

from __future__ import annotations

import attrs
import httpx
import pytest
from structlog.testing import capture_logs

from cfw.errors import OPERATOR_ENDED
from cfw.explanations import EXPLANATIONS
from cfw.http.messages import Request, Response
from cfw.http.routing import App, Route
from cfw.limits import Limits, Times
from cfw.metrics import Metrics
from cfw.routes.refusals import REFUSED_KEPT, Refusals
from cfw.routes.registry import CaptureStatus, EndedCapture, Registry
from cfw.sinks.hub import Hub
from schemas import ErrorCode, Timestamp
from tests.patience import until
from tests.unit.admin.served import make_app, served

OPENED = Timestamp.parse("2026-05-04T10:20:30.123456789+02:00")


async def get(app: App, path: str, method: str = "GET") -> httpx.Response:
    async with served(app) as server, httpx.AsyncClient(trust_env=False) as client:
        return await client.request(method, f"http://127.0.0.1:{server.port}{path}")


async def test_healthz_says_that_the_process_answers() -> None:
    """Also while it drains: a draining worker is not to be killed."""
    answer = await get(make_app(is_ready=lambda: False), "/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


@pytest.mark.parametrize(
    ("is_ready", "status", "text"), [(True, 200, "ready"), (False, 503, "draining")]
)
async def test_readyz_says_whether_captures_are_taken(
    is_ready: bool, status: int, text: str
) -> None:
    """A balancer reads the status, a person the text."""
    answer = await get(make_app(is_ready=lambda: is_ready), "/readyz")
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
        clock_offset_min_ms=2990.5,
        clock_offset_max_ms=3010.001,
    )
    registry = Registry(Limits())
    app = make_app(registry=registry)
    with registry.claim("cap", lambda: status, lambda _: None):
        answer = await get(app, "/captures")
    # Nothing it has is left out.
    expected = attrs.asdict(status, recurse=False) | {"opened": OPENED.text}
    rest = {"ended": 0, "refused": 0, "status": "ready", "rigs": []}
    assert answer.json() == {"captures": [expected], **rest}
    assert (await get(app, "/captures")).json() == {"captures": [], **rest}


async def test_captures_tells_a_page_that_the_worker_is_draining() -> None:
    """In the words of `/readyz`: what runs is still shown, and takes no new capture."""
    told = (await get(make_app(is_ready=lambda: False), "/captures")).json()
    assert told["status"] == "draining"
    metrics = Metrics(is_authority_reachable=False)
    told = (await get(make_app(metrics=metrics), "/captures")).json()
    assert told["status"] == "authority_unreachable"


async def test_refused_tells_what_a_browser_does_not_tell_its_page() -> None:
    """The newest first, with its answer and its age; which came from where it is asked."""
    metrics = Metrics()
    refusals = Refusals(metrics)
    app = make_app(metrics=metrics, refusals=refusals)
    refusals.record("capacity", 503, "no room", "127.0.0.1")
    refusals.record("tls", None, "x" * 1_000, "192.0.2.7")
    assert (await get(app, "/captures")).json()["refused"] == 2
    other, ours = (await get(app, "/refused")).json()["refused"]
    for each in (other, ours):
        assert 0 <= each.pop("ago_s") < 60
    assert ours == {
        "why": "capacity",
        "status": 503,
        "detail": "no room",
        "address": "127.0.0.1",
        "is_yours": True,
    }
    assert (other["status"], other["is_yours"], len(other["detail"])) == (None, False, 300)
    for _ in range(REFUSED_KEPT + 1):
        refusals.record("capacity", 503, "no room", "127.0.0.1")
    refused = (await get(app, "/refused")).json()["refused"]
    assert len(refused) == REFUSED_KEPT
    assert all(each["is_yours"] for each in refused)
    assert metrics.refused["capacity"] == REFUSED_KEPT + 2


async def test_codes_are_explained_in_the_words_of_cfw_explain() -> None:
    """Each error code with its meaning, causes and remedies; nothing else."""
    codes = (await get(make_app(), "/codes")).json()
    assert set(codes) == set(ErrorCode)
    for code in ErrorCode:
        known = EXPLANATIONS[code]
        assert codes[code] == {
            "meaning": known.meaning,
            "causes": list(known.causes),
            "rig": known.rig,
            "operator": known.operator,
            "cases": {detail: attrs.asdict(case) for detail, case in known.cases.items()},
        }
    operator = codes[ErrorCode.SESSION_CLOSED]["cases"][OPERATOR_ENDED]
    assert operator["meaning"] == "An operator ended this capture."


async def test_ended_lists_how_captures_ended() -> None:
    """The newest first, and how many there were of each kind; `/captures` counts them all."""
    registry = Registry(Limits())
    clean = EndedCapture(
        capture_id="one",
        user_id="user",
        session_id="session",
        frames=3,
        bytes=900,
        error_code=None,
        detail=None,
        opened=OPENED,
        ended=OPENED,
    )
    late = ErrorCode.LIMIT_DURATION_EXCEEDED
    aborted = attrs.evolve(
        clean,
        capture_id="two",
        error_code=late,
        detail="too long",
        clock_offset_min_ms=-86_400_000.0,
    )
    for capture in (clean, aborted, aborted):
        registry.record_end(capture)
    answer = await get(make_app(registry=registry), "/ended")
    expected = [
        attrs.asdict(capture, recurse=False) | {"opened": OPENED.text, "ended": OPENED.text}
        for capture in (aborted, aborted, clean)
    ]
    assert answer.json() == {"ended": expected, "clean": 1, "aborted": {late.value: 2}}
    assert (await get(make_app(registry=registry), "/captures")).json()["ended"] == 3


async def test_info_says_where_rigs_connect_and_what_they_may() -> None:
    """The URL, whether there is a feed, whether a rig needs a token, every limit."""
    limits, times = Limits(max_fps=7), Times(idle_s=3)
    app = make_app(limits=limits, times=times, capture_url="ws://h:1/c")
    answer = await get(app, "/info")
    assert answer.json() == {
        "capture_url": "ws://h:1/c",
        "has_feed": False,
        "needs_token": False,
        "needs_invitation": False,
        "usual_session": None,
        "limits": attrs.asdict(limits) | {"idle_s": 3},
    }
    assert (await get(make_app(hub=Hub()), "/info")).json()["has_feed"] is True
    assert (await get(make_app(needs_token=True), "/info")).json()["needs_token"] is True


async def test_answers_are_json_of_this_moment_and_name_no_software() -> None:
    """Nothing is cached on the way, and no header tells versions."""
    answer = await get(make_app(), "/healthz")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert "server" not in answer.headers


@pytest.mark.parametrize("path", ["/nosuch", "/healthz/", "/healthz/..%2fcaptures", "//"])
async def test_an_unknown_path_is_a_json_404(path: str) -> None:
    """No page, no redirect."""
    answer = await get(make_app(), path)
    assert (answer.status_code, answer.json()) == (404, {"error": "not found"})


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize(
    "path", ["/healthz", "/readyz", "/captures", "/ended", "/info", "/codes", "/"]
)
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
    app = App([*app.routes.values(), Route("/broken", broken)])
    async with served(app) as server, httpx.AsyncClient(trust_env=False) as client:
        url = f"http://127.0.0.1:{server.port}"
        with capture_logs() as logs:
            answer = await client.get(f"{url}/broken")
            await until(lambda: logs)
        assert (answer.status_code, answer.json()) == (500, {"error": "internal error"})
        assert [(line["event"], line["log_level"]) for line in logs] == [
            ("http.failed", "error")
        ]
        assert logs[0]["exc_info"]
        assert (await client.get(f"{url}/healthz")).status_code == 200


async def test_is_ready_is_asked_each_time() -> None:
    """The answer flips with the worker, on one connection."""
    answers = iter([True, False, True])
    app = make_app(is_ready=lambda: next(answers))
    async with served(app) as server, httpx.AsyncClient(trust_env=False) as client:
        url = f"http://127.0.0.1:{server.port}/readyz"
        codes = [(await client.get(url)).status_code for _ in range(3)]
        assert codes == [200, 503, 200]
        assert server.connections == 1

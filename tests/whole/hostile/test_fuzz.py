"""Whatever is thrown at a boundary, it answers in one of the ways it names.

The frames of the wire have theirs in tests/unit/wire/test_decoder_fuzz.py, the probe of JPEGs
its own in tests/unit/core/test_jpeg.py.
"""

from __future__ import annotations

import contextlib
import json
import math
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from cfw.admin._pace import LivePace
from cfw.admin._rounds import Rounds
from cfw.admin.feed import _problem
from cfw.api.config import Config, ConfigError, config_toml, load_config, parse_setting
from cfw.sinks.hub import Hub
from cfw.wire import HandshakeReject
from cfw.wire.handshake import (
    MAX_HEAD_BYTES,
    RequestBytes,
    check_upgrade,
    read_head,
    read_request,
    upgrade_head,
)
from schemas import SchemaError, parse_input
from tests.factories import close_fields, meta_fields, open_fields
from tests.unit.wire.peer import PATH, REQUEST, pair, serve, text

pytestmark = pytest.mark.fuzz

PIECES = st.sampled_from(
    [
        *REQUEST.split(b"\r\n"),
        *(b"\r\n", b"\n", b"\r", b" ", b":", b"\x00", b"\xff", b"\r\n\r\n", PATH.encode()),
        *(b"Host: x", b"Upgrade: websocket", b"Content-Length: 9", b"HTTP/1.1", b"GET "),
    ]
)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """A good request with some of its bytes changed, pieces of one, or noise."""
    kind = draw(st.sampled_from(["changed", "pieces", "noise"]))
    if kind == "noise":
        return draw(st.binary(max_size=300)) + b"\r\n\r\n"
    if kind == "pieces":
        return b"".join(draw(st.lists(PIECES, max_size=30))) + b"\r\n\r\n"
    data = bytearray(REQUEST)
    for _ in range(draw(st.integers(1, 5))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data)


@given(requests(), st.integers(1, 40))
def test_any_request_is_answered_or_refused(data: bytes, step: int) -> None:
    """101, or an HTTP status of 400 and above with a text; no exception but those named."""

    async def talk() -> bytes:
        from cfw.wire import HandshakeRejected, PeerGone

        transport, peer = pair()

        async def server() -> None:
            try:
                async with serve(transport):
                    pass
            except (HandshakeRejected, PeerGone):
                pass

        async with trio.open_nursery() as nursery:
            nursery.start_soon(server)
            for at in range(0, len(data), step):
                await peer.send(data[at : at + step])
            await trio.testing.wait_all_tasks_blocked()
            peer.stream.send_stream.close()
            return await peer.read_rest()

    answer = trio.run(talk, clock=MockClock(autojump_threshold=0))
    if answer:
        status = int(answer[9:12])
        assert answer.startswith(b"HTTP/1.1 ")
        assert status == 101 or 400 <= status < 500
        assert status == 101 or len(answer.partition(b"\r\n\r\n")[2].strip()) > 10
        assert b"Traceback" not in answer


@given(requests())
def test_a_head_is_read_whole_or_refused(data: bytes) -> None:
    """What is passed on is ASCII, whatever came; the head is bounded and the rest is kept."""

    async def read() -> RequestBytes | HandshakeReject:
        transport, peer = pair()
        await peer.send(data + b"\r\n\r\n")
        return await read_head(transport)

    found = trio.run(read)
    if isinstance(found, HandshakeReject):
        assert 400 <= found.status < 500
        return
    assert found.head + found.rest == data + b"\r\n\r\n"
    assert len(found.head) <= MAX_HEAD_BYTES
    request = read_request(found.head, PATH)
    if isinstance(request, HandshakeReject):
        assert request.status in (400, 404)
        return
    refusal = check_upgrade(request)
    if refusal is None:
        assert upgrade_head(request, None).isascii()
    else:
        assert refusal.status in (400, 426)
        assert refusal.reason


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["capture.open", "1.0.0", "jpeg", "2026-05-04T10:20:30Z", 10**400]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
FIELDS = sorted({*open_fields(), *meta_fields(), *close_fields(), "annotation", "modality"})


@given(
    st.sampled_from([open_fields, meta_fields, close_fields]),
    st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=4),
)
def test_any_json_is_a_message_or_a_schema_error(make: Any, changed: dict[str, Any]) -> None:
    """Nothing else is raised, and a message that is taken holds what was written."""
    fields = make() | changed
    try:
        message = parse_input(json.dumps(fields))
    except SchemaError as exc:
        problem = str(exc)
    else:
        problem = ""
    if problem:
        assert len(problem) < 2000
        return
    assert message.capture_id == fields["capture_id"]
    assert message.record_id == fields["record_id"]


@given(st.text() | st.text(alphabet='{}[]",:0123456789.eE-ntfalsru\\ '))
def test_any_text_is_a_message_or_a_schema_error(words: str) -> None:
    """Also what is no JSON at all."""
    with pytest.raises(SchemaError):
        parse_input(words)


KEYS = [
    f"{section}.{key}"
    for section, table in {
        "limits": ["max_fps", "max_frame_bytes", "max_memory_bytes", "nothing"],
        "times": ["idle_s", "message_s"],
        "server": ["host", "port"],
        "admin": ["port", "max_connections"],
        "sessions": ["url", "static"],
        "sink": ["url"],
        "log": ["format"],
        "nowhere": ["at_all"],
    }.items()
    for key in table
]


@given(st.lists(st.tuples(st.sampled_from(KEYS), VALUES), max_size=3))
def test_any_configuration_is_one_or_a_config_error(settings: list[tuple[str, Any]]) -> None:
    """It is used as it is, or the error names a key; what is printed is TOML."""
    try:
        config = load_config(None, settings)
    except ConfigError as exc:
        problem = str(exc)
    else:
        problem = ""
    if problem:
        assert not problem.startswith(":")
        return
    assert isinstance(config, Config)
    assert not any(isinstance(v, float) and math.isnan(v) for v in vars_of(config))
    assert config_toml(config)


def vars_of(config: Config) -> list[Any]:
    return [config.limits.max_fps, config.times.idle_s, config.times.message_s]


@given(st.text(max_size=60))
def test_any_setting_is_one_or_a_config_error(words: str) -> None:
    """What stands behind `--set`."""
    try:
        key, _ = parse_setting(words)
    except ConfigError:
        assert "=" not in words
    else:
        assert key == words.partition("=")[0].strip()


@given(
    st.text(max_size=200) | st.sampled_from(["lossless", "live"]),
    st.none() | st.text(max_size=200),
    st.text(max_size=200) | st.sampled_from(["all", "asked"]),
)
def test_any_query_of_the_feed_is_taken_or_told_why_not(
    mode: str, capture_id: str | None, frames: str
) -> None:
    """One of the two modes and a well-formed id, or a sentence that fits a close reason."""
    problem = _problem(mode, capture_id, frames)
    if problem is None:
        assert (mode, frames) in (("lossless", "all"), ("live", "all"), ("live", "asked"))
    else:
        assert problem


@given(st.text(max_size=200) | st.binary(max_size=200))
def test_whatever_a_reader_of_the_feed_says_is_an_ask_or_refused(said: str | bytes) -> None:
    """Nothing that it writes raises."""

    async def hear() -> None:
        with Hub().subscribe_asked() as subscription:
            rounds = Rounds(subscription, LivePace())
            assert rounds.hear('{"ask": ["cap"]}')
            assert rounds.hear(said) in (True, False)

    trio.run(hear)


@given(st.binary(max_size=400))
def test_any_bytes_behind_a_message_end_the_connection_typed(data: bytes) -> None:
    """The wire gives it on as a message or ends the connection, typed."""
    from cfw.wire import WireError

    async def talk() -> None:
        transport, peer = pair()
        await peer.send(REQUEST, text("first"), data)
        peer.stream.send_stream.close()
        async with serve(transport) as ws:
            assert (await ws.receive_batch())[0] == "first"
            for _ in data:  # each batch has a message of at least a byte
                with contextlib.suppress(WireError):
                    await ws.receive_batch()
            with pytest.raises(WireError):
                await ws.receive_batch()

    trio.run(talk, clock=MockClock(autojump_threshold=0))

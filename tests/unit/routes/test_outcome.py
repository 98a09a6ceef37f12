"""The ladder: one error out of whatever was raised."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from cfw.errors import (
    DomainError,
    ForwardFailed,
    LimitFrameCountExceeded,
    ProtocolViolation,
    ServerAtCapacity,
    ServerShutdown,
    SessionClosed,
)
from cfw.routes.outcome import not_ours, outcome_of
from cfw.sessions import SessionStatus
from cfw.testing.fakes import RecordingSink, ScriptedAuthority
from cfw.wire import (
    InvalidPayload,
    KeepaliveTimeout,
    MessageTooBig,
    PeerClosed,
    PeerGone,
    ProtocolFault,
    WireCrashed,
)
from schemas import ErrorCode
from tests.unit.routes.kit import bench

IN_ORDER: list[Exception] = [
    SessionClosed("s"),
    ForwardFailed("f"),
    LimitFrameCountExceeded("l"),
    ServerAtCapacity("c"),
    ProtocolViolation("p"),
    ValueError("a bug"),
    ServerShutdown("d"),
    PeerGone("gone"),
]


@pytest.mark.parametrize("first", range(len(IN_ORDER)))
def test_of_several_failures_the_first_in_precedence_is_reported(first: int) -> None:
    """However deep the groups are nested and in whatever order they came."""
    failures = IN_ORDER[first:]
    inner = ExceptionGroup("inner", failures[::-1])
    nested = ExceptionGroup("outer", [inner, *failures[-1:]])
    assert outcome_of(nested, None).cause is failures[0]


@pytest.mark.parametrize(
    ("failure", "code", "close_code"),
    [
        (ProtocolFault("rsv"), ErrorCode.PROTOCOL_VIOLATION, 1002),
        (InvalidPayload("utf-8"), ErrorCode.PROTOCOL_VIOLATION, 1007),
        (MessageTooBig("text", 9, 8), ErrorCode.PROTOCOL_VIOLATION, 1009),
        (MessageTooBig("binary", 9, 8), ErrorCode.LIMIT_FRAME_BYTES_EXCEEDED, 1009),
        (PeerClosed(3000, "bye"), ErrorCode.CLIENT_DISCONNECTED, 3000),
        (PeerClosed(None, ""), ErrorCode.CLIENT_DISCONNECTED, 1008),
        (PeerClosed(1000, "done?"), ErrorCode.CLIENT_DISCONNECTED, 1008),
        (PeerGone("eof"), ErrorCode.CLIENT_DISCONNECTED, 1008),
        (KeepaliveTimeout("pong"), ErrorCode.CLIENT_DISCONNECTED, 1011),
        (WireCrashed("library"), ErrorCode.INTERNAL_ERROR, 1011),
        (KeyError("secret"), ErrorCode.INTERNAL_ERROR, 1011),
    ],
)
def test_what_the_wire_raises_keeps_its_close_code(
    failure: Exception, code: ErrorCode, close_code: int
) -> None:
    """RFC codes stay, and every failure has an error code all the same."""
    outcome = outcome_of(failure, None)
    assert (outcome.error.code, outcome.close_code) == (code, close_code)


def test_nothing_of_a_bug_is_told() -> None:
    """The rig reads internal_error and not one word more."""
    outcome = outcome_of(KeyError("secret"), None)
    assert outcome.reason == "internal_error"
    assert outcome.diagnostics == {"error_code": ErrorCode.INTERNAL_ERROR}


def test_a_cancellation_is_what_was_asked_for_and_goes_on() -> None:
    """Cancelled reports the reason given, else shutdown, and is raised again afterwards."""
    asked = SessionClosed("revoked")

    async def cancelled() -> BaseException:
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.lowlevel.checkpoint()
            except trio.Cancelled as exc:
                kept: BaseException = exc
                raise
        return kept

    leaf = trio.run(cancelled)
    assert outcome_of(leaf, asked).error is asked
    assert isinstance(outcome_of(leaf, None).error, ServerShutdown)
    assert not_ours(leaf) is leaf
    group = BaseExceptionGroup("", [leaf, ProtocolViolation("p")])
    rest = not_ours(group)
    assert isinstance(rest, BaseExceptionGroup)
    assert rest.exceptions == (leaf,)
    assert not_ours(ProtocolViolation("p")) is None
    assert not_ours(ExceptionGroup("", [ProtocolViolation("p")])) is None


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_ctrl_c_goes_on_outwards_whatever_it_came_with(kind: type[BaseException]) -> None:
    """Alone, beside errors of the capture, and in groups of groups; those stay behind."""
    pressed, theirs = kind(), ProtocolViolation("p")
    assert not_ours(pressed) is pressed
    for group in (
        BaseExceptionGroup("", [pressed]),
        BaseExceptionGroup("", [theirs, pressed]),
        BaseExceptionGroup("", [theirs, BaseExceptionGroup("", [pressed, theirs])]),
    ):
        rest = not_ours(group)
        assert isinstance(rest, BaseExceptionGroup)
        assert rest.subgroup(kind) is not None
        assert rest.subgroup(Exception) is None


class Pressed(ScriptedAuthority):
    """Ctrl-C while the session is checked again, beside the other tasks of the capture."""

    async def check(self, user_id: str, session_id: str) -> SessionStatus:
        status = await super().check(user_id, session_id)
        if len(self.asked_at) > 1:
            raise KeyboardInterrupt
        return status


async def test_ctrl_c_within_a_capture_ends_the_server(autojump_clock: MockClock) -> None:
    """The connection gives its sink the terminal, and then lets it through."""
    sink = RecordingSink()

    async def serve() -> None:
        async with bench(sink, Pressed()) as b:
            await b.capture()
            await trio.sleep_forever()

    with pytest.raises(BaseExceptionGroup) as caught:
        await serve()
    assert caught.value.subgroup(KeyboardInterrupt) is not None
    assert len(sink.only.terminals) == 1


def test_every_domain_error_reads_as_code_and_detail() -> None:
    """The text of an error is what the close frame says, and its numbers."""
    error: DomainError = LimitFrameCountExceeded("at most 3", seq=4, observed=4, limit=3)
    reason = "limit_frame_count_exceeded: at most 3"
    assert outcome_of(error, None).reason == reason
    assert str(error) == f"{reason} (seq 4, observed 4, limit 3)"
    assert str(LimitFrameCountExceeded("at most 3")) == reason

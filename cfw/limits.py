"""What a capture may cost, and how long things may take. All of it is configurable."""

from __future__ import annotations

from typing import Any

import attrs

NS_PER_S = 1_000_000_000


def ns(seconds: float) -> int:
    """Seconds as whole nanoseconds, the unit of every instant in the core."""
    return round(seconds * NS_PER_S)


@attrs.define(slots=False, eq=False)
class SettingError(ValueError):
    """A setting has a value that is not allowed.

    Args:
        name: the setting.
        problem: what is allowed, and what it was.
    """

    name: str
    problem: str

    def __str__(self) -> str:
        return f"{self.name} {self.problem}"


def _at_least_one(_: Any, attribute: attrs.Attribute[int], value: Any) -> None:
    if type(value) is not int or value < 1:
        raise SettingError(attribute.name, f"must be an integer of at least 1, not {value!r}")


def _seconds(_: Any, attribute: attrs.Attribute[float], value: Any) -> None:
    # Above 10 years of seconds the sums of instants would leave what a float can hold.
    if type(value) not in (int, float) or not 0 < value <= 315_360_000:
        raise SettingError(
            attribute.name,
            f"must be a number of seconds above 0 and up to 315360000, not {value!r}",
        )


def _count(default: int) -> int:
    value: int = attrs.field(default=default, validator=_at_least_one)
    return value


def _time(default: float) -> float:
    value: float = attrs.field(default=default, validator=_seconds)
    return value


@attrs.frozen(kw_only=True)
class Limits:
    """The most that one capture, one message or the server may reach.

    The defaults are the project's: 15 s of VGA at 15 frames a second, which is
    225 frames, each at most 300 kB.

    Raises:
        SettingError: a value is not allowed; it names the setting and what is.
    """

    max_duration_s: float = _time(15)
    max_fps: int = _count(15)
    max_width: int = _count(640)
    max_height: int = _count(480)
    max_pixels: int = _count(307_200)
    max_frames: int = _count(225)
    max_frame_bytes: int = _count(300_000)
    max_total_bytes: int = _count(50_000_000)
    max_forward_buffer_frames: int = _count(30)
    max_forward_buffer_bytes: int = _count(10_000_000)
    max_control_bytes: int = _count(16_384)
    max_clock_skew_s: float = _time(86_400)
    max_connections: int = _count(1_000)
    # By default the worst case of max_connections captures fits.
    max_memory_bytes: int = _count(12_000_000_000)

    @property
    def capture_memory_bytes(self) -> int:
        """The most bytes of messages one capture holds: its buffer and what is arriving."""
        return self.max_forward_buffer_bytes + self.max_frame_bytes + self.max_control_bytes

    def __attrs_post_init__(self) -> None:
        if self.max_forward_buffer_bytes < self.max_frame_bytes:
            raise SettingError(
                "max_forward_buffer_bytes",
                f"must be at least max_frame_bytes ({self.max_frame_bytes}), not "
                f"{self.max_forward_buffer_bytes}: no frame of the largest size would fit",
            )
        if self.max_memory_bytes < self.capture_memory_bytes:
            raise SettingError(
                "max_memory_bytes",
                f"must be at least {self.capture_memory_bytes}, what one capture may hold "
                "(max_forward_buffer_bytes + max_frame_bytes + max_control_bytes), not "
                f"{self.max_memory_bytes}",
            )


@attrs.frozen(kw_only=True)
class Times:
    """How long each step may take, in seconds.

    Args:
        meta_to_bytes_s: from a frame's metadata to its bytes.
        idle_s: without a new `capture.frame_meta`.
        session_recheck_s: between two checks of the session while a capture runs.
        session_check_s: for one check of the session.
        session_grace_s: how long a capture may go on while the authority is out of reach.
        handshake_s: for the whole WebSocket handshake.
        open_s: from the handshake to `capture.open`.
        close_flush_s: for the sink to take what is left and the terminal.
        linger_s: for the rig to read what it was told, after the worker's close frame.
        keepalive_s: between two pings.
        keepalive_timeout_s: for the answer to a ping.
        drain_s: for running captures to finish at shutdown.

    Raises:
        SettingError: a value is not allowed; it names the setting and what is.
    """

    meta_to_bytes_s: float = _time(2)
    idle_s: float = _time(5)
    session_recheck_s: float = _time(5)
    session_check_s: float = _time(2)
    session_grace_s: float = _time(10)
    handshake_s: float = _time(10)
    open_s: float = _time(10)
    close_flush_s: float = _time(5)
    linger_s: float = _time(2)
    keepalive_s: float = _time(20)
    keepalive_timeout_s: float = _time(20)
    drain_s: float = _time(20)

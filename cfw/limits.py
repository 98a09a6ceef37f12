"""What a capture may cost, and how long things may take. All of it is configurable."""

from __future__ import annotations

import attrs

from cfw.settings import AT_LEAST_ONE, SECONDS, SettingError, setting
from schemas import WorkerLimits

NS_PER_S = 1_000_000_000


def ns(seconds: float) -> int:
    """Seconds as whole nanoseconds, the unit of every instant in the core."""
    return round(seconds * NS_PER_S)


def _count(default: int, unit: str, text: str) -> int:
    return setting(default, text, AT_LEAST_ONE, unit=unit)


def _time(default: float, text: str) -> float:
    return setting(default, text, SECONDS, unit="s")


@attrs.frozen(kw_only=True)
class Limits:
    """The most that one capture, one message or the server may reach.

    The defaults are the project's: 15 s of VGA at 15 frames a second, which is
    225 frames, each at most 300 kB.

    Raises:
        SettingError: a value is not allowed; it names the setting and what is.
    """

    max_duration_s: float = _time(
        15, "Length of a capture, by ingest time while it runs and by event time at its close."
    )
    max_fps: int = _count(15, "frames/s", "What `capture.open` may ask for as `fps_target`.")
    max_width: int = _count(640, "pixels", "Width of a picture, as declared and as it is.")
    max_height: int = _count(480, "pixels", "Height of a picture, as declared and as it is.")
    max_pixels: int = _count(307_200, "pixels", "Width times height of a picture.")
    max_frames: int = _count(225, "frames", "Frames of a capture.")
    max_frame_bytes: int = _count(300_000, "bytes", "Length of one frame.")
    max_total_bytes: int = _count(50_000_000, "bytes", "Length of a capture's frames together.")
    max_forward_buffer_frames: int = _count(
        30,
        "frames",
        "Frames of a capture that the sink has not taken yet, the one being sent included.",
    )
    max_forward_buffer_bytes: int = _count(
        10_000_000, "bytes", "Length of those frames together; at least max_frame_bytes."
    )
    max_control_bytes: int = _count(16_384, "bytes", "Length of one JSON message.")
    max_clock_skew_s: float = _time(
        86_400, "Distance of an event time from the worker's clock, either way."
    )
    max_connections: int = _count(
        1_000, "connections", "Connections at a time; one more gets HTTP 503."
    )
    # Behind a proxy or a NAT all rigs have one address, so by default it bounds nothing more.
    max_connections_per_address: int = _count(
        1_000,
        "connections",
        "Those from one IPv4 address or one IPv6 /64; lower it where rigs connect directly, "
        "raise it with max_connections where they come through one proxy.",
    )
    # By default the worst case of max_connections captures fits.
    max_memory_bytes: int = _count(
        12_000_000_000,
        "bytes",
        "What all captures reserve together; each reserves max_forward_buffer_bytes + "
        "max_frame_bytes + max_control_bytes.",
    )

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

    Raises:
        SettingError: a value is not allowed; it names the setting and what is.
    """

    meta_to_bytes_s: float = _time(2, "From a frame's metadata to its bytes.")
    idle_s: float = _time(5, "From one `capture.frame_meta` to the next.")
    session_recheck_s: float = _time(
        5, "Between two checks of the session while a capture runs."
    )
    session_check_s: float = _time(2, "One check of the session.")
    session_grace_s: float = _time(
        10, "How long a capture may go on while the session authority is out of reach."
    )
    handshake_s: float = _time(
        10, "The whole handshake, TLS included; each request to the admin listener."
    )
    open_s: float = _time(10, "From the handshake to `capture.open`.")
    message_s: float = _time(
        5, "From the first byte of a message to its last, while the worker reads."
    )
    close_flush_s: float = _time(
        5, "For the sink to take what is left at the close; the terminal has as long again."
    )
    linger_s: float = _time(
        2, "For the rig to read what it was told, after the worker's close frame."
    )
    keepalive_s: float = _time(20, "Between two pings.")
    keepalive_timeout_s: float = _time(20, "From a ping to its answer.")
    drain_s: float = _time(20, "For running captures to finish at shutdown.")


def limits_told(limits: Limits, times: Times) -> WorkerLimits:
    """What a rig has to know to keep within the limits of a capture."""
    told = {field.name for field in attrs.fields(WorkerLimits)}
    known = attrs.asdict(limits) | attrs.asdict(times)
    return WorkerLimits(**{name: value for name, value in known.items() if name in told})

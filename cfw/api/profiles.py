"""Limits that agree with each other, by what is filmed: `cfw serve --for NAME`."""

from __future__ import annotations

from typing import Final

import attrs

from cfw.limits import Limits


@attrs.frozen
class Profile:
    """A kind of capture.

    Args:
        text: what it is for, one sentence.
        limits: what it may reach.
    """

    text: str
    limits: Limits


#: A side may be as long as the longer one, for phones film upright; max_pixels bounds the area.
#: max_frames is max_fps for max_duration_s; the buffer has room for 2 s.
PROFILES: Final = {
    "quick": Profile("15 s of VGA at 15 frames/s; what holds unless it is told.", Limits()),
    "video": Profile(
        "10 minutes of 1280x720 at 30 frames/s, upright or not.",
        Limits(
            max_duration_s=600,
            max_fps=30,
            max_width=1280,
            max_height=1280,
            max_pixels=1280 * 720,
            max_frames=18_000,
            max_frame_bytes=600_000,
            max_total_bytes=6_000_000_000,
            max_forward_buffer_frames=60,
            max_forward_buffer_bytes=20_000_000,
        ),
    ),
    "hd": Profile(
        "An hour of 1920x1080 at 30 frames/s, upright or not.",
        Limits(
            max_duration_s=3600,
            max_fps=30,
            max_width=1920,
            max_height=1920,
            max_pixels=1920 * 1080,
            max_frames=108_000,
            max_frame_bytes=1_500_000,
            max_total_bytes=80_000_000_000,
            max_forward_buffer_frames=60,
            max_forward_buffer_bytes=50_000_000,
        ),
    ),
}

_FIELDS = tuple(
    field.name
    for field in attrs.fields(Limits)
    if any(getattr(known.limits, field.name) != field.default for known in PROFILES.values())
)


def profile_settings(name: str) -> dict[str, float]:
    """The keys that any profile sets, each with its value in this one.

    Raises:
        KeyError: there is no such profile.
    """
    limits = PROFILES[name].limits
    return {f"limits.{field}": getattr(limits, field) for field in _FIELDS}

"""Limits that are set together, by what is filmed."""

from __future__ import annotations

import json
import tomllib

import attrs
import pytest
from click.testing import CliRunner

from cfw.api.config import load_config
from cfw.api.profiles import PROFILES, profile_settings
from cfw.cli import main
from cfw.limits import Limits

each_profile = pytest.mark.parametrize("name", PROFILES)


def shown(*arguments: str) -> dict[str, object]:
    """The limits that `cfw config` prints."""
    result = CliRunner().invoke(main, ["config", *arguments])
    assert result.exit_code == 0, result.output
    limits: dict[str, object] = tomllib.loads(result.stdout)["limits"]
    return limits


@each_profile
def test_its_limits_agree(name: str) -> None:
    """A capture of full length at the full rate reaches no limit but that of its length."""
    limits = PROFILES[name].limits
    assert limits.max_frames == limits.max_fps * limits.max_duration_s
    assert limits.max_pixels <= limits.max_width * limits.max_height
    assert limits.max_forward_buffer_frames == 2 * limits.max_fps
    # A picture of this size has half a byte for each pixel at least, all of them on average.
    assert limits.max_frame_bytes >= 0.5 * limits.max_pixels
    assert limits.max_total_bytes >= 0.35 * limits.max_pixels * limits.max_frames
    assert limits.max_memory_bytes // limits.capture_memory_bytes >= 200


@each_profile
def test_it_sets_the_same_keys_as_any_other(name: str) -> None:
    """So that one laid over another, or over a file, leaves nothing of that behind."""
    assert list(profile_settings(name)) == list(profile_settings("quick"))
    laid = load_config(None, [*profile_settings("hd").items(), *profile_settings(name).items()])
    assert laid.limits == PROFILES[name].limits
    assert shown("--for", name) == attrs.asdict(PROFILES[name].limits)


def test_without_one_it_is_the_first() -> None:
    """What holds unless it is told."""
    assert PROFILES["quick"].limits == Limits()


def test_a_single_key_counts_more_and_a_file_less(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """Whatever the order on the command line."""
    file = tmp_path / "cfw.toml"
    file.write_text("[limits]\nmax_fps = 5\nmax_clock_skew_s = 7\n")
    limits = shown("--set", "limits.max_width=99", "--for", "video", "--config", str(file))
    assert (limits["max_fps"], limits["max_width"]) == (30, 99)
    assert limits["max_clock_skew_s"] == 7


def test_one_that_is_none_names_those_that_are() -> None:
    """As for any choice."""
    result = CliRunner().invoke(main, ["serve", "--for", "cinema"])
    assert result.exit_code == 2
    for name in PROFILES:
        assert name in result.stderr


def test_they_are_listed() -> None:
    """Each with what it is for, and every value that it sets."""
    result = CliRunner().invoke(main, ["config", "--profiles"])
    assert result.exit_code == 0
    for name, profile in PROFILES.items():
        assert f"--for {name}" in result.stdout
        assert profile.text in result.stdout
    rows = {line.split()[0]: line.split()[1:-1] for line in result.stdout.splitlines() if line}
    for key, value in profile_settings("hd").items():
        assert rows[key][-1] == json.dumps(value)

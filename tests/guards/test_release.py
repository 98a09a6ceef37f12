"""Versions: each is dated in the changelog, and what is released is what it says."""

from __future__ import annotations

import pytest

import cfw
from tests.guards.release import CHANGELOG, numbers, problems, sections

WHOLE = (
    "# Changelog\n\n## Unreleased\n\n## 0.2.0 - 2026-11-28\n\n- b\n\n## 0.1.0 - 2026-11-22\n"
)


def test_every_version_is_dated_and_the_newest_is_that_of_the_code() -> None:
    """Newest first; what is not released stands above them all."""
    unreleased, *released = sections(CHANGELOG.read_text("utf-8"))
    assert unreleased.version is None
    versions = [section.version for section in released if section.version]
    days = [section.day for section in released if section.day]
    assert len(versions) == len(days) == len(released)
    assert versions == sorted(set(versions), reverse=True)
    assert days == sorted(days, reverse=True)
    assert versions[0] == numbers(cfw.__version__)


def test_a_whole_release_has_no_problem() -> None:
    """The tag, the code and the changelog say one version."""
    assert problems("v0.2.0", "0.2.0", WHOLE) == []


@pytest.mark.parametrize(
    ("tag", "version", "changelog", "problem"),
    [
        ("v0.3.0", "0.2.0", WHOLE, "the tag is v0.3.0, and cfw/__init__.py says 0.2.0"),
        ("0.2.0", "0.2.0", WHOLE, "the tag is 0.2.0"),
        ("v0.3.0", "0.3.0", WHOLE, "the newest version in CHANGELOG.md is not 0.3.0"),
        ("v0.2.0", "0.2.0", WHOLE.replace("- b", ""), "CHANGELOG.md says nothing of 0.2.0"),
        ("v0.2.0", "0.2.0", WHOLE.replace("sed\n", "sed\n\n- a\n"), "under Unreleased"),
        ("v0.2.0", "0.2.0", "# Changelog\n", "the newest version"),
    ],
)
def test_what_is_not_whole_is_told(
    tag: str, version: str, changelog: str, problem: str
) -> None:
    """A guard that cannot fail is none."""
    (told,) = problems(tag, version, changelog)
    assert problem in told


@pytest.mark.parametrize("heading", ["0.2.0", "0.2 - 2026-11-28", "0.2.0 - soon"])
def test_a_version_without_its_day_is_refused(heading: str) -> None:
    """A date that is none, too."""
    with pytest.raises(ValueError, match="is neither"):
        sections(f"## {heading}\n")

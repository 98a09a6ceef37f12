"""What must be true of a release: `python -m tests.guards.release v1.2.3` says what is not."""

from __future__ import annotations

import re
import sys
from datetime import date
from pathlib import Path

import attrs

import cfw

CHANGELOG = Path(cfw.__file__).parent.parent / "CHANGELOG.md"


@attrs.frozen
class Section:
    """What the changelog says of one version.

    Args:
        version: its numbers; None for what is not released.
        day: of its release; None for what is not released.
        entries: what changed.
    """

    version: tuple[int, ...] | None
    day: date | None
    entries: list[str]


def numbers(version: str) -> tuple[int, ...]:
    """A version, so that a later one is larger."""
    return tuple(int(part) for part in version.split("."))


def sections(changelog: str) -> list[Section]:
    """The versions of a changelog, as they stand there: the newest first.

    Raises:
        ValueError: a heading is neither `Unreleased` nor a version with its day.
    """
    found = []
    for part in re.split(r"^## ", changelog, flags=re.MULTILINE)[1:]:
        heading = part.splitlines()[0]
        entries = re.findall(r"^- .*", part, re.MULTILINE)
        if heading == "Unreleased":
            found.append(Section(None, None, entries))
            continue
        match = re.fullmatch(r"(\d+\.\d+\.\d+) - (\d{4}-\d{2}-\d{2})", heading)
        if match is None:
            raise ValueError(f"'## {heading}' is neither Unreleased nor VERSION - YYYY-MM-DD")
        day = date.fromisoformat(match[2])
        found.append(Section(numbers(match[1]), day, entries))
    return found


def problems(tag: str, version: str, changelog: str) -> list[str]:
    """Why `tag` is no release of this version with this changelog; nothing if it is one."""
    found = []
    if tag != f"v{version}":
        found.append(f"the tag is {tag}, and cfw/__init__.py says {version}")
    told = sections(changelog)
    if any(section.entries for section in told if section.version is None):
        found.append("CHANGELOG.md has entries under Unreleased: put them under the version")
    newest = next((section for section in told if section.version), None)
    if newest is None or newest.version != numbers(version):
        found.append(f"the newest version in CHANGELOG.md is not {version}")
    elif not newest.entries:
        found.append(f"CHANGELOG.md says nothing of {version}")
    return found


if __name__ == "__main__":
    sys.exit(
        "\n".join(problems(sys.argv[1], cfw.__version__, CHANGELOG.read_text("utf-8"))) or None
    )

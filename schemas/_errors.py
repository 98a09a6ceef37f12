"""What is raised for a message that does not follow the schemas."""

from __future__ import annotations

import attrs


@attrs.define(slots=False, eq=False)
class SchemaError(ValueError):
    """A message breaks its schema; the rig has to be mended.

    Args:
        path: where, for example `fps_target` or `annotation.intent`; empty for the whole.
        problem: what is wrong and what is allowed, in one line.
    """

    path: str
    problem: str

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}" if self.path else self.problem

"""JSON Schema of every message, read off the rules of the classes."""

from __future__ import annotations

import inspect
from typing import Any

import attrs

from schemas._codec import FEED, FORBIDDEN, INPUT, OUTPUT
from schemas._rules import Rule

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def _rule(field: attrs.Attribute[Any]) -> Rule:
    assert isinstance(field.validator, Rule), field.name
    return field.validator


def _class_schema(cls: type[attrs.AttrsInstance], forbidden: frozenset[str]) -> dict[str, Any]:
    fields = attrs.fields(cls)
    properties: dict[str, object] = {field.name: _rule(field).schema for field in fields}
    properties |= {name: {"type": "null"} for name in sorted(forbidden)}
    return {
        "title": cls.__name__,
        "description": inspect.cleandoc(cls.__doc__ or ""),
        "type": "object",
        "properties": properties,
        "required": ["event", *(f.name for f in fields if f.default is attrs.NOTHING)],
    }


def json_schemas() -> dict[str, dict[str, Any]]:
    """The JSON Schema (draft 2020-12) of each direction: input, output and feed.

    Unknown fields are allowed throughout, so that a newer MINOR version is still valid.
    """
    directions: dict[str, tuple[str, dict[str, Any]]] = {
        "CameraFeedWorkerInput": ("What a rig sends.", INPUT),
        "CameraFeedWorkerOutput": ("What the worker answers.", OUTPUT),
        "CameraFeedWorkerFeed": ("What consumers of the feed read.", FEED),
    }
    schemas = {}
    for title, (description, classes) in directions.items():
        schemas[title] = {
            "$schema": _DIALECT,
            "title": title,
            "description": description,
            "oneOf": [{"$ref": f"#/$defs/{cls.__name__}"} for cls in classes.values()],
            "$defs": {
                cls.__name__: _class_schema(
                    cls, FORBIDDEN.get(event, frozenset()) if classes is INPUT else frozenset()
                )
                for event, cls in classes.items()
            },
        }
    return schemas

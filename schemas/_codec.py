"""JSON text to messages and back, with strict types.

Before cattrs stands a compiled reader for the metadata of frames; cfw/bench/BENCH.md says why,
and how it is held to the same answers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar

import attrs
import cattrs
import orjson
from cattrs.gen import make_dict_unstructure_fn, override

from schemas._rules import shown
from schemas._time import Timestamp
from schemas.errors import SchemaError
from schemas.messages import (
    Annotation,
    CameraFeedWorkerFeed,
    CameraFeedWorkerInput,
    CameraFeedWorkerOutput,
    CaptureAbort,
    CaptureClose,
    CaptureFrameMeta,
    CaptureOpen,
    FeedAbort,
    FeedClose,
    FeedFrame,
    FeedOpened,
    Message,
)

_M = TypeVar("_M", bound=attrs.AttrsInstance)

INPUT: dict[str, type[CameraFeedWorkerInput]] = {
    "capture.open": CaptureOpen,
    "capture.frame_meta": CaptureFrameMeta,
    "capture.close": CaptureClose,
}
OUTPUT: dict[str, type[CameraFeedWorkerOutput]] = {"capture.abort": CaptureAbort}
FEED: dict[str, type[CameraFeedWorkerFeed]] = {
    "capture.opened": FeedOpened,
    "capture.frame": FeedFrame,
    "capture.close": FeedClose,
    "capture.abort": FeedAbort,
}
#: Fields that an event must not carry although others do; null is as good as absent, and
#: unknown fields are ignored.
FORBIDDEN: dict[str, frozenset[str]] = {
    "capture.frame_meta": frozenset({"annotation"}),
    "capture.close": frozenset({"annotation"}),
}
_NOT_FORBIDDEN: frozenset[str] = frozenset()


def _as_is(value: Any, _: object) -> Any:
    return value


def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(detailed_validation=False, prefer_attrib_converters=True)
    # cattrs' own hooks turn "15", 15.7 and True into integers. These hand every value on
    # as it is; the rule of the field then takes it or names the fault.
    for plain in (str, int, float, Timestamp, Annotation):
        converter.register_structure_hook(plain, _as_is)
    converter.register_structure_hook_func(lambda cls: not attrs.has(cls), _as_is)
    converter.register_unstructure_hook(Timestamp, str)
    for cls in (*INPUT.values(), *OUTPUT.values(), *FEED.values()):
        absent_if_none = {
            field.name: override(omit_if_default=True)
            for field in attrs.fields(cls)
            if field.default is None
        }
        hook = make_dict_unstructure_fn(cls, converter, **absent_if_none)  # type: ignore[arg-type]
        converter.register_unstructure_hook(cls, hook)
    return converter


def _decode(text: str | bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as exc:
        raise SchemaError("", f"is not JSON: {exc}") from None
    if type(value) is not dict:
        raise SchemaError("", f"must be a JSON object, not {shown(value)}")
    return value


def _structure(value: dict[str, Any], classes: dict[str, type[_M]]) -> _M:
    event = value.get("event")
    if type(event) is not str or event not in classes:
        allowed = ", ".join(classes)
        problem = f"must be one of {allowed}; not {shown(event)}"
        raise SchemaError("event", problem if "event" in value else f"is missing ({allowed})")
    if classes is INPUT:
        for name in FORBIDDEN.get(event, _NOT_FORBIDDEN):
            if value.get(name) is not None:
                raise SchemaError(name, f"is not allowed in {event}")
    try:
        return _CONVERTER.structure(value, classes[event])
    except KeyError as exc:
        raise SchemaError(str(exc.args[0]), f"is required in {event} and missing") from None


def _meta_reader() -> Callable[[str | bytes], CaptureFrameMeta | None]:
    try:
        from schemas._native import make_reader
    except ImportError:  # not compiled for this platform: everything goes the long way
        return lambda _: None
    return make_reader(
        CaptureFrameMeta,
        required=frozenset({"event"}),
        forbidden=FORBIDDEN["capture.frame_meta"],
    )


def parse_input(text: str | bytes) -> CameraFeedWorkerInput:
    """Read what a rig sends: one `capture.open`, `capture.frame_meta` or `capture.close`.

    Raises:
        SchemaError: the text is not JSON, or not one of these messages.
    """
    # What arrives for every frame is read the short way, if it is text and plainly right.
    # All else goes the long way, which alone refuses anything and says why.
    meta = _read_meta(text)
    return meta if meta is not None else _structure(_decode(text), INPUT)


def parse_output(text: str | bytes) -> CameraFeedWorkerOutput:
    """Read what the worker answers: a `capture.abort`.

    Raises:
        SchemaError: the text is not JSON, or not that message.
    """
    return _structure(_decode(text), OUTPUT)


def parse_feed(text: str | bytes) -> CameraFeedWorkerFeed:
    """Read a message of the feed; a `capture.frame` is followed by its binary message.

    Raises:
        SchemaError: the text is not JSON, or not a message of the feed.
    """
    return _structure(_decode(text), FEED)


def check_field(cls: type[attrs.AttrsInstance], name: str, value: object) -> None:
    """Ask a message's own rule what a field of it may hold, where there is no message yet.

    Args:
        cls: the class of the message.
        name: the field.
        value: what it is to hold.

    Raises:
        SchemaError: it may not; the text names the field and says what is allowed.
    """
    field = attrs.fields_dict(cls)[name]
    assert field.validator is not None
    field.validator(None, field, value)


def to_dict(message: Message) -> dict[str, Any]:
    """A message as plain JSON values; optional fields that are None are left out."""
    value: dict[str, Any] = _CONVERTER.unstructure(message)
    return value


def to_json(message: Message) -> str:
    """A message as JSON text, ready to be sent."""
    return orjson.dumps(to_dict(message)).decode()


_CONVERTER = _converter()
_read_meta = _meta_reader()


def restate(told: attrs.AttrsInstance, cls: type[_M], **more: Any) -> _M:
    """The same fields in another message, for example a frame's metadata as the feed has it.

    Args:
        told: where the fields come from; those that `cls` does not have are left out.
        cls: the class of the new message.
        more: the fields it has besides, or has with another value.
    """
    names = _shared(type(told), cls)
    return cls(**{name: getattr(told, name) for name in names if name not in more}, **more)


@lru_cache(maxsize=256)
def _shared(told: type[attrs.AttrsInstance], cls: type[attrs.AttrsInstance]) -> tuple[str, ...]:
    """The fields that two messages have in common."""
    names = {field.name for field in attrs.fields(told)} - {"event"}
    return tuple(field.name for field in attrs.fields(cls) if field.name in names)

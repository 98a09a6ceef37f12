"""The messages of the camera feed worker: the only surface that others import.

PROTOCOL.md beside this file tells the protocol; `cfw schema` prints it as JSON Schema.
"""

from schemas._codec import parse_feed, parse_input, parse_output, restate, to_dict, to_json
from schemas._errors import SchemaError
from schemas._json_schema import json_schemas
from schemas._time import Timestamp
from schemas.messages import (
    SCHEMA_VERSION,
    Annotation,
    CameraFeedWorkerFeed,
    CameraFeedWorkerInput,
    CameraFeedWorkerOutput,
    CaptureAbort,
    CaptureClose,
    CaptureFrameMeta,
    CaptureOpen,
    ErrorCode,
    FeedAbort,
    FeedClose,
    FeedFrame,
    FeedOpened,
    Message,
    Modality,
    Terminal,
)

__all__ = [
    "SCHEMA_VERSION",
    "Annotation",
    "CameraFeedWorkerFeed",
    "CameraFeedWorkerInput",
    "CameraFeedWorkerOutput",
    "CaptureAbort",
    "CaptureClose",
    "CaptureFrameMeta",
    "CaptureOpen",
    "ErrorCode",
    "FeedAbort",
    "FeedClose",
    "FeedFrame",
    "FeedOpened",
    "Message",
    "Modality",
    "SchemaError",
    "Terminal",
    "Timestamp",
    "json_schemas",
    "parse_feed",
    "parse_input",
    "parse_output",
    "restate",
    "to_dict",
    "to_json",
]

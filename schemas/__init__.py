"""The messages of the camera feed worker: the only surface that others import.

PROTOCOL.md beside this file tells the protocol; `cfw schema` prints it as JSON Schema.
"""

from schemas import errors
from schemas._codec import (
    check_field,
    parse_feed,
    parse_input,
    parse_output,
    restate,
    to_dict,
    to_json,
)
from schemas._greeting import Greeting, WorkerLimits
from schemas._json_schema import json_schemas
from schemas._time import Timestamp
from schemas.errors import *
from schemas.errors import ABORTS, MOST_INTEGER, ErrorCode, SchemaError
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
    FeedAbort,
    FeedClose,
    FeedFrame,
    FeedOpened,
    Message,
    Modality,
    Terminal,
)

__all__ = [
    "ABORTS",
    "MOST_INTEGER",
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
    "Greeting",
    "Message",
    "Modality",
    "SchemaError",
    "Terminal",
    "Timestamp",
    "WorkerLimits",
    "check_field",
    "json_schemas",
    "parse_feed",
    "parse_input",
    "parse_output",
    "restate",
    "to_dict",
    "to_json",
]
__all__ += errors.__all__

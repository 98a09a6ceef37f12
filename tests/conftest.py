"""What all tests share."""

from __future__ import annotations

import os

import hypothesis
import structlog

# Logs of the code under test stay plain: a rich traceback would print every local.
structlog.configure(
    processors=[
        structlog.processors.add_log_level,
        structlog.processors.format_exc_info,
        structlog.processors.KeyValueRenderer(),
    ]
)

# CFW_FUZZ_EXAMPLES=100000 makes every property test a long one.
hypothesis.settings.register_profile(
    "cfw", max_examples=int(os.environ.get("CFW_FUZZ_EXAMPLES", "100")), deadline=None
)
hypothesis.settings.load_profile("cfw")

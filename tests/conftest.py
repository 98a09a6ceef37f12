"""What all tests share."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import hypothesis
import pytest
import structlog

pytest_plugins = ["tests.time_limit", "tests.whole.hostile.figures", "pytester"]

# A shell that starts the tests in the background has them ignore Ctrl-C, which whatever they
# start would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Logs of the code under test stay plain: a rich traceback would print every local.
structlog.configure(
    processors=[
        structlog.processors.add_log_level,
        structlog.processors.format_exc_info,
        structlog.processors.KeyValueRenderer(),
    ]
)


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """What a test does to the configuration of logs ends with it."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


# CFW_FUZZ_EXAMPLES=100000 makes every property test a long one.
hypothesis.settings.register_profile(
    "cfw", max_examples=int(os.environ.get("CFW_FUZZ_EXAMPLES", "100")), deadline=None
)
hypothesis.settings.load_profile("cfw")

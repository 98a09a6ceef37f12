"""A worker, and a page in a new tab of the browser."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest

from tests.whole.browser.chromium import Page, open_page
from tests.whole.smoke.worker import Worker, running


@attrs.frozen
class Visit:
    """Opens both around a block; the page has yet to go to an address."""

    _devtools: str
    _monkeypatch: pytest.MonkeyPatch

    @asynccontextmanager
    async def __call__(self, **settings: Any) -> AsyncIterator[tuple[Worker, Page]]:
        """Open them.

        Args:
            settings: of the worker, as `tests.whole.smoke.worker.running` takes them.
        """
        async with (
            running(self._monkeypatch, **settings) as worker,
            open_page(self._devtools) as page,
        ):
            yield worker, page

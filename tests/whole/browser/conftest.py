"""One browser for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.whole.browser.chromium import running_chromium
from tests.whole.browser.visits import Visit


@pytest.fixture(scope="package")
def devtools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the browser is driven; each test opens tabs of its own."""
    with running_chromium(tmp_path_factory.mktemp("chromium")) as url:
        yield url


@pytest.fixture
def visit(devtools: str, monkeypatch: pytest.MonkeyPatch) -> Visit:
    """Opens a worker and a tab around a block."""
    return Visit(devtools, monkeypatch)

"""The browser of these tests is one that may hang where it begins."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio

from tests.whole.browser import chromium
from tests.whole.browser.test_pages import admin
from tests.whole.browser.visits import Visit

HANGS_ONCE = """#!/bin/sh
for option; do case $option in --user-data-dir=*) folder=${option#*=};; esac; done
if mkdir "$(dirname "$0")/began" 2>/dev/null; then echo waits for a lock >&2
elif %s; then printf '4\\n/devtools' >"$folder/DevToolsActivePort"
else echo and again >&2; exit 3; fi
exec sleep 60
"""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where programs are found first."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(chromium, "STARTS_S", (3, 40))
    return tmp_path / "chromium"


def _install(program: Path, serves: str) -> None:
    program.write_text(HANGS_ONCE % serves)
    program.chmod(0o755)


def test_a_browser_that_hangs_where_it_begins_is_begun_anew(path: Path, tmp_path: Path) -> None:
    _install(path, "true")
    with chromium.running_chromium(tmp_path / "profile") as url:
        assert url == "ws://127.0.0.1:4/devtools"


def test_a_browser_that_never_listens_is_told_with_what_it_said(
    path: Path, tmp_path: Path
) -> None:
    _install(path, "false")
    with (
        pytest.raises(AssertionError, match=r"waits for a lock\n+.*exit 3: and again"),
        chromium.running_chromium(tmp_path / "profile"),
    ):
        pass


async def test_who_waits_for_something_outlives_the_page_that_was_asked(visit: Visit) -> None:
    """A page that gives way to the next one leaves a question without an answer."""
    async with visit() as (worker, page), trio.open_nursery() as nursery:
        answer = "new Promise(() => window.isAsked = true)"
        nursery.start_soon(page.until, f"location.pathname === '/capture' || {answer}")
        await page.until("window.isAsked")
        await page.goto(admin(worker.addresses, "/capture"))

"""Headless Chromium with a fake camera, driven over its DevTools protocol."""

from __future__ import annotations

import base64
import itertools
import json
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from websockets.exceptions import ConnectionClosed
from websockets.trio.client import ClientConnection, connect

from tests.patience import PATIENCE_S

#: How long each try to start a browser may take. The first on a new machine reads 300 MB from a
#: disk that is cold, beside other tests; one that hangs is begun anew in a folder of its own.
STARTS_S = (40, 40)
SAYS = "stderr.txt"
#: What it says of a script whose page goes away before it has answered.
LEFT = ("Inspected target navigated", "Execution context was destroyed", "Cannot find context")
OPTIONS = (
    "--headless",
    "--no-sandbox",  # it has none to offer to root, which tests in a container run as
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--remote-debugging-port=0",
    "--window-size=1280,900",
)


@contextmanager
def running_chromium(profile: Path) -> Iterator[str]:
    """A browser process with a profile of its own, as the URL it is driven at."""
    found = filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))
    program = next(found, None)
    if program is None:
        pytest.skip("chromium is not installed")
    unheard = ""
    for attempt, patience_s in enumerate(STARTS_S):
        folder = profile / str(attempt)
        with _started(program, folder) as process:
            url = _devtools_url(process, folder / "DevToolsActivePort", patience_s)
            if url is not None:
                yield url
                return
        unheard += f"\nwithin {patience_s} s, exit {process.returncode}: {_said(folder)}"
    raise AssertionError(f"chromium does not listen{unheard}")


@contextmanager
def _started(program: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The browser's process until it has ended; what it says is kept in its folder."""
    folder.mkdir(parents=True)
    with (
        (folder / SAYS).open("wb") as says,
        subprocess.Popen(
            [program, *OPTIONS, f"--user-data-dir={folder}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=says,
        ) as process,
    ):
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _said(folder: Path) -> str:
    return (folder / SAYS).read_text(errors="replace")[-2000:]


def _devtools_url(
    process: subprocess.Popen[bytes], port_file: Path, patience_s: float
) -> str | None:
    """Where the browser is driven; None when it ended or did not say so in time."""
    deadline = time.monotonic() + patience_s
    while process.poll() is None and time.monotonic() < deadline:
        lines = port_file.read_text().split() if port_file.exists() else []
        if len(lines) == 2:
            return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
        time.sleep(0.05)
    return None


class Refused(Exception):
    """The browser does not do what it was told."""


@attrs.define(eq=False)
class Page:
    """One tab, in a context without history.

    Attributes:
        problems: what the browser reported: errors, warnings and uncaught exceptions.
        urls: every address the page asked for, WebSockets included.
    """

    _connection: ClientConnection
    _session: str = ""
    _ids: Iterator[int] = attrs.field(factory=lambda: itertools.count(1))
    _answers: dict[int, dict[str, Any] | trio.Event] = attrs.field(factory=dict)
    problems: list[str] = attrs.field(factory=list)
    urls: list[str] = attrs.field(factory=list)

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command of the protocol, and its result."""
        number = next(self._ids)
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        arrived = self._answers[number] = trio.Event()
        await self._connection.send(json.dumps(message))
        with trio.fail_after(PATIENCE_S):
            await arrived.wait()
        answer = self._answers.pop(number)
        assert isinstance(answer, dict)
        if "error" in answer:
            raise Refused(answer["error"]["message"])
        result: dict[str, Any] = answer["result"]
        return result

    async def goto(self, url: str) -> None:
        """Load an address."""
        answer = await self.call("Page.navigate", url=url)
        assert "errorText" not in answer, answer

    async def run(self, script: str) -> Any:
        """The value of a JavaScript expression; a promise is waited for."""
        answer = await self.call(
            "Runtime.evaluate",
            expression=script,
            awaitPromise=True,
            returnByValue=True,
            userGesture=True,
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def until(self, script: str) -> Any:
        """Wait until a JavaScript expression is true; answers its value."""
        # Nothing is there yet while the page still loads.
        guarded = (
            f"(() => {{ try {{ const value = {script};"
            "return value instanceof Node ? true : value } catch {} })()"
        )
        with trio.move_on_after(PATIENCE_S):
            while True:
                try:
                    value = await self.run(guarded)
                except Refused as error:
                    # The page that was asked has given way to the next one.
                    if not any(words in str(error) for words in LEFT):
                        raise
                    value = None
                if value:
                    return value
                await trio.sleep(0.05)
        text = await self.run("document.body.innerText")
        raise AssertionError(f"never true: {script}\n{self.problems}\n{text}")

    async def text(self, selector: str) -> str:
        """What one element says."""
        said: str = await self.run(f"document.querySelector({selector!r}).textContent.trim()")
        return said

    async def type(self, selector: str, text: str) -> None:
        """Fill one field as a person would."""
        await self.run(f"document.querySelector({selector!r}).select()")
        await self.call("Input.insertText", text=text)

    async def click(self, selector: str) -> None:
        """Press one button."""
        await self.run(f"document.querySelector({selector!r}).click()")

    async def screenshot(self, selector: str | None = None) -> bytes:
        """A PNG of one element, or of all that the window shows."""
        params: dict[str, Any] = {}
        if selector is not None:
            box = await self.run(
                f"(({{x, y, width, height}}) => ({{x, y: y + scrollY, width, height}}))"
                f"(document.querySelector({selector!r}).getBoundingClientRect())"
            )
            params["clip"] = {**box, "scale": 1}
        answer = await self.call("Page.captureScreenshot", **params)
        return base64.b64decode(answer["data"])

    async def listen(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Take what the browser says, for as long as it says anything."""
        task_status.started()
        try:
            async for text in self._connection:
                message = json.loads(text)
                if "id" in message:
                    waiting = self._answers[message["id"]]
                    assert isinstance(waiting, trio.Event)
                    self._answers[message["id"]] = message
                    waiting.set()
                else:
                    self._note(message["method"], message["params"])
        except ConnectionClosed:
            pass

    def _note(self, event: str, params: dict[str, Any]) -> None:
        if event == "Network.requestWillBeSent":
            self.urls.append(params["request"]["url"])
        elif event == "Network.webSocketCreated":
            self.urls.append(params["url"])
        elif event == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(params["exceptionDetails"]))
        elif event == "Runtime.consoleAPICalled":
            if params["type"] in ("error", "warning", "assert"):
                self.problems.append(json.dumps(params["args"]))
        elif event == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.problems.append(json.dumps(params["entry"]))


@asynccontextmanager
async def open_page(devtools: str) -> AsyncIterator[Page]:
    """A new tab of a running browser."""
    # Without a queue to fill: one that is full when the page is left, with nobody to empty it,
    # keeps the connection's task waiting for ever.
    options: dict[str, Any] = {"max_size": None, "max_queue": None, "compression": None}
    async with (
        connect(devtools, proxy=None, **options) as connection,
        trio.open_nursery() as nursery,
    ):
        page = Page(connection)
        await nursery.start(page.listen)
        context = await page.call("Target.createBrowserContext")
        target = await page.call("Target.createTarget", url="about:blank", **context)
        attached = await page.call("Target.attachToTarget", **target, flatten=True)
        page._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            await page.call(f"{domain}.enable")
        try:
            yield page
        finally:
            nursery.cancel_scope.cancel()

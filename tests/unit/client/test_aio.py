"""The asyncio form and the synchronous feed, against a real worker in a process."""

# ruff: noqa: PT012

from __future__ import annotations

import ast
import asyncio
import gc
import inspect
import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

import cfw
import cfw.client
from cfw.client import (
    CaptureError,
    ConnectionRefused,
    FilmPart,
    Receipt,
    aio,
    film_sync,
    open_feed_sync,
)
from cfw.testing.rigs import jpeg
from schemas import FeedClose, FeedFrame, FeedOpened
from tests.patience import PATIENCE_S
from tests.serving import serving

NOTEBOOK = Path(cfw.__file__).parent / "client/notebook.ipynb"
OPTIONS: dict[str, Any] = {
    "user_id": "ada",
    "session_id": "s1",
    "width": 640,
    "height": 480,
    "fps": 15,
}


@pytest.fixture(scope="module")
def worker() -> Iterator[tuple[str, str]]:
    """The URLs of a worker for rigs, and of its admin listener."""
    with serving(sessions=("--session", "ada:s1")) as process:
        yield process.url, process.admin


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    """No thread runs on, and no socket is left to the garbage collector."""
    yield
    assert not [thread for thread in threading.enumerate() if thread.name == "cfw-capture"]
    gc.collect()


def run(main: Any) -> None:
    """An asyncio program, for as long as it may take."""
    asyncio.run(asyncio.wait_for(main, PATIENCE_S))


def test_a_capture_and_a_feed_in_one_program(worker: tuple[str, str]) -> None:
    """Every frame that is sent is read, in order; the receipt is there behind the block."""
    pictures = [jpeg(100, fill=number) for number in range(1, 6)]

    async def main() -> None:
        async with aio.open_feed(worker[1], capture_id="c1") as feed:
            await asyncio.sleep(0.2)
            async with aio.open_capture(worker[0], capture_id="c1", **OPTIONS) as capture:
                for picture in pictures:
                    await capture.send_frame(picture)
                assert (capture.capture_id, capture.frames_sent) == ("c1", 5)
            assert capture.receipt == Receipt(5, 500)
            got = []
            async for message, data in feed:
                got.append((type(message), data))
                if isinstance(message, FeedClose):
                    break
        frames = [(FeedFrame, picture) for picture in pictures]
        assert got == [(FeedOpened, None), *frames, (FeedClose, None)]

    run(main())


def test_the_loop_goes_on_meanwhile(worker: tuple[str, str]) -> None:
    """A feed without captures holds nobody up; a step that is cancelled loses no message."""

    async def main() -> None:
        async with aio.open_feed(worker[1], capture_id="c2") as feed:
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(anext(feed), 0.05)
            async with aio.open_capture(worker[0], capture_id="c2", **OPTIONS) as capture:
                await capture.send_frame(jpeg(100))
            got: list[Any] = []
            while not got or not isinstance(got[-1], FeedClose):
                try:
                    got.append((await asyncio.wait_for(anext(feed), 0.001))[0])
                except TimeoutError:
                    continue
        assert [type(message) for message in got] == [FeedOpened, FeedFrame, FeedClose]

    run(main())


@pytest.mark.parametrize("where", ["opening", "body", "iterating"])
def test_a_task_that_is_cancelled_closes_cleanly(worker: tuple[str, str], where: str) -> None:
    """Wherever it is: the cancellation leaves, the socket is closed, the thread has ended."""

    silent = socket.create_server(("127.0.0.1", 0))  # takes connections, answers nothing

    async def block() -> None:
        url = worker[1]
        if where == "opening":
            url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        async with aio.open_feed(url) as feed:
            if where == "body":
                await asyncio.sleep(PATIENCE_S)
            async for _ in feed:
                pass

    async def main() -> None:
        task = asyncio.create_task(block())
        await asyncio.sleep(0.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()
        names = [thread.name for thread in threading.enumerate()]
        assert "cfw-capture" not in names

    with silent:
        run(main())


def test_errors_are_those_of_the_trio_form(worker: tuple[str, str]) -> None:
    """At the call, at the beginning, in the body and behind the end."""

    async def main() -> None:
        with pytest.raises(TypeError):
            aio.open_capture(worker[0], user_id="ada")  # type: ignore[call-arg]
        with pytest.raises(TypeError):
            aio.film(worker[0], user_id="ada")  # type: ignore[call-arg]
        with pytest.raises(ConnectionRefused):
            async with aio.open_capture("ws://127.0.0.1:1", **OPTIONS):
                raise AssertionError("it was opened")
        with pytest.raises(CaptureError, match="not a JPEG"):
            async with aio.open_capture(worker[0], **OPTIONS) as capture:
                await capture.send_frame(b"no picture")
                await asyncio.sleep(0.5)
                await capture.send_frame(b"no picture")
        with pytest.raises(KeyError, match="mine"):
            async with aio.open_capture(worker[0], **OPTIONS) as capture:
                raise KeyError("mine")
        with pytest.raises(trio.ClosedResourceError):
            await capture.send_frame(jpeg(100))
        with pytest.raises(RuntimeError, match="has been used"):
            await capture.__aenter__()
        with pytest.raises(RuntimeError, match="is not open"):
            await aio.open_capture(worker[0], **OPTIONS).send_frame(jpeg(100))

    run(main())


def test_films_without_trio(worker: tuple[str, str]) -> None:
    """Both forms: more frames than a capture may have, and the sum of the receipts."""

    async def main() -> None:
        async with aio.film(worker[0], split=True, **OPTIONS) as sent:
            for _ in range(230):
                await sent.send_frame(jpeg(100))
        assert sent.receipt == Receipt(230, 23_000)
        assert [part.frames_sent for part in sent.parts] == [225, 5]

    run(main())
    parts: list[FilmPart] = []
    with film_sync(worker[0], split=True, on_part=parts.append, **OPTIONS) as sent:
        for _ in range(230):
            sent.send_frame(jpeg(100))
    assert sent.receipt == Receipt(230, 23_000)
    assert sent.frames_sent == sum(part.frames_sent for part in parts) == 230
    assert (sent.lost, sent.start, sent.bytes_sent) == ((), None, 23_000)


def test_a_feed_without_any_loop(worker: tuple[str, str]) -> None:
    """A `for` loop in a thread; it ends with the block."""
    with open_feed_sync(worker[1], capture_id="c3") as feed:
        with film_sync(worker[0], capture_id="c3", **OPTIONS) as sent:
            sent.send_frame(jpeg(100))
        got = []
        for message, data in feed:
            got.append((type(message), data))
            if isinstance(message, FeedClose):
                break
    assert got == [(FeedOpened, None), (FeedFrame, jpeg(100)), (FeedClose, None)]
    with pytest.raises(trio.ClosedResourceError):
        next(feed)


@pytest.mark.parametrize("name", ["open_capture", "open_feed", "film"])
def test_the_forms_take_the_same_arguments(name: str) -> None:
    """But for what belongs to a Trio loop."""
    theirs = dict(inspect.signature(getattr(cfw.client, name)).parameters)
    theirs.pop("stream", None)
    theirs.pop("dial", None)
    for form in (getattr(aio, name), getattr(cfw.client, f"{name}_sync")):
        assert dict(inspect.signature(form).parameters) == theirs


def test_the_notebook_runs(
    worker: tuple[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Cell by cell, in one loop of asyncio, as Jupyter runs it."""
    monkeypatch.setitem(os.environ, "CFW_RIGS", worker[0])
    monkeypatch.setitem(os.environ, "CFW_ADMIN", worker[1])
    monkeypatch.chdir(tmp_path)
    cells = json.loads(NOTEBOOK.read_text("utf-8"))["cells"]
    codes = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert len(codes) >= 4

    async def main() -> None:
        names: dict[str, Any] = {"__name__": "__main__"}
        for number, code in enumerate(codes, 1):
            flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
            compiled = compile(code, f"cell {number}", "exec", flags=flags)
            found = eval(compiled, names)
            if inspect.iscoroutine(found):
                await found
        assert names["sent"].receipt.frames == len(names["frames"]) > 0

    run(main())

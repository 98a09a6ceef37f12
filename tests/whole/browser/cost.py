"""What the live page costs: `python -m tests.whole.browser.cost`.

Rigs, workers and browser are processes of their own, and what is counted is the CPU time of
each. A worker beside a browser that is busy pays for the caches that they share, whomever the
browser looks at. So there are two workers with as many rigs each, and the browser shows one and
the other in turns: what its page costs the first is what that uses more when it is looked at.
Turns are short, for what a machine gives to a process changes over minutes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import attrs
import click
import psutil
import trio

from cfw.api import Addresses
from tests.whole.browser.chromium import Page, open_page, running_chromium
from tests.whole.browser.fleet import fleet
from tests.whole.browser.sight import resize

#: What tells the clock of a process's CPU time from its others, in Linux.
CPU_CLOCK = 2
#: For what was asked for before to have come, and the page's own pace to settle.
SETTLE_S = 3.0
SERVE = (
    *("serve", "--port", "0", "--admin-port", "0", "--log-format", "json"),
    *("--sessions", "allow:", "--log-level", "warning"),
    *("--set", "limits.max_duration_s=3600", "--set", "limits.max_frames=1000000"),
    *("--set", "limits.max_total_bytes=100000000000"),
)


@attrs.frozen
class Cost:
    """CPU seconds in a second, over one span.

    Args:
        browser: all processes of it together.
        worker: the worker.
        pictures: that the page drew in a second.
    """

    browser: float
    worker: float
    pictures: float = 0.0


@attrs.frozen
class Processes:
    """What is measured."""

    browser: psutil.Process
    worker: psutil.Process

    async def cost(self, span_s: float) -> Cost:
        """Of both, over so many seconds."""
        before, begun = self._spent(), trio.current_time()
        await trio.sleep(span_s)
        lasted = trio.current_time() - begun
        browser, worker = (
            (now - then) / lasted for now, then in zip(self._spent(), before, strict=True)
        )
        return Cost(browser, worker)

    def _spent(self) -> tuple[float, float]:
        return _cpu_s(self.browser), _cpu_s(self.worker)


def _cpu_s(process: psutil.Process) -> float:
    """CPU time so far, of a process and all below it."""
    spent = 0.0
    for each in (process, *process.children(recursive=True)):
        # psutil counts in steps of 10 ms, which is as much as a page costs in a turn.
        clock = ~each.pid << 3 | CPU_CLOCK
        with suppress(OSError):  # it has ended
            spent += time.clock_gettime(clock)
    return spent


#: Whether somebody looks at a page is said from outside; else it is hidden, and asks nothing.
LOOKED_AT = """
  var looks = true;
  Object.defineProperty(document, "hidden", { get: () => !looks });
  const own = window.fetch;
  window.fetch = async (...what) => {
    while (!looks) await new Promise((resolve) => setTimeout(resolve, 100));
    return own(...what);
  };
"""


async def show(page: Page, url: str, tile: int) -> None:
    """Open the live page with its tiles in view, and count the pictures that it draws."""
    await resize(page, 1920, 1400)
    await page.call("Page.addScriptToEvaluateOnNewDocument", source=LOOKED_AT)
    await page.goto(url)
    await page.until("document.querySelector('.card')")
    await page.run(
        f"(size => {{ size.value = {tile};"
        "size.dispatchEvent(new Event('input', {bubbles: true})) })"
        "(document.querySelector('#view-size'))"
    )
    await page.run("document.querySelector('#cards').scrollIntoView()")
    await page.run(
        "window.drawn = 0; const surface = CanvasRenderingContext2D.prototype;"
        "const draw = surface.drawImage; surface.drawImage = function (...what)"
        "{ window.drawn++; return draw.apply(this, what) }"
    )


async def compare(
    devtools: str,
    processes: Processes,
    urls: tuple[str, str],
    *,
    rounds: int,
    span_s: float,
    tile: int,
) -> tuple[list[Cost], list[Cost]]:
    """With the page of the other worker and with its own, in turns."""
    costs: tuple[list[Cost], list[Cost]] = ([], [])
    async with open_page(devtools) as other, open_page(devtools) as own:
        pages = (other, own)
        for page, url in zip(pages, urls, strict=True):
            await show(page, url, tile)
            await trio.sleep(SETTLE_S)
            await look(page, False)
        turn = [*zip(pages, costs, strict=True)]
        for _ in range(rounds):
            # One of them first, then the other: what a machine gives may drift within a turn.
            turn = turn[::-1]
            for page, found in turn:
                await look(page, True)
                await trio.sleep(SETTLE_S)
                before = await page.run("window.drawn")
                cost = await processes.cost(span_s)
                drawn = (await page.run("window.drawn") - before) / span_s
                found.append(attrs.evolve(cost, pictures=drawn))
                await look(page, False)
    return costs


async def look(page: Page, looks: bool) -> None:
    """Begin to look at it, or look away."""
    await page.run(f"looks = {json.dumps(looks)};")
    await page.run("document.dispatchEvent(new Event('visibilitychange'))")


@contextmanager
def working() -> Iterator[tuple[psutil.Process, Addresses]]:
    """A worker in a process of its own."""
    command = [sys.executable, "-m", "cfw.cli", *SERVE]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as made:
        try:
            assert made.stdout is not None
            ready = json.loads(made.stdout.readline())
            yield psutil.Process(made.pid), Addresses(ready["capture"], ready["admin"])
        finally:
            made.kill()


@contextmanager
def filming(capture: str, rigs: int, fps: float) -> Iterator[None]:
    """So many rigs in a process of their own."""
    words = ("--film", capture, "--rigs", str(rigs), "--fps", str(fps))
    command = [sys.executable, "-m", "tests.whole.browser.cost", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as made:
        try:
            assert made.stdout is not None
            assert made.stdout.readline().strip() == b"filming"
            yield
        finally:
            made.kill()


async def film(capture: str, rigs: int, fps: float) -> None:
    """Until the process is ended."""
    async with fleet(Addresses(capture, None), rigs, fps=fps):
        click.echo("filming")
        await trio.sleep_forever()


def table(other: list[Cost], own: list[Cost], rigs: int) -> str:
    """What it came to, as medians."""
    without, with_page = (median(each.worker for each in costs) for costs in (other, own))
    browser, pictures = (
        median(getattr(each, what) for each in (*other, *own))
        for what in ("browser", "pictures")
    )
    more = median(b.worker - a.worker for a, b in zip(other, own, strict=True))
    pairs = sorted((b.worker - a.worker) / a.worker for a, b in zip(other, own, strict=True))
    few, many = pairs[len(pairs) // 4], pairs[3 * len(pairs) // 4]
    return (
        f"rigs {rigs}, pictures drawn {pictures:.0f} a second\n"
        f"browser {browser:.2f} of a core\n"
        f"worker {without:.4f} of a core while the page shows another, {with_page:.4f} itself\n"
        f"the page costs the worker {more / without:.1%} of what its captures do "
        f"({few:.1%} to {many:.1%} in half of the turns), "
        f"{more * rigs / without:.2f} captures\n"
    )


@click.command()
@click.option("--rigs", default=40, show_default=True)
@click.option("--fps", default=10.0, show_default=True)
@click.option("--tile", default=160, show_default=True, help="Width of a tile, in pixels.")
@click.option("--rounds", default=30, show_default=True)
@click.option("--seconds", "span_s", default=4.0, show_default=True, help="Of each turn.")
@click.option("--film", "capture", hidden=True)
def main(
    rigs: int, fps: float, tile: int, rounds: int, span_s: float, capture: str | None
) -> None:
    """Measure the live page with many rigs, and tell ratios."""
    if capture is not None:
        trio.run(film, capture, rigs, fps)
        return
    with (
        TemporaryDirectory(ignore_cleanup_errors=True) as profile,
        working() as (_, other),
        working() as (worker, own),
        filming(other.capture, rigs, fps),
        filming(own.capture, rigs, fps),
        running_chromium(Path(profile)) as devtools,
    ):
        port = int(devtools.split(":")[2].split("/")[0])
        processes = Processes(_listens(psutil.Process(), port), worker)

        async def measure() -> tuple[list[Cost], list[Cost]]:
            assert other.admin is not None
            assert own.admin is not None
            return await compare(
                devtools,
                processes,
                (other.admin, own.admin),
                rounds=rounds,
                span_s=span_s,
                tile=tile,
            )

        click.echo(table(*trio.run(measure), rigs), nl=False)


def _listens(parent: psutil.Process, port: int) -> psutil.Process:
    """Which child listens there."""
    for child in parent.children():
        if any(c.laddr.port == port for c in child.net_connections() if c.status == "LISTEN"):
            return child
    raise AssertionError("the browser's process is not found")


if __name__ == "__main__":
    main()

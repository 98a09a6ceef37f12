"""`cfw bench`: frames a second of the worker and of other servers, side by side in one run."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click
from rich.console import Console
from rich.table import Table

from cfw.cli.bench.load import Rate, measure

PATH = "/camera_feed_worker/capture"
PEERS = ("trio-websocket", "trio-websocket-4k", "recv")
SIZES = (1_000, 30_000, 300_000)
_LIMITS = {
    "max_duration_s": 1_000_000,
    "max_frames": 100_000_000,
    "max_total_bytes": 10**15,
    "max_frame_bytes": 8_000_000,
    "max_forward_buffer_bytes": 64_000_000,
}


@contextmanager
def _server(name: str, core: int) -> Iterator[int]:
    """Run a server in its own process on its own core; gives its port."""
    if name.startswith("cfw"):
        arguments = ["-m", "cfw.cli", "serve", "--port", "0", "--admin-port", "off"]
        arguments += ["--sessions", "allow:", "--sink", name.partition(" ")[2]]
        arguments += ["--log-format", "json", "--log-level", "error"]
        for key, value in _LIMITS.items():
            arguments += ["--set", f"limits.{key}={value}"]
    else:
        arguments = ["-m", "cfw.cli.bench.peers", name]
    with subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            _pin(process.pid, core)
            assert process.stdout is not None
            ready = json.loads(process.stdout.readline())
            yield ready["port"] if "port" in ready else _port(ready["capture"])
        finally:
            process.terminate()


def _port(url: str) -> int:
    return int(url.split("/")[2].rpartition(":")[2])


def _pin(pid: int, core: int) -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(pid, {core})


@click.command()
@click.option("--size", "sizes", type=int, multiple=True, help="Bytes per frame; repeatable.")
@click.option("--connections", default=4, show_default=True, help="Rigs at the same time.")
@click.option("--seconds", default=2.0, show_default=True, help="Length of one run.")
@click.option("--rounds", default=5, show_default=True, help="Runs of each; the median counts.")
@click.option("--short", is_flag=True, help="One second, three rounds, 30 kB and 300 kB.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def bench(
    sizes: tuple[int, ...],
    connections: int,
    seconds: float,
    rounds: int,
    short: bool,
    as_json: bool,
) -> None:
    """Measure the worker on the full contract beside other servers.

    Each server runs alone in a process on one core, the load on another; rounds alternate
    between servers, so that a slow moment of the machine meets all of them.
    """
    if short:
        seconds, rounds = 1.0, 3
    sizes = sizes or (SIZES[1:] if short else SIZES)
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    _pin(0, cores[-1])
    names = ("cfw null:", *PEERS)
    results: dict[int, dict[str, float]] = {}
    for size in sizes:
        rates: dict[str, list[Rate]] = {name: [] for name in names}
        for _ in range(rounds):
            for name in names:
                with _server(name, cores[0]) as port:
                    rate = measure(
                        port, PATH, connections=connections, size=size, seconds=seconds
                    )
                rates[name].append(rate)
        results[size] = {
            name: statistics.median(rate.frames_per_s for rate in runs)
            for name, runs in rates.items()
        }
    if as_json:
        click.echo(json.dumps({"connections": connections, "frames_per_s": results}))
    else:
        _print(results, connections)


def _print(results: dict[int, dict[str, float]], connections: int) -> None:
    table = Table(title=f"frames/s, {connections} connections, one server core, medians")
    table.add_column("server", no_wrap=True)
    for size in results:
        table.add_column(f"{size // 1000} kB", justify="right")
        table.add_column("to cfw", justify="right")
    for name in next(iter(results.values())):
        cells = []
        for rates in results.values():
            cells += [f"{rates[name]:,.0f}", f"{rates[name] / rates['cfw null:']:.2f}"]
        table.add_row(name, *cells)
    Console().print(table)

"""The command `cfw bench`."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from typing import IO

import attrs
import click
from rich.console import Console

from cfw.bench.cores import cores, pin
from cfw.bench.measures import NAMES, USUALLY, run
from cfw.bench.peers import PEERS
from cfw.bench.plan import FULL, SHORT, USUAL, Plan
from cfw.bench.plot import svg
from cfw.bench.report import as_json, print_tables, warnings
from cfw.bench.rounds import Rounds
from cfw.bench.tls import making_certificate
from cfw.sinks import check_sink_url

SINKS = ("null:", "hub:")


def _check_sinks(_: click.Context, __: click.Parameter, urls: tuple[str, ...]) -> list[str]:
    for url in urls:
        try:
            check_sink_url(url)
        except ValueError as exc:
            raise click.BadParameter(str(exc)) from None
    return [f"cfw {url}" for url in (*SINKS, *urls)]


@click.command()
@click.option("--short", "plan", flag_value="short", help="Under two minutes; rough.")
@click.option("--full", "plan", flag_value="full", help="Every size with every number of rigs.")
@click.option(
    "--measure",
    "measures",
    type=click.Choice(NAMES),
    multiple=True,
    help="Only this; repeatable.",
)
@click.option(
    "--peer",
    "peers",
    type=click.Choice([*PEERS, "none"]),
    multiple=True,
    help="Only this beside the worker; repeatable.",
)
@click.option(
    "--sink",
    "workers",
    metavar="URL",
    multiple=True,
    callback=_check_sinks,
    help="One more row: the worker with this sink; repeatable.",
)
@click.option("--size", "sizes", type=click.IntRange(100), multiple=True, help="Bytes a frame.")
@click.option(
    "--connections", type=click.IntRange(1), multiple=True, help="Rigs at a time; repeatable."
)
@click.option("--fps", type=click.FloatRange(0.1), help="Frames a second of a rig at a pace.")
@click.option("--seconds", type=click.FloatRange(0.05), help="Length of a run at full speed.")
@click.option("--paced-seconds", type=click.FloatRange(0.05), help="Of a run at a pace.")
@click.option("--rounds", type=click.IntRange(1), help="Runs of each; the median counts.")
@click.option("--tls", "has_tls", is_flag=True, help="Each server over wss:// as well.")
@click.option(
    "--json", "json_file", type=click.File("w"), help="Write everything; - for stdout."
)
@click.option("--svg", "svg_file", type=click.File("w"), help="Draw the rates.")
def bench(
    plan: str | None,
    measures: tuple[str, ...],
    peers: tuple[str, ...],
    workers: list[str],
    sizes: tuple[int, ...],
    connections: tuple[int, ...],
    fps: float | None,
    seconds: float | None,
    paced_seconds: float | None,
    rounds: int | None,
    has_tls: bool,
    json_file: IO[str] | None,
    svg_file: IO[str] | None,
) -> None:
    """Measure the worker beside other servers that do the same work.

    Each server is a process on one core, the load is on another. Rounds go from server to
    server, so that a slow moment of the machine meets all of them; read the ratios first.
    The peers come with pip install 'camera-feed-worker[bench]'. With --tls each server runs
    twice, and is measured over wss:// right behind itself over ws://: a table more for each.

    \b
    pace      CPU and delay of a frame from rigs that send at 15 fps, as cameras do
    rigs      how many such rigs a core holds; takes minutes, so only when asked for
    rates     frames and CPU at full speed, for sizes and numbers of rigs
    abort     from a violation to the close frame
    idle      memory of a connection that waits
    memory    peak of a capture whose sink takes nothing, to its forward buffer
    flood     what one flooding rig does to the delay of others
    viewers   what 20 live viewers cost a capture
    metadata  what reading the metadata of a frame costs, in several ways
    """
    chosen = _plan(plan, sizes, connections, rounds)
    chosen = attrs.evolve(
        chosen,
        fps=fps or chosen.fps,
        seconds=seconds or chosen.seconds,
        paced_s=paced_seconds or chosen.paced_s,
    )
    _raise_file_limit()
    server_core, load_core = cores()
    pin(os.getpid(), load_core)
    others = [name for name in peers or PEERS if name != "none"]
    status = Console(stderr=True)
    with status.status("starting") as line, ExitStack() as stack:
        certificate = stack.enter_context(making_certificate()) if has_tls else None
        servers = [*workers, *others]
        turns = Rounds(servers, server_core, chosen, line.update, certificate)
        tables = run(measures or USUALLY, turns)
    if json_file is None or json_file.name != "<stdout>":
        print_tables(tables, Console())
    for warning in warnings(tables):
        click.echo(warning, err=True)
    if json_file is not None:
        json.dump(as_json(tables), json_file, indent=2)
        json_file.write("\n")
    if svg_file is not None:
        svg_file.write(svg(tables))


def _plan(
    name: str | None,
    sizes: tuple[int, ...],
    connections: tuple[int, ...],
    rounds: int | None,
) -> Plan:
    plan = {"short": SHORT, "full": FULL, None: USUAL}[name]
    if connections:
        plan = attrs.evolve(
            plan, connections=connections, more_connections=(), paced_rigs=connections
        )
    if sizes:
        plan = attrs.evolve(plan, sizes=sizes, paced_sizes=sizes)
    if rounds is not None:
        plan = attrs.evolve(plan, rounds=rounds, paced_rounds=rounds)
    return plan


def _raise_file_limit() -> None:
    """Let this process and the servers, which inherit it, have a socket for every rig."""
    try:
        import resource
    except ImportError:  # a system without it has no such limit
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

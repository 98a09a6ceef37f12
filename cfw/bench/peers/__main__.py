"""`python -m cfw.bench.peers NAME`: run one server; `cfw SINK` is the worker.

It prints its port as a line of JSON. For each line on standard input it prints the delays
measured since the last one; when standard input ends, it ends.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from importlib import import_module
from pathlib import Path

import click

from cfw.bench.peers import PEERS
from cfw.bench.peers.checks import Consumer
from cfw.bench.tls import server_context


def _answer(consumer: Consumer) -> None:
    for _ in sys.stdin:
        delays, consumer.delays_ns = consumer.delays_ns, []
        _say({"delays_ns": delays})
    os._exit(0)


def _say(value: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


@click.command()
@click.argument("name")
@click.option("--stamped", is_flag=True, help="Measure the delay of stamped frames.")
@click.option("--buffer-bytes", type=int, help="Forward buffer of a worker that is stalled.")
@click.option("--tls", type=Path, help="Serve TLS with this certificate and key.")
def main(name: str, stamped: bool, buffer_bytes: int | None, tls: Path | None) -> None:
    """Run the server NAME until standard input ends."""
    consumer = Consumer(stamped)
    threading.Thread(target=_answer, args=(consumer,), daemon=True).start()

    def announce(port: int) -> None:
        _say({"port": port})

    if buffer_bytes is not None:
        worker = import_module("cfw.bench.peers.worker")
        worker.run_stalled(buffer_bytes, announce)
    elif name.startswith("cfw "):
        worker = import_module("cfw.bench.peers.worker")
        worker.run(name.removeprefix("cfw "), consumer, announce, tls)
    else:
        module = import_module(f"cfw.bench.peers.{PEERS[name].module}")
        context = None if tls is None else server_context(tls)
        module.run(*(consumer, announce), *([context] if PEERS[name].has_tls else []))


main()

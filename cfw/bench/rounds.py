"""Rounds from server to server, so that a slow moment of the machine meets all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from cfw.bench.peers import BARE
from cfw.bench.plan import Plan
from cfw.bench.rig import BenchError
from cfw.bench.servers import Server, running, shown
from cfw.bench.tables import Column, Sample, Table, summarise


class Rounds:
    """Starts servers, and takes one measure after the other on all of them.

    Args:
        names: of the servers; see `servers.running`.
        core: where they run.
        plan: how much is measured.
        tell: called with what is going on.
    """

    def __init__(
        self, names: Sequence[str], core: int, plan: Plan, tell: Callable[[str], object]
    ) -> None:
        self.names = list(names)
        self.plan = plan
        self.tell = tell
        self._core = core
        self._servers: list[Server] = []
        self._problems: dict[str, str] = {}

    @property
    def contracts(self) -> list[str]:
        """The servers that check anything."""
        return [name for name in self.names if name not in BARE]

    @contextmanager
    def serving(
        self,
        names: Sequence[str] | None = None,
        *,
        is_stamped: bool = False,
        buffer_bytes: int | None = None,
    ) -> Iterator[None]:
        """Run servers; see `servers.running`.

        Args:
            names: None for all.
        """
        self.tell("starting the servers")
        chosen = self.names if names is None else names
        with running(
            chosen, self._core, is_stamped=is_stamped, buffer_bytes=buffer_bytes
        ) as started:
            self._servers, self._problems = started
            yield

    def table(
        self,
        name: str,
        title: str,
        columns: Sequence[Column],
        measure: Callable[[Server], Sample],
        names: Sequence[str],
        rounds: int | None = None,
    ) -> Table:
        """Run one measure on servers in turn, round after round.

        Args:
            name: of the measure.
            title: what is done.
            names: of the servers, of those that run.
            rounds: None for those of the plan at full speed.
        """
        rounds = self.plan.rounds if rounds is None else rounds
        samples: dict[str, list[Sample]] = {}
        problems = {who: why for who, why in self._problems.items() if who in names}
        for turn in range(rounds):
            for server in self._servers:
                if server.name in problems or server.name not in names:
                    continue
                self.tell(f"{title}: {shown(server.name)}, round {turn + 1} of {rounds}")
                try:
                    sample = measure(server)
                except (BenchError, OSError) as exc:
                    problems[server.name] = str(exc) or type(exc).__name__
                    samples.pop(server.name, None)
                else:
                    samples.setdefault(server.name, []).append(sample)
        named = {shown(who): samples[who] for who in samples}
        return summarise(
            name, title, columns, named, {shown(who): why for who, why in problems.items()}
        )

"""Rounds from server to server, so that a slow moment of the machine meets all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import attrs

from cfw.bench.peers import BARE
from cfw.bench.plan import Plan
from cfw.bench.rig import BenchError
from cfw.bench.servers import STALLED, Server, running, shown
from cfw.bench.tables import Column, Sample, Table, summarise
from cfw.bench.tls import Certificate


class Rounds:
    """Starts servers, and takes one measure after the other on all of them.

    Args:
        names: of the servers; see `servers.running`.
        core: where they run.
        plan: how much is measured.
        tell: called with what is going on.
        certificate: with it each server is measured over TLS as well, beside itself without.
    """

    def __init__(
        self,
        names: Sequence[str],
        core: int,
        plan: Plan,
        tell: Callable[[str], object],
        certificate: Certificate | None = None,
    ) -> None:
        self.names = list(names)
        self.plan = plan
        self.tell = tell
        self._core = core
        self._certificates = [None] if certificate is None else [None, certificate]
        # Without TLS, and with it.
        self._forms: list[_Form] = []

    @property
    def contracts(self) -> list[str]:
        """The servers that check anything."""
        return [name for name in self.names if name not in BARE]

    @contextmanager
    def serving(self, *, is_stamped: bool = False) -> Iterator[None]:
        """Run all servers.

        Args:
            is_stamped: let them measure the delay of stamped frames.
        """
        self.tell("starting the servers")
        with ExitStack() as stack:
            for certificate in self._certificates:
                started = running(
                    self.names, self._core, is_stamped=is_stamped, certificate=certificate
                )
                self._forms.append(_Form(*stack.enter_context(started)))
            stack.callback(self._forms.clear)
            yield

    @contextmanager
    def stalled(self, buffer_bytes: int) -> Iterator[None]:
        """Run the worker with a sink that takes no frame, without TLS."""
        with running([STALLED], self._core, buffer_bytes=buffer_bytes) as started:
            self._forms = [_Form(*started)]
            yield
            self._forms.clear()

    def tables(
        self,
        name: str,
        title: str,
        columns: Sequence[Column],
        measure: Callable[[Server], Sample],
        names: Sequence[str],
        rounds: int | None = None,
    ) -> list[Table]:
        """Run one measure on servers in turn, round after round; a table for each form.

        Args:
            name: of the measure.
            title: what is done.
            names: of the servers, of those that run.
            rounds: None for those of the plan at full speed.
        """
        rounds = self.plan.rounds if rounds is None else rounds
        taken = [_Taken(form, names) for form in self._forms]
        for turn in range(rounds):
            for who in names:
                # Over TLS and without, one right behind the other.
                for one in taken:
                    if (server := one.servers.get(who)) is not None:
                        url = "ws://" if server.trust is None else "wss://"
                        what = f"{title}: {shown(who)} over {url}"
                        self.tell(f"{what}, round {turn + 1} of {rounds}")
                        one.take(server, measure)
        tables = [summarise(name, title, columns, taken[0].samples, taken[0].problems)]
        for one in taken[1:]:
            over = f"{title}, over wss://"
            tables.append(
                summarise(
                    *(name, over, columns, one.samples, one.problems),
                    over_ws=taken[0].samples,
                )
            )
        return tables


@attrs.frozen
class _Form:
    """The servers that run, over TLS or without, and why the others do not."""

    servers: list[Server]
    problems: dict[str, str]


class _Taken:
    """What came of one measure on the servers of a form."""

    def __init__(self, form: _Form, names: Sequence[str]) -> None:
        self.servers = {server.name: server for server in form.servers}
        self.problems = {
            shown(who): form.problems[who] for who in names if who in form.problems
        }
        self.samples: dict[str, list[Sample]] = {}

    def take(self, server: Server, measure: Callable[[Server], Sample]) -> None:
        """Measure once; a server that cannot be measured is not asked again."""
        name = shown(server.name)
        try:
            sample = measure(server)
        except (BenchError, OSError) as exc:
            self.problems[name] = str(exc) or type(exc).__name__
            self.samples.pop(name, None)
            del self.servers[server.name]
        else:
            self.samples.setdefault(name, []).append(sample)

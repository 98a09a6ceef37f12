"""Where answers come from: runs made here, other processes, forks, a checkpoint of before."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial

from cfw.testing.sweep import options
from cfw.testing.sweep.calls import content_of
from cfw.testing.sweep.checkpoint import Checkpoint
from cfw.testing.sweep.config import Config
from cfw.testing.sweep.dry import Dry
from cfw.testing.sweep.errors import SweepError
from cfw.testing.sweep.forks import obstacle, pays, perform_all, walkers
from cfw.testing.sweep.jobs import apart, in_order
from cfw.testing.sweep.report import Report
from cfw.testing.sweep.schedule import schedule_text
from cfw.testing.sweep.tokens import Sweep
from cfw.testing.sweep.work import Answer, Work, perform


@dataclass
class Answers:
    """The answers of one sweep, in the order of the work.

    Attributes:
        config: of the sweep.
        report: is told how they came.
    """

    config: Config
    report: Report
    _checkpoint: Checkpoint | None = None
    _known: list[Answer] = field(default_factory=list)

    def to(self, work: Sequence[Work], step_s: float) -> Generator[Answer, None, None]:
        """Do the work here, or in other processes if there are some or a fork pays.

        Args:
            work: what to do.
            step_s: seconds that a step of the scenario takes.
        """
        config, report = self.config, self.report
        is_forked = config.fork and pays(work, step_s)
        if is_forked and (why := obstacle()):
            report.unforked, is_forked = why, False
        if not is_forked:
            yield from in_order(work, partial(perform, config), config.jobs or 1)
            return
        jobs = walkers(len(work)) if config.jobs is None else config.jobs
        if jobs == 1:
            yield from perform_all(config, step_s, work)
        else:
            yield from apart(work, partial(perform_all, config, step_s), jobs)

    def kept(self, work: Sequence[Work], step_s: float) -> Generator[Answer, None, None]:
        """Answers that a checkpoint has, then those of the rest, which it is given."""
        known = self._known[: len(work)]
        del self._known[: len(work)]
        self.report.resumed += len(known)
        yield from known
        with closing(self.to(work[len(known) :], step_s)) as answers:
            for answer in answers:
                if self._checkpoint is not None:
                    self._checkpoint.add(answer)
                yield answer

    @contextmanager
    def checkpointed(self, sweep: Sweep, dry: Iterable[Dry]) -> Iterator[None]:
        """Go on from a checkpoint if that is asked for; leave one if the sweep is stopped.

        Args:
            sweep: whose it is.
            dry: its runs without a fault, which the answers depend on.
        """
        now, config = options.current, self.config
        if now.folder is None:
            yield
            return
        steps = [(one.params, schedule_text(one.schedule), one.instants[-1:]) for one in dry]
        content = f"{content_of(config)} {config.budget} {config.orders} {steps}"
        self._checkpoint = checkpoint = Checkpoint(now.folder, sweep, content)
        if now.resume:
            self._known, self.report.anew = _taken(checkpoint.answers())
        checkpoint.begin_anew(self._known)
        try:
            yield
        except SweepError:
            checkpoint.over()
            raise
        except BaseException:
            # Ctrl-C, or the time that a test may take.
            checkpoint.write()
            raise
        checkpoint.over()


def _taken(answers: Generator[Answer, None, str]) -> tuple[list[Answer], str]:
    """All that a checkpoint has, and why it has none."""
    taken: list[Answer] = []
    while True:
        try:
            taken.append(next(answers))
        except StopIteration as end:
            return taken, end.value

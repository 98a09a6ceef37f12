"""A failing point, run once more to tell its story, or to stand in it with a debugger."""

from __future__ import annotations

from dataclasses import dataclass

import trio

from cfw.testing.sweep import options
from cfw.testing.sweep.facts import Result
from cfw.testing.sweep.failure import Failure
from cfw.testing.sweep.finds import Found
from cfw.testing.sweep.runner import Runner
from cfw.testing.sweep.sites import leaves
from cfw.testing.sweep.story import tell
from cfw.testing.sweep.tokens import Sweep, Token


@dataclass
class Explainer:
    """Makes failures of what was found.

    Attributes:
        runner: runs it once more.
        sweep: is named in the tokens.
    """

    runner: Runner
    sweep: Sweep

    def explain(self, found: Found) -> Failure:
        """Run a failing point once more, recorded, and tell of it."""
        result = self.runner.run(found.point, record=True, batches=found.batches)
        names = [item.invariant for item in result.violations]
        return self.tell(found, result, found.violations[0].invariant in names)

    def tell(self, found: Found, result: Result, reproduced: bool) -> Failure:
        """Tell of a failing point.

        Args:
            found: the point.
            result: of a recorded run of it.
            reproduced: whether that run failed in the same way.
        """
        point, violations, config = found.point, found.violations, self.runner.config
        params = config.params[point.params]
        assert result.record is not None
        traces = dict.fromkeys(item.trace for item in result.violations if item.trace)
        return Failure(
            violations[0].invariant,
            tuple(dict.fromkeys(item.invariant for item in violations)),
            "\n".join(f"{item.invariant}: {item.message}" for item in violations),
            found.site,
            str(Token.of(self.sweep, point, params, config.settings, found.batches)),
            tell(point, params, result.record, reproduced),
            max(0, found.points - 1),
            tuple(found.sites.most_common()),
            "\n".join(traces),
            result.output,
            found.smallest,
            point,
            result.record,
        )

    def raised(self, found: Found) -> BaseException | None:
        """What a failure raises, with all of its frames, if a debugger wants them."""
        if not options.current.debug:
            return None
        result = self.runner.run(found.point, record=False, batches=found.batches, keep=True)
        raised = [leaf for error in result.raised for leaf in leaves(error)]
        # Where the program itself raised, not where a nursery made a group of it.
        own = [leaf for leaf in raised if not isinstance(leaf, trio.Cancelled)]
        return next(iter(own or raised), None)

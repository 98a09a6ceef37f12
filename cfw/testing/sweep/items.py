"""A test of a pytest suite as a scenario, as it stands: `pytest --sweep`.

Each run is the whole test as pytest runs it: a new item, set up, called and torn down through
pytest's own hooks, so that every function-scoped fixture, synchronous ones included, is as
fresh as the author of the test may expect. pytest-trio starts the asynchronous fixtures and
the test as tasks of one run of Trio; that run is entered through the sweep. So is a test that
AnyIO's plugin runs on Trio. Fixtures of a wider scope are set up once and serve all runs.

Only this module, session.py and the plugin know pytest. Of pytest-trio this one needs the
documented argument `run` of its marker, and `_pytest_trio.py` the order of its fixtures; of
AnyIO's plugin `_anyio.py` needs the place where it gets its runner.
"""

from __future__ import annotations

import inspect
import os
import sys
import traceback
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial, wraps
from types import CodeType, FrameType
from typing import Any, Literal, TypeGuard

import pytest
import trio
from trio.testing import MockClock

from cfw.testing.sweep import _anyio
from cfw.testing.sweep._pytest_trio import fixtures_in_order
from cfw.testing.sweep._trio import nurseries_noted
from cfw.testing.sweep.errors import CannotSweep
from cfw.testing.sweep.facts import Enter
from cfw.testing.sweep.points import NURSERIES, TASK_PREFIX, TASKS
from cfw.testing.sweep.sites import is_trio, leaves, raised_at
from cfw.testing.sweep.watch import PASSED
from cfw.testing.sweep.world import Program, World

#: What `--sweep=` may name, and what stands for it in `at`.
SCOPES = {"test": "test", "nursery": NURSERIES, "task": TASKS}

#: Invariant: what pytest tears down after a run raises nothing.
TEARDOWN = "teardown"

#: Set on the items that are single runs of a sweep.
is_run = pytest.StashKey[bool]()

Phase = Literal["setup", "call", "teardown"]

_PYTEST_DIR = os.path.dirname(os.path.abspath(inspect.getfile(pytest.Item))) + os.sep
_FAILED: tuple[type[BaseException], ...] = (AssertionError, pytest.fail.Exception)
_NEITHER = (pytest.skip.Exception, pytest.xfail.Exception)


def why_not(item: pytest.Item) -> str:
    """Why a collected test cannot be swept, as far as can be told without running it."""
    if not isinstance(item, pytest.Function):
        return "it is no Python function"
    if hasattr(item.obj, "hypothesis"):
        return "a Hypothesis test: it chooses other examples in every run"
    if hasattr(item.obj, "sweep_name"):
        return "it is a sweep already"
    return ""


def is_any_run(manager: pytest.PytestPluginManager) -> bool:
    """Whether there is a plugin that runs tests on Trio."""
    trio_plugin = sys.modules.get("pytest_trio.plugin")
    return manager.is_registered(trio_plugin) or _anyio.is_registered(manager)


def is_async(item: pytest.Item) -> TypeGuard[pytest.Function]:
    """Whether pytest-trio, or AnyIO's plugin, would run the test on Trio."""
    if not isinstance(item, pytest.Function):
        return False
    test = item.obj
    inner = getattr(getattr(test, "hypothesis", None), "inner_test", test)
    if not inspect.iscoroutinefunction(inner):
        return False
    return item.get_closest_marker("trio") is not None or _anyio.is_run_on_trio(item)


@dataclass
class Suite:
    """The runs of one test; the host of its sweep.

    Args:
        item: the test as it was collected.
    """

    item: pytest.Function

    def __call__(self, world: World, enter: Enter) -> None:
        """Run the test once, its fixtures set up before and torn down after it.

        Raises:
            CannotSweep: the test does not pass without a fault, or its fixtures cannot be set
                up again.
        """
        item = self._fresh()
        run = _Run(item, world)
        # The engine listens here; pytest's own capture is in the way during each phase.
        out = sys.stdout
        torn: list[BaseException] = []
        world.check(partial(_raise_first, torn), TEARDOWN)
        try:
            with run.arranged(enter), run.nurseries_noted():
                run.go()
        finally:
            error = _phase(item, "teardown", nextitem=self._fresh())
            torn += [error] if error is not None else []
            _captures_again(item.config)
            out.writelines(text for _, _, text in item._report_sections)
        if torn and not world.injections:
            raise CannotSweep(f"its teardown fails without a fault: {_said(torn[0])}")

    def __post_init__(self) -> None:
        # Each run sets up fixtures of its own. Those of an item that never runs would be torn
        # down without having been used, which theirs may take for an error.
        self.item.setup = lambda: None  # type: ignore[method-assign]

    @property
    def plugin(self) -> str:
        """The name of the plugin that runs the test."""
        return "anyio" if self.item.get_closest_marker("trio") is None else "pytest-trio"

    def step_aside(self) -> None:
        """Make room for the runs among what pytest holds as set up."""
        self.item.session._setupstate.teardown_exact(self._fresh())

    def _fresh(self) -> pytest.Function:
        item = self.item
        fresh = type(item).from_parent(
            item.parent,
            name=item.name,
            callspec=getattr(item, "callspec", None),
            fixtureinfo=item._fixtureinfo,
            originalname=item.originalname,
        )
        fresh.own_markers[:] = item.own_markers
        fresh.stash[is_run] = True
        assert isinstance(fresh, pytest.Function)
        return fresh


@dataclass
class _Run(Program):
    """One run of a test.

    Attributes:
        raised: what the test or its fixtures raised in a run without a fault.
        entered: whether Trio came to run.
    """

    item: pytest.Function
    world: World
    raised: BaseException | None = None
    entered: bool = False
    # Whether the test is not the main task, but one that pytest-trio starts from there.
    _has_main: bool = False
    _top: trio.lowlevel.Task | None = None
    _test: trio.lowlevel.Task | None = None
    _code: CodeType | None = None
    _body: trio.CancelScope | None = None
    _nurseries: set[int] = field(default_factory=set)

    def arranged(self, enter: Enter) -> AbstractContextManager[None]:
        """Let the plugin that runs the test enter Trio through the sweep inside."""
        item = self.item
        if item.get_closest_marker("trio") is None:
            return _anyio.runners(partial(self._enter, enter))
        # pytest-trio takes the first of the markers, which is this one.
        item.add_marker(pytest.mark.trio(run=partial(self._enter, enter)), append=False)
        self._has_main = True
        return fixtures_in_order()

    def go(self) -> None:
        """Set the test up, and call it.

        Raises:
            CannotSweep: it cannot be set up again, or does not pass without a fault.
        """
        item = self.item
        error = _phase(item, "setup")
        if isinstance(error, CannotSweep):
            raise error
        if isinstance(error, _NEITHER):
            raise CannotSweep(_said(error))
        if error is not None:
            raise CannotSweep(f"its fixtures cannot be set up again: {_said(error)}")
        self.world._program = self
        item.obj = self._in_scope(item.obj)
        error = _phase(item, "call")
        if error is not None:
            raise error
        if isinstance(self.raised, _NEITHER):
            raise CannotSweep(_said(self.raised))
        if self.raised is not None:
            raise CannotSweep(
                f"does not pass under the sweep's order and virtual time: {_said(self.raised)}"
            )
        if not self.entered:
            raise CannotSweep("it was not run on Trio")

    def _enter(
        self,
        enter: Enter,
        main: Callable[[], Awaitable[object]],
        clock: trio.abc.Clock | None = None,
        instruments: Sequence[trio.abc.Instrument] = (),
    ) -> None:
        """What is called for `trio.run`."""
        if clock is not None and not isinstance(clock, MockClock):
            raise CannotSweep(f"it has a clock of its own: {clock!r}")
        self.entered = True
        enter(partial(self._judged, main), clock, instruments)

    async def _judged(self, main: Callable[[], Awaitable[object]]) -> None:
        """Pass on what is a finding: not what the test asserts of a run that was cut."""
        if self._has_main:
            self._top = trio.lowlevel.current_task()
        try:
            await main()
        except BaseException as exc:
            if not self.world.injections:
                self.raised = _single(exc)
                return
            rest = self._without_own(exc)
            if rest is exc:
                raise
            if rest is not None:
                raise rest from None

    def nurseries_noted(self) -> AbstractContextManager[None]:
        """Watch the nurseries of this run."""
        return nurseries_noted(self._opened, self._left)

    def _opened(self, nursery: trio.Nursery, opened_by: FrameType) -> None:
        """Remember which nurseries the test's own code opened: those it could cancel."""
        if self._is_test_code(_beyond_anyio(opened_by)):
            self._nurseries.add(id(nursery))

    def _left(self, nursery: trio.Nursery) -> None:
        """End the test when the nursery that was cut is over.

        It would go on without what that was to bring, and might well wait for it for ever.
        """
        if self._body is not None and nursery.cancel_scope in self.world._cut:
            self._body.cancel(reason="sweep: the nursery that was cut is over")

    def _in_scope(self, test: Callable[..., Awaitable[object]]) -> Any:
        self._code = inspect.unwrap(test).__code__

        @wraps(test)
        async def swept(**fixtures: object) -> None:
            self._test = trio.lowlevel.current_task()
            with trio.CancelScope() as self._body, self.world.expose("test", self._body):
                await test(**fixtures)
            self._test = None

        return swept

    def is_fired(self, task: trio.lowlevel.Task, depth: int) -> bool:
        """Whether the test's code can cancel a nursery, and its body runs.

        One that a fixture has open around its `yield` cannot be cancelled: pytest-trio takes
        that for a crash of the fixture.
        """
        if self._test is None or task is self._top:
            return False
        if task is self._test and depth == 0 and self._has_main:
            return "nursery" in self.item._fixtureinfo.argnames
        above = task.parent_nursery
        is_fixture = above is None or above.parent_task is self._top
        if task is not self._test and self._has_main and is_fixture:
            return False
        return id(task.child_nurseries[depth]) in self._nurseries

    def has_started(self, task: trio.lowlevel.Task, frame: FrameType) -> bool:
        """Whether the test's own code has started a task: one that it could cancel."""
        return self.is_under_way() and self._is_test_code(_beyond_anyio(frame))

    def is_under_way(self) -> bool:
        """Whether the test's body runs."""
        return self._test is not None

    def is_own(self, frame: FrameType) -> bool:
        """Whether a frame is of the test, and not of the code under test."""
        return self._is_test_code(frame)

    def may_be_held_up(self, task: trio.lowlevel.Task) -> bool:
        """Of the tasks that the test's code did not start, its body alone."""
        return task is self._test

    def rest(self, root: trio.CancelScope) -> trio.CancelScope | None:
        """The test's body, while it is not over."""
        return self._body if self.is_under_way() else None

    def _without_own(self, error: BaseException) -> BaseException | None:
        """An exception without what the test itself asserts; None if nothing is left."""
        if isinstance(error, BaseExceptionGroup):
            # Python 3.11 takes a method for neither function nor type.
            return error.split(lambda leaf: self._is_own(leaf))[1]
        return None if self._is_own(error) else error

    def _is_own(self, error: BaseException) -> bool:
        """Whether the test's own code found the run not to be what it expects.

        A failed assert of the test, or what Trio told the test itself, such as that a nursery
        is closed. A test whose nursery was cut goes on without what that was to bring, so
        there any exception of its own code counts. After a task was cut alone, the others meet
        what a peer may always do to them; only what comes out of that task is a finding.
        """
        if isinstance(error, BaseExceptionGroup):
            return False
        cut = self.world.injected or ""
        if cut.startswith(TASK_PREFIX) and PASSED not in error.__dict__:
            return True
        frames = [frame for frame in _frames(error) if not _is_pytest(frame)]
        while frames and is_trio(frames[-1].f_code.co_filename):
            del frames[-1]
        if not frames or not self._is_test_code(frames[-1]):
            return False
        if isinstance(error, _FAILED) or cut != "test":
            return True
        told_by_trio = is_trio(_frames(error)[-1].f_code.co_filename)
        return told_by_trio and frames[-1].f_code is self._code

    def _is_test_code(self, frame: FrameType) -> bool:
        """Whether a frame is of the test's file, or of what pytest rewrites with it."""
        loader = type(frame.f_globals.get("__loader__")).__name__
        same = frame.f_code.co_filename == str(self.item.path)
        return same or loader == "AssertionRewritingHook"


def _frames(error: BaseException) -> list[FrameType]:
    return [frame for frame, _ in traceback.walk_tb(error.__traceback__)]


def _beyond_anyio(frame: FrameType) -> FrameType:
    """The frame that a task group of AnyIO was used in."""
    while _anyio.is_transparent(frame.f_code.co_filename) and frame.f_back is not None:
        frame = frame.f_back
    return frame


def _is_pytest(frame: FrameType) -> bool:
    return frame.f_code.co_filename.startswith(_PYTEST_DIR)


def _phase(item: pytest.Item, when: Phase, **more: object) -> BaseException | None:
    """Let pytest do one phase of an item; what it raised, or None.

    The report is made because fixtures such as `tmp_path` go by it, and is forgotten.
    """
    hook = getattr(item.ihook, f"pytest_runtest_{when}")
    leave = (KeyboardInterrupt, pytest.exit.Exception)
    call = pytest.CallInfo.from_call(partial(hook, item=item, **more), when, leave)
    item.ihook.pytest_runtest_makereport(item=item, call=call)
    return None if call.excinfo is None else call.excinfo.value


def _captures_again(config: pytest.Config) -> None:
    """Each phase of a run leaves pytest's capture suspended."""
    manager: Any = config.pluginmanager.getplugin("capturemanager")
    if manager is not None:
        manager.resume_global_capture()


def captures_no_more(config: pytest.Config) -> None:
    """Between tests pytest's capture is suspended, so that the terminal can be written to."""
    manager: Any = config.pluginmanager.getplugin("capturemanager")
    if manager is not None:
        manager.suspend_global_capture()


def _raise_first(errors: list[BaseException]) -> None:
    if errors:
        raise errors[0]


def _single(error: BaseException) -> BaseException:
    """The only leaf of a group, which may be pytest's way of skipping."""
    found = list(leaves(error))
    return found[0] if len(found) == 1 else error


def _said(error: BaseException) -> str:
    if isinstance(error, _NEITHER):
        return f"{type(error).__name__.lower()}: {error}"
    text = "; ".join(f"{leaf!r} at {raised_at(leaf)}" for leaf in leaves(error))
    return text.replace("\n", " ")

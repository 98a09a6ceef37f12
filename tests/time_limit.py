"""A test that takes too long fails alone, tells where its tasks stood, and leaves nothing.

pytest-timeout raises wherever the main thread is. In a Trio program that breaks the run loop:
no fixture is torn down, its processes live on, and what is collected later is blamed on other
tests. So a run of Trio is cancelled instead, and only one that does not end by that is broken.
"""

from __future__ import annotations

import signal
from collections.abc import Generator, Iterator
from types import FrameType

import pytest
import pytest_timeout
import trio

#: Real time for a cancelled test to put its things away.
GRACE_S = 15

_late: dict[pytest.Item, str] = {}


@pytest.hookimpl
def pytest_timeout_set_timer(
    item: pytest.Item, settings: pytest_timeout.Settings
) -> bool | None:
    """Set an alarm that knows Trio; None leaves it to pytest-timeout where it uses a thread."""
    if settings.method != "signal":
        return None

    def ring(signum: int, frame: FrameType | None) -> None:
        try:
            token = trio.lowlevel.current_trio_token()
        except RuntimeError:
            token = None
        if token is None or item in _late or pytest_timeout.is_debugging():
            pytest_timeout.timeout_sigalrm(item, settings)
            return
        _late[item] = f"took longer than {settings.timeout:g} s"
        signal.setitimer(signal.ITIMER_REAL, GRACE_S)
        token.run_sync_soon(_cancel_run, item)

    def forget() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)

    item.cancel_timeout = forget  # type: ignore[attr-defined]
    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, settings.timeout)
    return True


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """A test that was cancelled for its time has failed, whatever it made of that."""
    result = None
    try:
        result = yield
    except BaseException:
        if item not in _late:
            raise
    if item in _late:
        raise pytest.fail.Exception(_late.pop(item), pytrace=False)
    return result


def _cancel_run(item: pytest.Item) -> None:
    """Cancel what runs under the main task; called in the run itself."""
    root = trio.lowlevel.current_root_task()
    assert root is not None
    mains = [task for task in _below(root) if task.child_nurseries]
    lines = [line for main in mains for line in _standing(main)]
    _late[item] = "\n".join((f"{_late[item]}; its tasks stood at", *lines))
    # Of pytest-trio the test alone, if it still runs: its fixtures are put away behind it.
    tests = [child for main in mains for child in _below(main) if child.name[:6] == "<test "]
    for task in tests or mains:
        for nursery in task.child_nurseries:
            nursery.cancel_scope.cancel()


def _below(task: trio.lowlevel.Task) -> Iterator[trio.lowlevel.Task]:
    for nursery in task.child_nurseries:
        yield from nursery.child_tasks


def _standing(task: trio.lowlevel.Task, depth: int = 0) -> Iterator[str]:
    frames = list(task.iter_await_frames())
    ours = [each for each in frames if "site-packages" not in each[0].f_code.co_filename]
    frame, line = (ours or frames)[-1]
    yield f"{'  ' * depth}{task.name}: {frame.f_code.co_filename}:{line}"
    for child in _below(task):
        yield from _standing(child, depth + 1)

"""What the first signal asks of a command, and what the second one, by virtual time."""

from __future__ import annotations

import signal
import sys

import click
import pytest
import trio
from trio.testing import MockClock

from cfw.cli.termination import INTERRUPTED, Termination

GRACE_S = 100


async def _slow_end(termination: Termination, *signals: signal.Signals) -> float:
    """Seconds that a command took whose end takes for ever, from the first signal on."""
    began = trio.current_time()
    with termination.heard():
        with termination.first:
            signal.raise_signal(signals[0])
            await trio.sleep_forever()
        for number in signals[1:]:
            await trio.sleep(1)
            signal.raise_signal(number)
        await trio.sleep(10 * GRACE_S)
    return trio.current_time() - began


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
@pytest.mark.parametrize(
    ("signals", "lasts_s", "code"),
    [
        ((signal.SIGINT,), GRACE_S, INTERRUPTED),
        ((signal.SIGINT, signal.SIGINT), 1, INTERRUPTED),
        ((signal.SIGTERM,), GRACE_S, 143),
        ((signal.SIGTERM, signal.SIGTERM), GRACE_S, 143),
        ((signal.SIGTERM, signal.SIGINT), 1, 143),
        ((signal.SIGINT, signal.SIGTERM), GRACE_S, INTERRUPTED),
    ],
    ids=lambda each: "-".join(s.name for s in each) if isinstance(each, tuple) else None,
)
async def test_the_first_gives_time_and_a_second_ctrl_c_none(
    autojump_clock: MockClock,
    capsys: pytest.CaptureFixture[str],
    signals: tuple[signal.Signals, ...],
    lasts_s: float,
    code: int,
) -> None:
    """The exit code is that of the first; Ctrl-C is told what another one would do."""
    termination = Termination(GRACE_S, heeds_interrupts=True)
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert await _slow_end(termination, *signals) == pytest.approx(lasts_s)
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before
    with pytest.raises(click.exceptions.Exit) as ended:
        termination.exit_if_asked()
    assert ended.value.exit_code == code
    told = f"closing what runs, in at most {GRACE_S} s; Ctrl-C again ends it\n"
    assert capsys.readouterr().err == (told if signals[0] == signal.SIGINT else "")


async def test_without_grace_nothing_is_waited_for(
    autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor is anything told that could be waited for."""
    termination = Termination(heeds_interrupts=True)
    assert await _slow_end(termination, signal.SIGINT) == 0
    assert (termination.cause, capsys.readouterr().err) == ("Ctrl-C", "")

"""How SIGTERM and Ctrl-C end a command that runs until it is done."""

from __future__ import annotations

import math
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

import click
import trio

from cfw.cli.signals import TERMINATED, handled

#: What shells say of a command that Ctrl-C has ended.
INTERRUPTED: Final = 128 + signal.SIGINT


class Termination:
    """SIGTERM, and where it is asked for Ctrl-C, to one run of a command.

    SIGTERM is handled, so that it also counts for the first process of a container, to which a
    signal that nobody handles does nothing.

    Args:
        grace_s: for the block to end by itself, once `first` was cancelled.
        heeds_interrupts: Ctrl-C asks for the same; a second one cancels the block at once.
            Otherwise it is a KeyboardInterrupt.

    Attributes:
        first: a scope that the first signal cancels at once.
        cause: the signal that has ended the command, in words; None when none has.
    """

    def __init__(self, grace_s: float = 0.0, *, heeds_interrupts: bool = False) -> None:
        self.first = trio.CancelScope()
        self.cause: str | None = None
        self._grace_s = grace_s
        self._heeds_interrupts = heeds_interrupts
        self._code = 0

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Cancel what is inside at a signal, after the grace."""
        with trio.CancelScope() as whole, ExitStack() as handlers:
            token = trio.lowlevel.current_trio_token()

            def end(code: int, cause: str) -> None:
                if self.cause is None:
                    self._code, self.cause = code, cause
                self.first.cancel()
                deadline = trio.current_time() + self._grace_s
                whole.deadline = min(whole.deadline, deadline)

            def terminate() -> None:
                end(TERMINATED, "SIGTERM")

            def interrupt() -> None:
                if self.cause is not None:
                    whole.deadline = -math.inf
                elif self._grace_s > 0:
                    limit = f"in at most {self._grace_s:g} s"
                    click.echo(f"closing what runs, {limit}; Ctrl-C again ends it", err=True)
                end(INTERRUPTED, "Ctrl-C")

            handlers.enter_context(
                handled(signal.SIGTERM, lambda: token.run_sync_soon(terminate, idempotent=True))
            )
            if self._heeds_interrupts:
                handlers.enter_context(
                    handled(signal.SIGINT, lambda: token.run_sync_soon(interrupt))
                )
            yield

    def exit_if_asked(self) -> None:
        """End the command as shells say it of one that a signal has ended.

        Raises:
            click.exceptions.Exit: with code 143 for SIGTERM, 130 for Ctrl-C.
        """
        if self.cause is not None:
            raise click.exceptions.Exit(self._code)

"""How SIGTERM ends a command that runs until it is done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click
import trio

from cfw.cli.signals import TERMINATED, handled


class Termination:
    """SIGTERM to one run of a command.

    It is handled, so that it also counts for the first process of a container, to which a
    signal that nobody handles does nothing.

    Args:
        grace_s: for the block to end by itself, once `first` was cancelled.

    Attributes:
        first: a scope that SIGTERM cancels at once.
    """

    def __init__(self, grace_s: float = 0.0) -> None:
        self.first = trio.CancelScope()
        self._grace_s = grace_s
        self._is_asked = False

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Cancel what is inside at SIGTERM, after the grace."""
        with trio.CancelScope() as whole:

            def end() -> None:
                self._is_asked = True
                self.first.cancel()
                whole.deadline = min(whole.deadline, trio.current_time() + self._grace_s)

            token = trio.lowlevel.current_trio_token()
            with handled(lambda: token.run_sync_soon(end, idempotent=True)):
                yield

    def exit_if_asked(self) -> None:
        """End the command as shells say it of one that SIGTERM has ended.

        Raises:
            click.exceptions.Exit: with code 143.
        """
        if self._is_asked:
            raise click.exceptions.Exit(TERMINATED)

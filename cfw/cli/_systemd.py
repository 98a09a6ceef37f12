"""What systemd is told of a worker: ready, stopping, and that its event loop still turns.

Nothing is sent where systemd has not asked: `Type=notify` sets NOTIFY_SOCKET, `WatchdogSec=`
sets WATCHDOG_USEC.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

import structlog
import trio

#: Part of the watchdog's time after which it is fed; systemd's manual advises a half.
_FEED_PART = 0.5

_log: structlog.stdlib.BoundLogger = structlog.get_logger("cfw.server")


class Systemd:
    """A connection to the service manager, or to nobody.

    Args:
        environ: has NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID, or has not.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        self._watchdog_s = _watchdog_s(environ) if self._address else None

    def ready(self) -> None:
        """Say that connections are taken."""
        self._notify("READY=1\nSTATUS=taking captures")

    def stopping(self) -> None:
        """Say that the end has begun."""
        self._notify("STOPPING=1\nSTATUS=letting captures finish")

    async def feed_watchdog(self) -> None:
        """Say again and again that all is well; an event loop that stalls says nothing.

        Returns at once if nobody listens; never otherwise.
        """
        while self._watchdog_s is not None:
            self._notify("WATCHDOG=1")
            await trio.sleep(self._watchdog_s * _FEED_PART)

    def _notify(self, message: str) -> None:
        # A datagram to a socket of this machine: it is taken or refused, and never waited for.
        if not self._address:
            return
        name = self._address
        if name.startswith("@"):
            name = "\0" + name[1:]
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
                connection.setblocking(False)
                connection.sendto(message.encode(), name)
        except OSError as exc:
            _log.warning("server.notify_failed", error=exc.strerror or str(exc))


def _watchdog_s(environ: Mapping[str, str]) -> float | None:
    """How often systemd wants to hear; None if not, or if it means another process."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    asked = environ.get("WATCHDOG_USEC", "")
    return int(asked) / 1e6 if asked.isdecimal() and int(asked) > 0 else None

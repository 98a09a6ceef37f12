"""The files that say who may connect: opened at the start, read again when asked to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import attrs
import structlog
import trio

from cfw.config import AdminConfig, Config, ConfigError, ServerConfig
from cfw.identity import (
    Gate,
    Origins,
    TlsFileError,
    TlsFiles,
    TokenFileError,
    Tokens,
    is_loopback,
)

_log: structlog.stdlib.BoundLogger = structlog.get_logger("cfw.server")


class Reload:
    """Asks a running worker to read its files of tokens and certificates again."""

    def __init__(self) -> None:
        self._asked = trio.Event()

    def request(self) -> None:
        """Have them read; several requests at once are one."""
        self._asked.set()

    async def wait_requested(self) -> None:
        """Wait for the next request."""
        await self._asked.wait()
        self._asked = trio.Event()


@attrs.frozen
class Door:
    """Who may connect to one listener.

    Args:
        name: the section of the configuration.
        tls: its TLS; None when it speaks none.
        tokens: its tokens; None when it asks for none.
    """

    name: str
    tls: TlsFiles | None
    tokens: Tokens | None

    def files(self) -> Iterator[tuple[str, TlsFiles | Tokens]]:
        """What can be read again, each with the key of the configuration it stands for."""
        if self.tls is not None:
            yield f"{self.name}.cert_file", self.tls
        if self.tokens is not None:
            yield f"{self.name}.token_file", self.tokens


@attrs.frozen
class Access:
    """Who may connect to a worker.

    Args:
        server: at the listener for rigs.
        admin: at the admin listener.
        gate: judges the handshakes of rigs.
        reload: tells when to read the files again.
    """

    server: Door
    admin: Door
    gate: Gate
    reload: Reload

    async def keep(self) -> None:
        """Read the files again whenever that is asked for; runs until it is cancelled."""
        while True:
            await self.reload.wait_requested()
            for key, files in (*self.server.files(), *self.admin.files()):
                try:
                    # In a thread: a disk that is slow must not stop the captures.
                    await trio.to_thread.run_sync(files.reload, abandon_on_cancel=True)
                except (TlsFileError, TokenFileError, OSError) as exc:
                    # OSError: a file that was replaced between two looks at it.
                    _log.error("reload.failed", key=key, detail=f"{exc}; the old ones stay")
                else:
                    _log.info("reload.done", key=key)


def open_access(config: Config, reload: Reload) -> Access:
    """Read the files that the configuration names.

    Args:
        config: names the files.
        reload: tells when to read them again.

    Raises:
        ConfigError: one of them cannot be used.
    """
    server, admin = _door("server", config.server), _door("admin", config.admin)
    gate = Gate(Origins(config.server.origins), server.tokens)
    return Access(server, admin, gate, reload)


def _door(name: str, section: ServerConfig | AdminConfig) -> Door:
    tls = tokens = None
    try:
        if section.cert_file:
            tls = TlsFiles(
                Path(section.cert_file),
                Path(section.key_file),
                Path(section.client_ca_file) if section.client_ca_file else None,
            )
        if section.token_file:
            tokens = Tokens(Path(section.token_file))
    except TlsFileError as exc:
        raise ConfigError(f"{name}.{exc.key}", exc.problem) from None
    except TokenFileError as exc:
        raise ConfigError(f"{name}.token_file", str(exc)) from None
    if tokens is not None and tls is None and not is_loopback(section.host):
        _log.warning(
            "tokens.in_clear",
            detail=f"tokens for {section.host} cross the network unencrypted",
            hint=f"set {name}.cert_file and {name}.key_file",
        )
    return Door(name, tls, tokens)

"""The files that say who may connect: opened at the start, read again when asked to.

They may lie on a file system that is gone, where a read never comes back. So they are read in
threads, under a deadline; a read that comes back later than that changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import attrs
import structlog
import trio

from cfw.api.config import AdminConfig, Config, ConfigError, ServerConfig
from cfw.api.rigs import RigsFile, RigsFileError
from cfw.identity import (
    Gate,
    Inviting,
    Origins,
    TlsFileError,
    TlsFiles,
    TokenFileError,
    Tokens,
    UnusableFile,
    check_origin,
    is_loopback,
    read_regular,
)
from cfw.routes.rigs import Rigs

#: For the files of one kind at one listener together; a disk that spins up needs half of it.
READ_S = 10.0
#: Reads of the same files that may hang at a time; each holds a thread for as long.
MAX_HANGING = 4

T = TypeVar("T")

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


class Reader:
    """Reads files that belong together, in threads and under a deadline.

    Args:
        section: of the configuration.
        paths: the keys of the section that name the files, with what they name.
    """

    def __init__(self, section: str, paths: Mapping[str, Path]) -> None:
        self._section = section
        self._paths = paths
        self._threads = trio.CapacityLimiter(MAX_HANGING)

    @property
    def key(self) -> str:
        """The key that stands for all of them."""
        return f"{self._section}.{next(iter(self._paths))}"

    async def read(self, make: Callable[[], T]) -> T:
        """Make something of the files.

        Args:
            make: reads them, in a thread; nobody may be waiting for it any more.

        Raises:
            ConfigError: they cannot be used, or were not read within `READ_S`.

        Cancellation: leaves a read that hangs behind.
        """
        at = ("", Path())
        try:
            with trio.fail_after(READ_S):
                # One by one, to know which of them it is that hangs.
                for at in self._paths.items():
                    await self._in_thread(partial(_touch, at[1]))
                return await self._in_thread(make)
        except trio.TooSlowError:
            problem = f"{at[1]} was not read within {READ_S:g} s; is its file system gone?"
        except TlsFileError as exc:
            at, problem = (exc.key, Path()), exc.problem
        except (TokenFileError, RigsFileError) as exc:
            problem = str(exc)
        except OSError as exc:
            # It was replaced between two looks at it.
            problem = f"{at[1]} cannot be read: {exc.strerror or exc}"
        raise ConfigError(f"{self._section}.{at[0]}", problem)

    async def _in_thread(self, read: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(
            read, abandon_on_cancel=True, limiter=self._threads
        )


def _touch(path: Path) -> None:
    """Read a file to see whether that comes to an end; what is wrong with it is said later."""
    with suppress(UnusableFile):
        read_regular(path)


@attrs.frozen
class Kept:
    """Files that can be read again.

    Args:
        reader: reads them.
        files: as they are in force.
        otherwise: what is still so when they cannot be read.
    """

    reader: Reader
    files: TlsFiles | Tokens | RigsFile
    otherwise: str

    async def reload(self) -> None:
        """Read them again and put them in force; the log says what came of it."""
        try:
            use = await self.reader.read(self.files.read_again)
        except ConfigError as exc:
            _log.error("reload.failed", key=exc.key, detail=f"{exc.problem}; {self.otherwise}")
        else:
            use()
            _log.info("reload.done", key=self.reader.key)


@attrs.frozen
class Door:
    """Who may connect to one listener.

    Args:
        tls: its TLS; None when it speaks none.
        tokens: its tokens; None when it asks for none.
        kept: the files of both.
    """

    tls: TlsFiles | None
    tokens: Tokens | None
    kept: tuple[Kept, ...]


@attrs.frozen
class Access:
    """Who may connect to a worker.

    Args:
        server: at the listener for rigs.
        admin: at the admin listener.
        gate: judges the handshakes of rigs.
        reload: tells when to read the files again.
        rigs: the file of those that are expected, if there is one.
    """

    server: Door
    admin: Door
    gate: Gate
    reload: Reload
    rigs: tuple[Kept, ...] = ()

    async def keep(self) -> None:
        """Read the files again whenever that is asked for; runs until it is cancelled."""
        while True:
            await self.reload.wait_requested()
            kept = (*self.server.kept, *self.admin.kept, *self.rigs)
            if not kept:
                nothing = "there are no tokens, no certificates and no expected rigs"
                _log.info("reload.nothing", detail=nothing)
            # Side by side: one that hangs does not hold up the others.
            async with trio.open_nursery() as nursery:
                for files in kept:
                    nursery.start_soon(files.reload)


async def open_access(
    config: Config, reload: Reload, rigs: Rigs, inviting: Inviting | None = None
) -> Access:
    """Read the files that the configuration names.

    Args:
        config: names the files.
        reload: tells when to read them again.
        rigs: told which are expected.
        inviting: keeps invitations to film; None where nobody is invited.

    Raises:
        ConfigError: one of them cannot be used, or was not read within `READ_S`.

    Cancellation: leaves a read that hangs behind.
    """
    server = await _door(config, "server", config.server)
    admin = await _door(config, "admin", config.admin)
    for origin in config.server.origins:
        if (detail := check_origin(origin)) is not None:
            _log.warning("origins.odd", origin=origin, detail=detail)
    gate = Gate(Origins(config.server.origins), server.tokens, inviting)
    return Access(server, admin, gate, reload, await _open_rigs(config, rigs))


async def _open_rigs(config: Config, rigs: Rigs) -> tuple[Kept, ...]:
    if not config.rigs.file:
        return ()
    path = Path(config.rigs.file)
    reader, file = Reader("rigs", {"file": path}), RigsFile(path, rigs)
    use = await reader.read(file.read_again)
    use()
    return (Kept(reader, file, "the same rigs are expected as before"),)


async def _door(config: Config, name: str, section: ServerConfig | AdminConfig) -> Door:
    tls = tokens = None
    kept = []
    if section.cert_file:
        paths = {"cert_file": Path(section.cert_file), "key_file": Path(section.key_file)}
        if section.client_ca_file:
            paths["client_ca_file"] = Path(section.client_ca_file)
        reader = Reader(name, paths)
        tls = await reader.read(partial(TlsFiles, **paths))
        kept.append(Kept(reader, tls, "the old certificates stay in force"))
    if section.token_file:
        path = Path(section.token_file)
        reader = Reader(name, {"token_file": path})
        tokens = await reader.read(partial(Tokens, path))
        words = "the old tokens stay in force, also those that are no longer in the file"
        kept.append(Kept(reader, tokens, words))
    has_secrets = tokens is not None or (name == "server" and config.invitations.enabled)
    if has_secrets and tls is None and not is_loopback(section.host):
        _log.warning(
            "tokens.in_clear",
            detail=f"tokens for {section.host} cross the network unencrypted",
            hint=f"set {name}.cert_file and {name}.key_file",
        )
    return Door(tls, tokens, tuple(kept))

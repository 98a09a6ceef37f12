"""`cfw serve` and `cfw config`: one set of options, one way to a configuration."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Awaitable, Callable
from functools import partial, wraps
from pathlib import Path
from typing import Any, Final, TypeAlias

import attrs
import click
import structlog
import trio

from cfw import __version__, code_in_use
from cfw.api import Addresses, ListenError, Reload, Shutdown
from cfw.api import serve as serve_worker
from cfw.api.config import Config, ConfigError, config_toml, load_config, parse_setting
from cfw.api.film import make_invitations, usual_session
from cfw.api.memory import settle_memory
from cfw.api.profiles import PROFILES, profile_settings
from cfw.cli._lines import Lines
from cfw.cli._logging import configure_logging
from cfw.cli._streams import OutputError
from cfw.cli._systemd import Systemd
from cfw.cli.certificate import CertificateError
from cfw.cli.invite import invitation_text
from cfw.cli.inviting import FarInvitations
from cfw.cli.lan import is_kept_here, keep_up, lan_defaults, look_after
from cfw.cli.lifeline import Lifeline
from cfw.cli.options import laid_over, sets
from cfw.cli.signals import HEARD, STOP, Terminal
from cfw.cli.workers import INVITATIONS_OF, SUPERVISED_BY, WorkerFailed, supervise
from cfw.identity import Inviting
from cfw.limits import limits_told
from cfw.metrics import Metrics
from cfw.net import RESERVE, raise_descriptor_limit, reachable_url
from cfw.plugins import OutOfReach
from cfw.printable import printable
from cfw.tasks.nurseries import first_leaf

#: Seconds for the ready line to be taken.
ANNOUNCE_S: Final = 5

_Announce: TypeAlias = Callable[..., Awaitable[None]]
_log: structlog.stdlib.BoundLogger = structlog.get_logger("cfw.server")

#: The exit code of click's `UsageError`.
WRONG_CONFIGURATION = 2
#: Parameters that set no key.
_OWN = ("held", "asked_by")


def configured(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that make a configuration, and the configuration made.

    A value that is not allowed ends the process with exit code 2.
    """

    @wraps(command)
    def run(**options: Any) -> None:
        own = {name: options.pop(name) for name in _OWN if name in options}
        try:
            config = _load(**options)
        except ConfigError as exc:
            raise click.UsageError(str(exc)) from None
        command(config, **own)

    any_key = click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="KEY=VALUE",
        help="Any key, for example limits.max_fps=60; repeatable.",
    )
    profile = click.option(
        "--for",
        "profile",
        type=click.Choice(list(PROFILES)),
        help="Limits that fit what is filmed, over those of the file; `cfw config --profiles` "
        "lists them.",
    )
    file = click.option(
        "--config",
        "config_path",
        type=click.Path(path_type=Path),
        help="TOML file; `cfw config` prints one with every key.",
    )
    lan = click.option(
        "--lan",
        is_flag=True,
        help="Let phones of this network film: every address, a certificate made for this "
        "machine, and a code to scan (sets server.host, server.cert_file, server.key_file, "
        "invitations.enabled and sessions.static where they are not set).",
    )
    return file(lan(profile(sets()(any_key(run)))))


def _load(
    config_path: Path | None,
    profile: str | None,
    settings: tuple[str, ...],
    lan: bool,
    **named: Any,
) -> Config:
    together = {} if profile is None else profile_settings(profile)
    single = map(parse_setting, settings)
    given = [*together.items(), *single, *laid_over(named)]
    return load_config(config_path, given, defaults=lan_defaults if lan else lambda _: ())


@click.command()
@configured
@click.option(SUPERVISED_BY, "held", type=int, hidden=True)
@click.option(INVITATIONS_OF, "asked_by", type=int, hidden=True)
def serve(config: Config, held: int | None, asked_by: int | None) -> None:
    """Take captures from rigs and hand every frame on, until SIGINT or SIGTERM.

    The first signal lets running captures finish (times.drain_s); a second ends them at
    once. When connections are taken, one line on standard output names both addresses.
    SIGHUP has the files of certificates and tokens read again, if there are any; it stops
    the worker when it comes with the end of the terminal that it was started at.
    """
    lines = configure_logging(config.log.format, config.log.level)
    if held is not None:
        structlog.contextvars.bind_contextvars(worker=os.getpid())
    _log.info("server.starting", version=__version__, build=code_in_use())
    if held is None:
        _log.info("server.limits", **attrs.asdict(limits_told(config.limits, config.times)))
    _provide_descriptors(config)
    if held is None and is_kept_here(config):
        try:
            look_after(config)
        except CertificateError as exc:
            raise click.ClickException(str(exc.strerror)) from None
    inviting = make_invitations(config) if asked_by is None else FarInvitations(asked_by)
    announce = partial(_announce, config, inviting)
    # Of several workers it is the supervisor that systemd listens to.
    systemd = Systemd() if held is None else Systemd({})
    try:
        if config.server.workers > 1:
            run = partial(_supervise, config, announce, systemd, inviting)
            trio.run(run, strict_exception_groups=True)
        else:
            run = partial(_run, config, announce, held, systemd, lines, inviting)
            if isinstance(inviting, FarInvitations):
                run = partial(_asking, inviting, run)
            trio.run(run, strict_exception_groups=True)
    except* ConfigError as group:
        raise click.UsageError(str(first_leaf(group))) from None
    except* WorkerFailed as group:
        raise _Failed(first_leaf(group)) from None
    except* (ListenError, OutOfReach) as group:
        raise click.ClickException(first_reason(group)) from None


class _Failed(click.ClickException):
    """A worker of several failed; a wrong configuration is one, whoever has read it."""

    def __init__(self, failure: BaseException) -> None:
        super().__init__(str(failure))
        if isinstance(failure, WorkerFailed) and failure.code == WRONG_CONFIGURATION:
            self.exit_code = WRONG_CONFIGURATION  # type: ignore[misc]


def _provide_descriptors(config: Config) -> None:
    """Have enough for every connection that the configuration allows, or say that not."""
    wanted = config.limits.max_connections + config.admin.max_connections + 2 * RESERVE
    available = raise_descriptor_limit(wanted)
    if available < wanted:
        _log.warning("server.few_descriptors", available=available, wanted=wanted)


async def _supervise(
    config: Config, announce: _Announce, systemd: Systemd, inviting: Inviting
) -> None:
    reload = Reload()

    def ready(*addresses: Addresses) -> None:
        nursery.start_soon(announce, *addresses)
        systemd.ready()
        if is_kept_here(config):
            known = str(addresses[0].fingerprint)
            nursery.start_soon(keep_up, config, known, reload.request)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(systemd.feed_watchdog)
        await supervise(config, ready, systemd.stopping, reload, inviting)
        nursery.cancel_scope.cancel()


async def _asking(inviting: FarInvitations, run: Callable[[], Awaitable[None]]) -> None:
    """Run one of several workers, which asks its supervisor for invitations."""
    async with inviting:
        await run()


async def _run(
    config: Config,
    announce: _Announce,
    held: int | None,
    systemd: Systemd,
    lines: Lines,
    inviting: Inviting,
) -> None:
    shutdown, reload, terminal = Shutdown(), Reload(), Terminal()
    lifeline = None if held is None else Lifeline(held)
    with trio.open_signal_receiver(*HEARD) as signals:
        async with trio.open_nursery() as nursery:
            starting = trio.CancelScope()

            async def watch() -> None:
                async for number in signals:
                    if number in STOP or terminal.is_closed():
                        stop()
                        systemd.stopping()
                    else:
                        reload.request()

            def stop() -> None:
                shutdown.request()
                # What a start waits for may never come, and there is no capture to wait for.
                starting.cancel()

            async def work(task_status: trio.TaskStatus[Addresses]) -> None:
                await serve_worker(
                    config,
                    shutdown=shutdown,
                    reload=reload,
                    metrics=Metrics(log_lines_lost=lambda: lines.lost),
                    inviting=inviting,
                    task_status=task_status,
                )
                nursery.cancel_scope.cancel()

            nursery.start_soon(watch)
            if lifeline is not None:
                nursery.start_soon(lifeline.hold, stop)
            nursery.start_soon(systemd.feed_watchdog)
            with starting:
                addresses = await nursery.start(work)
            if starting.cancelled_caught:
                _log.info("server.stopped", detail="it was asked to before it was ready")
                nursery.cancel_scope.cancel()
                return
            settle_memory()
            if lifeline is None:
                nursery.start_soon(announce, addresses)
                if is_kept_here(config):
                    known = str(addresses.fingerprint)
                    nursery.start_soon(keep_up, config, known, reload.request)
            else:
                await lifeline.tell_ready(addresses)
            systemd.ready()


async def _announce(config: Config, inviting: Inviting, *addresses: Addresses) -> None:
    """Say on standard output where one worker, or each of several, is reached.

    At a terminal, whose reader stands before it, behind that the first invitation.

    Nobody has to hear it: captures are taken all the same, and the log says that it was not
    told.
    """
    line = _ready_line(*addresses, log_format=config.log.format)
    if addresses[0].film is not None and sys.stdout.isatty() and config.log.format != "json":
        line += await _first_invitation(config, inviting, addresses[0])
        if is_kept_here(config):
            line += f"\n{_for_programs(config, addresses[0])}\n"
    try:
        with trio.fail_after(ANNOUNCE_S):
            # In a thread, which is left behind if nobody reads.
            await trio.to_thread.run_sync(click.echo, line, abandon_on_cancel=True)
    except OutputError as exc:
        _log.warning("server.ready_untold", detail=exc.message)
    except trio.TooSlowError:
        detail = f"nobody has read standard output for {ANNOUNCE_S} s"
        _log.warning("server.ready_untold", detail=detail)


def _ready_line(addresses: Addresses, *others: Addresses, log_format: str) -> str:
    if log_format == "json":
        ready = {"event": "server.ready", **attrs.asdict(addresses)}
        if others:
            ready["admins"] = [each.admin for each in (addresses, *others)]
        return json.dumps(ready)
    rigs = _usable(addresses.capture, addresses.public)
    admins = ", ".join(
        "off" if each.admin is None else _usable(each.admin) for each in (addresses, *others)
    )
    film = "" if addresses.film is None else f", invited people at {addresses.film}"
    return f"ready: rigs at {rigs}, admin at {admins}{film}"


def _usable(url: str, public: str | None = None) -> str:
    """What a client can connect to, and what is listened at where that is another."""
    used = reachable_url(url) if public is None else public
    return url if used == url else f"{used} (listening at {url})"


def _for_programs(config: Config, addresses: Addresses) -> str:
    """How others than people who are invited send with `--lan`: as nobody, without a token."""
    user, session = usual_session(config) or ("USER", "SESSION")
    tokens = config.server.token_file
    words = ["cfw", "send", addresses.public or reachable_url(addresses.capture), "camera:"]
    words += ["--user", user, "--session", session, "--ca-file", config.server.cert_file]
    line = shlex.join([*words, "--token-file", tokens or "cameras.tokens"])
    if tokens:
        return f"From this machine a program sends with\n{line}"
    return (
        "Programs need a token, and this worker has none. To have one,\n"
        "(umask 077; cfw token > cameras.tokens)\n"
        "then start it with --token-file cameras.tokens, and send from this machine with\n"
        f"{line}"
    )


async def _first_invitation(config: Config, inviting: Inviting, addresses: Addresses) -> str:
    """For whom the configuration names first; how to invite, where it names nobody."""
    usual = usual_session(config)
    if usual is None:
        return "\nInvite somebody to film: cfw invite USER SESSION"
    made = await inviting.invite(*usual)
    told = attrs.asdict(made.invitation)
    text = invitation_text(told, f"{addresses.film}#i={made.text}", addresses.fingerprint)
    return f"\n\n{text}\n\nAnother code: cfw invite {shlex.join(usual)}\n"


def first_reason(group: BaseExceptionGroup[Exception]) -> str:
    """What the first error of a group says, for a terminal."""
    first = first_leaf(group)
    return printable((isinstance(first, OSError) and first.strerror) or str(first))


def _print_profiles(ctx: click.Context, _: click.Parameter, is_wanted: bool) -> None:
    if is_wanted:
        from cfw.cli.reference import profiles_table

        click.echo(profiles_table(), nl=False)
        ctx.exit()


def _print_reference(ctx: click.Context, _: click.Parameter, is_wanted: bool) -> None:
    if is_wanted:
        from cfw.cli.reference import reference

        click.echo(reference(), nl=False)
        ctx.exit()


@click.command("config")
@configured
@click.option(
    "--reference",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_reference,
    help="Print the reference of all keys as Markdown instead.",
)
@click.option(
    "--profiles",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_profiles,
    help="Print what `--for` may be, and what each sets, instead.",
)
def config_command(config: Config) -> None:
    """Print the effective configuration as a TOML file, each key with what it means."""
    click.echo(config_toml(config), nl=False)

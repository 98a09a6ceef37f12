"""The command `cfw`. A subcommand's module is imported when it runs, not before."""

from __future__ import annotations

import difflib
from importlib import import_module
from typing import Any

import click

from cfw import __version__, code_in_use
from cfw.cli._streams import own_streams
from cfw.cli.signals import obeyed_by_the_first_process

#: Subcommand -> where it is, and what `cfw --help` says of it.
_COMMANDS = {
    "serve": ("cfw.cli.serve:serve", "Take captures from rigs and hand every frame on."),
    "config": ("cfw.cli.serve:config_command", "Print the effective configuration."),
    "send": ("cfw.cli.send:send", "Send a camera, a video, JPEG files or a pipe as a capture."),
    "cameras": ("cfw.cli.cameras:cameras", "List the cameras of this machine."),
    "tap": ("cfw.cli.tap:tap", "Read the captures of a worker: video or JSON on stdout."),
    "record": ("cfw.cli.record:record", "Keep captures as files that prove to be whole."),
    "verify": ("cfw.cli.verify:verify", "See that recordings are what they say."),
    "report": ("cfw.cli.report:report_command", "Say how well several cameras kept step."),
    "session": ("cfw.cli.session:session", "Open and close sessions of a fleet of workers."),
    "demo": ("cfw.cli.demo:demo", "Run a worker and a rig together, to look at."),
    "bench": ("cfw.cli.bench:bench", "Measure the worker beside other servers."),
    "invite": ("cfw.cli.invite:invite", "Let somebody film with a phone, by a code to scan."),
    "token": ("cfw.cli.token:token", "Make a token that lets a rig or a person in."),
    "schema": ("cfw.cli.schema:schema", "Print the messages as JSON Schema."),
    "explain": ("cfw.cli.explain:explain", "Say what an error code means and what to do."),
}


class LazyGroup(click.Group):
    """A group that imports a subcommand when it is asked for, and owns the exit codes.

    0 fine, 1 the capture was aborted, the connection failed or the output could not be
    written, 2 wrong usage or configuration, 130 Ctrl-C, 143 SIGTERM.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of `_COMMANDS`."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a subcommand; None for a name that is none."""
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name][0].partition(":")
        command = getattr(import_module(module), name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the subcommand that is asked for, or say which one may have been meant."""
        close = difflib.get_close_matches(args[0], _COMMANDS, n=1)
        if args[0] not in _COMMANDS and close:
            ctx.fail(f"There is no command {args[0]!r}; did you mean {close[0]}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of subcommands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run the command line of this process, over standard streams that never stop it."""
        own_streams()
        return super().main(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a subcommand; Ctrl-C ends in 130, as shells expect."""
        try:
            with obeyed_by_the_first_process():
                return super().invoke(ctx)
        except KeyboardInterrupt:
            raise click.exceptions.Exit(130) from None
        except BaseExceptionGroup as group:
            # Trio may have wrapped it in the groups of its nurseries.
            if group.subgroup(KeyboardInterrupt) is None:
                raise
            raise click.exceptions.Exit(130) from None


def _print_version(ctx: click.Context, _: click.Parameter, is_wanted: bool) -> None:
    if is_wanted:
        click.echo(f"cfw {__version__} ({code_in_use()})")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and whether compiled or pure code runs, and exit.",
)
def main() -> None:
    """A camera feed worker: rigs send captures of JPEG frames, consumers read them.

    Try it in three terminals:

    \b
        cfw serve --session ada:s1
        cfw tap --mode live http://127.0.0.1:8766 | ffplay -loglevel error -f mjpeg -
        cfw send ws://127.0.0.1:8765 pattern: --frames 150 --user ada --session s1

    Exit codes: 0 fine; 1 the capture was aborted, the connection failed or the output could
    not be written; 2 wrong usage or configuration; 130 Ctrl-C; 143 SIGTERM, with which
    `cfw serve` drains and exits with 0.
    """

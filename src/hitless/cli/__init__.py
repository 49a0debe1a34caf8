"""
The command line: `hitless COMMAND`.

A command's module is imported when the command is used, so that help and completion answer at
once: the media libraries alone take a second. Exit status: 0 done; 1 what was asked for failed;
2 bad input, with one line that says so and nothing started; 130 Ctrl-C.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Final

import click

from .output import SHARED, complain, exit_status, share, wants_no_color


COMMANDS: Final = {
    "lab": ("lab:lab", "Run providers, a publisher and a viewer here, and break them."),
    "drill": ("drill:drill", "Break real streams on purpose and measure the gap."),
    "soak": ("soak:soak", "Run a stream for long, with moves or loss, and look for leaks."),
    "serve": ("serve:serve", "Run the control plane."),
    "providers": (
        "providers:providers",
        "Show the providers of a running server, or change them.",
    ),
    "streams": ("moves:streams", "Show the streams of a running server, or one of them."),
    "why": ("replay:why", "Tell why a stream is where it is."),
    "switch": ("moves:switch", "Move one stream, or those of a provider."),
    "drain": ("operate:drain", "Move all streams away from a provider and give it none."),
    "undrain": ("operate:undrain", "Let a drained provider have streams again."),
    "check": ("operate:check", "Check one provider now, or all of them."),
    "freeze": ("operate:freeze", "Stop all automatic moves of streams that have media."),
    "thaw": ("operate:thaw", "Let automatic moves go on after a freeze."),
    "end": ("moves:end", "End anybody's stream; its publisher and its viewers are told."),
    "settings": ("operate:settings", "Show what holds for the whole server, or change it."),
    "audit": ("history:audit", "Show who did what, when and why, the newest first."),
    "usage": ("usage:usage", "Show what providers carried in a month, and what it costs."),
    "history": ("usage:history", "Show how a provider did, by minute or hour."),
    "incident": ("history:incident", "Collect what happened into one JSON document."),
    "keys": ("keys:keys", "Show the keys of a running server, make or revoke one."),
    "publish": ("publish:publish", "Send a stream, and keep it on air."),
    "watch": ("watch:watch", "Watch a stream, wherever it moves."),
    "config": ("config:config", "Show every key: value, unit, default and where it comes from."),
    "doctor": ("doctor:doctor", "Check step by step whether providers can be used from here."),
    "conformance": ("conformance:conformance", "Check a provider against the contract."),
    "prove": ("prove:prove", "Run the whole list against a real account; print the record."),
    "replay": ("replay:replay", "Run a recorded incident again: the same effects, or a bug."),
    "completion": ("completion:completion", "Print the script that completes commands."),
}
"""Name -> where it is (module of this package, attribute), and its sentence in the list."""


class _Commands(click.Group):
    """A group that imports a command when it is used, and not to list it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        if cmd_name not in self.commands:
            module, attribute = COMMANDS[cmd_name][0].split(":")
            command = getattr(importlib.import_module(f".{module}", __name__), attribute)
            self.commands[cmd_name] = share(command)
        return self.commands[cmd_name]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise click.exceptions.NoSuchCommand(args[0], possibilities=COMMANDS, ctx=ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, says) for name, (_, says) in COMMANDS.items()])


@click.group(
    cls=_Commands,
    invoke_without_command=True,
    params=[option() for option in SHARED],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 99},
)
@click.version_option(package_name="hitless", message="%(prog)s %(version)s")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """
    Keep a live stream on air when its streaming provider fails.

    \b
    Examples:
      hitless lab                     see a stream survive, on this machine
      hitless drill provider-killed   measure the gap when a provider dies
      hitless config                  what can be tuned, and what it is now
      hitless COMMAND --help          more about one of them
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main(args: Sequence[str] | None = None) -> int:
    """
    Run the command line and return its exit status.

    Args:
        args: The words after `hitless`; None: those of this process.
    """
    try:
        status = cli.main(
            args,
            prog_name="hitless",
            standalone_mode=False,
            color=False if wants_no_color(os.environ) else None,
        )
    except BaseException as exc:
        known = exit_status(exc)
        if known is None:
            raise  # a bug: its traceback is what we need
        complain(exc)
        return known
    finally:
        sys.stdout.flush()
    return status if isinstance(status, int) and not isinstance(status, bool) else 0

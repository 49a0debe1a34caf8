"""What all commands share: options, exit status, colour, tables and JSON."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ..errors import ConfigError, HitlessError


if TYPE_CHECKING:
    from ..client.config import Config

FAILED: Final = 1
"""What was asked for failed."""
BAD_INPUT: Final = 2
"""Asked for something impossible; nothing was started."""
INTERRUPTED: Final = 130
"""Ctrl-C: 128 + SIGINT, as shells have it."""


@dataclass(slots=True)
class Invocation:
    """
    What the shared options say, for every command: `@pass_invocation`.

    Attributes:
        path: The configuration file asked for; None: the usual places.
        flags: Keys given as `--set KEY=VALUE`.
        verbose: Whether each step is told.
        no_color: Whether colour was declined by option.
    """

    path: Path | None = None
    flags: dict[str, object] = field(default_factory=dict)
    verbose: bool = False
    no_color: bool = False

    def config(self) -> Config:
        """
        Read the configuration.

        Raises:
            ConfigError: It cannot work.
        """
        from ..client.config import load  # here: it costs what `--help` does not need

        return load(self.path, os.environ, self.flags)

    def is_colored(self, stream: Any = None) -> bool:
        """Whether to write colour to a stream (else standard output): terminals only."""
        stream = sys.stdout if stream is None else stream
        return not (self.no_color or wants_no_color(os.environ)) and bool(stream.isatty())

    def start_logging(self) -> None:
        """Tell events on standard error, in the catalogue's words, from now on."""
        from .logs import start_logging

        start_logging(verbose=self.verbose, color=self.is_colored(sys.stderr))


pass_invocation = click.make_pass_decorator(Invocation, ensure=True)


def wants_no_color(environ: Mapping[str, str]) -> bool:
    """Whether the environment declines colour (no-color.org, and terminals that have none)."""
    return bool(environ.get("NO_COLOR")) or environ.get("TERM") == "dumb"


# --- Options that every command takes ---


def _invocation(ctx: click.Context) -> Invocation:
    return ctx.find_root().ensure_object(Invocation)


def _take_config(ctx: click.Context, _: click.Parameter, value: Path | None) -> None:
    if value is not None:
        _invocation(ctx).path = value


def _take_set(ctx: click.Context, _: click.Parameter, value: tuple[str, ...]) -> None:
    for one in value:
        name, equals, text = one.partition("=")
        if not equals or not name.strip():
            raise click.UsageError(f"--set {one}: write KEY=VALUE, as in policy.max_retries=5")
        _invocation(ctx).flags[name.strip()] = text.strip()


def _take_verbose(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    _invocation(ctx).verbose |= value


def _take_no_color(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        _invocation(ctx).no_color = True
        ctx.color = ctx.find_root().color = False


def _option(*names: str, callback: Any, **settings: Any) -> Callable[[], click.Option]:
    def make() -> click.Option:
        return click.Option(names, callback=callback, expose_value=False, **settings)

    return make


SHARED: Final = (
    _option(
        "--config",
        callback=_take_config,
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Configuration file; else $HITLESS_CONFIG, else ./hitless.toml.",
    ),
    _option(
        "--set",
        callback=_take_set,
        multiple=True,
        metavar="KEY=VALUE",
        help="Set one key of the configuration, over file and environment.",
    ),
    _option("-v", "--verbose", callback=_take_verbose, is_flag=True, help="Tell each step."),
    _option("--no-color", callback=_take_no_color, is_flag=True, help="Never use colour."),
)
"""Makers of the options that can stand before and behind the command's name."""


def share(command: click.Command) -> click.Command:
    """Give the shared options to a command and those below it."""
    taken = {name for param in command.params for name in param.opts}
    for make in SHARED:
        option = make()
        if not taken & set(option.opts):
            command.params.append(option)
    if isinstance(command, click.Group):
        for below in command.commands.values():
            share(below)
    return command


json_option = click.option("--json", "as_json", is_flag=True, help="Write JSON.")


# --- How it ends ---


def exit_status(exc: BaseException) -> int | None:
    """Return the exit status for what was raised: the one place that knows. None: a bug."""
    match exc:
        case KeyboardInterrupt() | click.Abort():
            return INTERRUPTED
        case ConfigError() | click.ClickException():
            return BAD_INPUT
        case HitlessError():  # before groups: AllProvidersFailed is one
            return FAILED
        case BaseExceptionGroup(exceptions=inner):
            known = [exit_status(one) for one in inner]
            return None if None in known else max(filter(None, known), default=None)
        case _:
            return None


def complain(exc: BaseException) -> None:
    """Say in one line on standard error what went wrong."""
    if exit_status(exc) == INTERRUPTED:
        return
    while isinstance(exc, BaseExceptionGroup) and not isinstance(exc, HitlessError):
        exc = exc.exceptions[0]
    if isinstance(exc, click.exceptions.NoArgsIsHelpError):
        click.echo(exc.format_message(), err=True)
        return
    text = exc.format_message() if isinstance(exc, click.ClickException) else str(exc)
    words = " ".join(text.split())
    if isinstance(exc, click.UsageError) and exc.ctx is not None:
        words = f"{words.rstrip('.')} (try {exc.ctx.command_path} --help)"
    click.echo(f"hitless: {words}", err=True)


# --- What is written ---


def emit_json(value: object) -> None:
    """Write one JSON document: records as objects, infinite numbers and NaN as null."""
    click.echo(json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False))


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(inner) for inner in value]
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def emit_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write rows in columns as wide as they need to be, under a bold head."""
    table = [tuple(head), *map(tuple, rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for number, row in enumerate(table):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo(click.style("  ".join(cells).rstrip(), bold=True if number == 0 else None))

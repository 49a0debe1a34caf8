"""`hitless soak`: run a stream for long, and look for what leaks or moves without a reason."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import click

from ..errors import ConfigError
from ..lab.drill import machine_lock
from ..lab.soak import Plan, Report
from ..lab.soak import soak as run_soak
from .output import FAILED
from .running import run_until_interrupted


@click.command()
@click.option(
    "--seconds",
    default=1800.0,
    show_default=True,
    help="How long [s].",
)
@click.option(
    "--move-every",
    default=20.0,
    show_default=True,
    help="How often the stream is moved [s].",
)
@click.option(
    "--loss", is_flag=True, help="Do not move it; lose 2 % of all packets, delay by up to 0.1 s."
)
@click.option(
    "--json",
    "to",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write all figures to FILE as JSON; - for standard output.",
)
@click.pass_context
def soak(
    ctx: click.Context, seconds: float, move_every: float, loss: bool, to: Path | None
) -> None:
    """
    Run a stream for long, with moves or loss, and look for leaks.

    Publisher, viewer and stand-in providers are processes of their own on this machine. Tasks,
    threads, descriptors, processes and memory of each are counted every 10 s. Exit status 1 if
    anything grew, a frame was lost over a planned move, or loss alone moved the stream.

    \b
    Examples:
      hitless soak                               half an hour, a move every 20 s
      hitless soak --seconds 180 --json soak.json
      hitless soak --loss --seconds 600          no move may happen
    """
    is_quiet = str(to) == "-"
    plan = Plan(seconds=seconds, move_every_s=move_every, loss=loss)
    if to is not None and not is_quiet:
        _write(to, "", "a")  # what cannot be written is known before half an hour has passed

    def tell(line: str) -> None:
        click.echo(line, err=is_quiet)

    # Before the event loop: Ctrl-C must end the waiting for another run.
    with machine_lock(tell), tempfile.TemporaryDirectory(prefix="hitless-soak-") as folder:
        reports: list[Report] = []

        async def run() -> None:
            reports.append(await run_soak(plan, Path(folder), tell))

        run_until_interrupted(run())
    (report,) = reports
    _summary(report, is_quiet)
    if to is not None:
        _write(to, json.dumps(report.as_json(), indent=2) + "\n")
    if not report.passed:
        ctx.exit(FAILED)


def _summary(report: Report, is_quiet: bool) -> None:
    click.echo(err=is_quiet)
    for check in report.checks:
        verdict = (
            click.style("ok    ", fg="green") if check.passed else click.style("FAILED", fg="red")
        )
        click.echo(f"{verdict} {check.name:<14}  {check.says}", err=is_quiet)


def _write(to: Path, text: str, mode: str = "w") -> None:
    if str(to) == "-":
        click.echo(text, nl=False)
        return
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        with to.open(mode, encoding="utf-8") as file:
            file.write(text)
    except OSError as exc:
        raise ConfigError(f"cannot write {to}: {exc.strerror}") from exc

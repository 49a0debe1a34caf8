"""`hitless drill`: break real streams on purpose, and measure."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Final

import click

from ..errors import ConfigError
from ..lab import drills  # noqa: F401 -- fills the catalogue
from ..lab.drill import CATALOGUE, Drill, Result, chosen, machine_lock, mix, perform_all
from .output import FAILED, emit_table


_NO_DRILL: Final = {
    "livekit": "no package that can be installed here brings its server",
    "memory": "it lives in one process, and the ends of a drill are processes of their own",
    "whip": "it is what the stand-in called webrtc speaks",
}
"""Adapters that somebody may look for here, and why they are not among the lab's providers."""


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME...]")
@click.option("--runs", default=1, type=click.IntRange(1, 1000), help="How often each is run.")
@click.option(
    "--json",
    "to",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write every run to FILE as a JSON list; - for standard output.",
)
@click.option(
    "--providers",
    "mixed",
    metavar="A,B,C",
    help="Who carries the streams, best first: agora, zegocloud, webrtc (stand-ins), janus (the "
    "real one), rtmp (nginx); stand-ins fill it up to three.",
)
@click.option(
    "--alone",
    "is_alone",
    is_flag=True,
    help="Publisher and viewer decide without the server, by its list and health answers only.",
)
@click.option(
    "--list", "show", is_flag=True, help="List the drills: what happens, what must hold."
)
@click.pass_context
def drill(
    ctx: click.Context,
    names: tuple[str, ...],
    runs: int,
    to: Path | None,
    mixed: str | None,
    is_alone: bool,
    show: bool,
) -> None:
    """
    Break real streams on purpose and measure the gap.

    Publisher, viewer, providers and the server are processes of their own on this
    machine; the gap comes from the frame numbers in the picture that the viewer decodes. Exit
    status 1 if any run did not pass.

    \b
    Examples:
      hitless drill                                     all of them, once
      hitless drill provider-killed --runs 5            one of them, with its spread
      hitless drill provider-killed --json gaps.json    the figures of each run
      hitless drill backend-switch --providers janus,agora
      hitless drill --alone                             what holds without the server
      hitless drill --list
    """
    if show:
        emit_table(
            ("drill", "what happens", "what must hold"),
            [(one.name, one.happens, one.holds) for one in CATALOGUE.values()],
        )
        return
    wanted = chosen(names, is_alone=is_alone)
    providers = mix(_named(mixed))
    is_quiet = str(to) == "-"
    if to is not None and not is_quiet:
        _write(to, [])  # what cannot be written is known before the drills have run
    with machine_lock(lambda line: click.echo(line, err=is_quiet)):
        performed = perform_all(wanted, runs, providers=providers, is_alone=is_alone)
        total = len(wanted) * runs
        results = asyncio.run(
            _run(performed, runs, total, to=None if is_quiet else to, quiet=is_quiet)
        )
    if to is not None and is_quiet:
        _write(to, results)
    if str(to) != "-":
        _summary(wanted, results)
    if not all(result.passed for result in results):
        ctx.exit(FAILED)


def _named(mixed: str | None) -> list[str]:
    """
    Return the names of a mix as they were given.

    Raises:
        ConfigError: One is left empty, or is an adapter that no drill can run on; says why.
    """
    names = [] if mixed is None else [name.strip() for name in mixed.split(",")]
    for name in names:
        if not name:
            raise ConfigError("--providers: give names with a comma between them: janus,agora")
        if name in _NO_DRILL:
            raise ConfigError(f"--providers: no drill runs on {name}: {_NO_DRILL[name]}")
    return names


async def _run(
    performed: AsyncIterator[tuple[Drill, int, Result]],
    runs: int,
    total: int,
    *,
    to: Path | None,
    quiet: bool,
) -> list[Result]:
    results: list[Result] = []
    async for one, number, result in performed:
        results.append(result)
        if to is not None:
            _write(to, results)  # each time: Ctrl-C after an hour loses nothing
        verdict = (
            click.style("passed", fg="green") if result.passed else click.style("FAILED", fg="red")
        )
        which = f"{one.name} {number + 1}/{runs}" if runs > 1 else one.name
        line = f"[{len(results)}/{total}] {verdict} {which}{_figures(result)}"
        click.echo(f"{line}  ({result.duration_s:.0f} s)", err=quiet)
        if not result.passed:
            for because in result.because:
                click.echo(f"    {because}", err=quiet)
    return results


def _figures(result: Result) -> str:
    if result.gap_s is None:
        return ""
    told = f"  gap {result.gap_s:.3f} s"
    if result.detect_s is not None:
        told += f", detected after {result.detect_s:.3f} s"
    return told + f", {result.frames_lost} frames lost, {result.frames_repeated} repeated"


def _summary(wanted: list[Drill], results: list[Result]) -> None:
    rows = []
    for one in wanted:
        mine = [result for result in results if result.drill == one.name]
        rows.append(
            (
                one.name,
                f"{sum(result.passed for result in mine)}/{len(mine)}",
                _spread([result.gap_s for result in mine]),
                _spread([result.frames_lost for result in mine], "{:g}"),
                _spread([result.audio_gap_s for result in mine]),
                _spread([_excess(result) for result in mine]),
            )
        )
    click.echo()
    emit_table(
        ("drill", "passed", "gap [s]", "frames lost", "audio gap [s]", "over baseline [s]"), rows
    )
    click.echo("Figures: median (smallest-largest) of the runs.")


def _excess(result: Result) -> float | None:
    longest, baseline = result.longest_interval_s, result.baseline_longest_interval_s
    return None if longest is None or baseline is None else longest - baseline


def _spread(values: Sequence[float | None], form: str = "{:.3f}") -> str:
    known = [float(value) for value in values if value is not None]
    if not known:
        return "-"
    shown = [form.format(value) for value in (median(known), min(known), max(known))]
    return shown[0] if len(known) == 1 else f"{shown[0]} ({shown[1]}-{shown[2]})"


def _write(to: Path, results: list[Result]) -> None:
    text = json.dumps([asdict(result) for result in results], indent=2) + "\n"
    if str(to) == "-":
        click.echo(text, nl=False)
        return
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_text(text, encoding="utf-8")
    except OSError as exc:
        raise ConfigError(f"cannot write {to}: {exc.strerror}") from exc

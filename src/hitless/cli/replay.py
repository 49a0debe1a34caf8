"""`hitless replay` and `hitless why`: what a record tells, or a running server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from ..client.stream_id import check_stream_id
from ..core.events import Announce, Effect
from ..core.replay import replay as rerun
from ..core.state import State
from ..errors import ConfigError
from .calls import Server, asks_server
from .history import why_from_server
from .output import FAILED, emit_json, json_option


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@json_option
@click.pass_context
def replay(ctx: click.Context, file: Path, as_json: bool) -> None:
    """
    Run a recorded incident again: the same effects, or a bug.

    FILE was written by `--record`, by the lab (it says where), or by `hitless incident`: then
    what the server observed is judged again, the steps of its hands are run again and its fleet
    moves are decided again, and must give the verdicts, effects and moves that they gave. Exit
    status 1 if they do not.

    \b
    Examples:
      hitless replay incident.jsonl
      hitless replay incident.json --json
    """
    from .rejudge import incident_in, show_again  # here: it costs what `why` does not need

    document = incident_in(file)
    if document is not None:
        if not show_again(document, file, as_json=as_json):
            ctx.exit(FAILED)
        return
    begun_s: float | None = None
    for now, event, effects, _ in rerun(_lines(file)):
        begun_s = now if begun_s is None else begun_s
        if as_json:
            line = {
                "at_s": now,
                "event": {"type": type(event).__name__, **asdict(event)},
                "effects": [{"type": type(one).__name__, **asdict(one)} for one in effects],
            }
            click.echo(json.dumps(line, default=str, sort_keys=True))
            continue
        if effects:
            click.echo(f"{now - begun_s:9.3f} s  {_told(event)}")
            for one in effects:
                click.echo(f"{'':14}-> {_told(one)}")


@click.command()
@click.argument("stream")
@click.option(
    "--record",
    "file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A record written by --record, or by the lab; no server is asked.",
)
@asks_server
@json_option
def why(server: Server, stream: str, file: Path | None, as_json: bool) -> None:
    """
    Tell why a stream is where it is.

    A running server is asked, which knows what was decided for it and by whom; with --record, the
    record of one publisher or viewer tells what that one saw.

    \b
    Examples:
      hitless why morning-show
      hitless why morning-show --record incident.jsonl
    """
    check_stream_id(stream)
    if file is None:
        why_from_server(server, stream, as_json=as_json)
        return
    _why_from_record(file, stream, as_json=as_json)


def _why_from_record(file: Path, stream: str, *, as_json: bool) -> None:
    history: list[dict[str, Any]] = []
    state, begun_s = State(), 0.0
    known: dict[str, None] = {}
    for number, (now, _, effects, after) in enumerate(rerun(_lines(file))):
        begun_s = now if number == 0 else begun_s
        state = after
        known |= {one.stream: None for one in effects if isinstance(one, Announce) and one.stream}
        history += [_entry(one, now - begun_s) for one in effects if _concerns(one, stream)]
    if stream not in known:
        there = ", ".join(known) or "none"
        raise ConfigError(f"the record {file} knows no stream called {stream!r}; it has: {there}")
    sessions = [s for s in state.sessions.values() if s.stream == stream]
    here = {s.role.value: {"provider": s.provider, "phase": s.phase.value} for s in sessions}
    if as_json:
        emit_json({"stream": stream, "now": here, "history": history})
        return
    for entry in history:
        provider = entry["provider"] or ""
        click.echo(
            f"{entry['at_s']:9.3f} s  {entry['name']:<22} {provider:<12} {entry['because']}"
        )
    for role, at in here.items():
        click.echo(f"{role}: {at['phase']} with {at['provider'] or 'nobody'}")
    if not here:
        click.echo("it is over")


_TELLING = {
    "stream.on_air", "stream.off_air", "stream.stays", "stream.ended", "stream.failed",
    "stream.waiting", "failover.started", "failover.succeeded", "migration.started",
    "migration.succeeded", "trial.started", "trial.failed", "leg.silent", "leg.heard",
    "leg.failed", "circuit.opened", "circuit.closed", "list.changed", "network.lost",
    "network.back",
}  # fmt: skip


def _concerns(effect: Effect, stream: str) -> bool:
    if not isinstance(effect, Announce) or effect.name not in _TELLING:
        return False
    return effect.stream in (None, stream)


def _entry(effect: Effect, at_s: float) -> dict[str, Any]:
    assert isinstance(effect, Announce)
    return {
        "at_s": round(at_s, 6),
        "name": effect.name,
        "provider": effect.provider,
        "because": effect.because,
    }


def _told(value: Any) -> str:
    """Return an event or effect in one line, without what is empty."""
    known = ((name, inner) for name, inner in asdict(value).items() if inner not in (None, "", {}))
    return f"{type(value).__name__} " + " ".join(f"{name}={inner}" for name, inner in known)


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    try:
        with file.open(encoding="utf-8") as opened:
            for number, line in enumerate(opened, 1):
                try:
                    yield json.loads(line)
                except ValueError:
                    if not line.endswith("\n"):
                        return  # the writer was killed in the middle of its last line
                    raise ConfigError(
                        f"{file}:{number} is not a line of a record: give a file by --record"
                    ) from None
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{file} is no record: give a file by --record") from exc
    except OSError as exc:
        raise ConfigError(f"cannot read {file}: {exc.strerror}") from exc

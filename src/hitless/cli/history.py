"""`hitless audit` and `hitless incident`, and what `hitless why` asks a server: what was done."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from ..errors import ConfigError
from ..server.clock import wall_s
from ..server.redaction import redacted
from ..server.wire import AuditEntry, Judged, Settings, Stream
from .calls import NotThere, Server, ServerIsOlder, asks_server
from .moves import one_stream, some_streams
from .output import emit_json, json_option
from .providers import all_providers
from .words import ago, count, duration, moment, say, table


PAGE_MAX: Final = 1000
INCIDENT_ENTRIES_MAX: Final = 10_000
INCIDENT_STREAMS_MAX: Final = 10_000
WHY_ENTRIES_MAX: Final = 200
WHY_PROVIDER_ENTRIES_MAX: Final = 20

FORMAT: Final = 1
"""Of the document that `hitless incident` writes."""

_WORDS_MAX: Final = 3
"""Changed fields that a line of the log names."""


def entries(
    server: Server, *, limit: int, target: str | None = None, since_s: float | None = None
) -> list[AuditEntry]:
    """
    Return entries of the audit log, the newest first.

    Args:
        server: Whose.
        limit: How many at most.
        target: Only what was done to this provider, stream, key or setting.
        since_s: Only what was done at or after [s since 1970].
    """
    found: list[AuditEntry] = []
    while len(found) < limit:
        size = min(PAGE_MAX, limit - len(found))
        before = found[-1].id if found else None
        query = {"target": target, "since_s": since_s, "before": before, "limit": size}
        page = server.ask(list[AuditEntry], "GET", "/v1/admin/audit", query=query)
        found += page
        if len(page) < size:
            break
    return found


@click.command()
@click.option("--target", metavar="NAME", help="Only what was done to this.")
@click.option("--since", type=duration, metavar="TIME", help="How far back: 30m, 1h, 7d.")
@click.option(
    "--limit", default=50, show_default=True, type=click.IntRange(1, 100_000), help="Most entries."
)
@asks_server
@json_option
def audit(
    server: Server, target: str | None, since: float | None, limit: int, as_json: bool
) -> None:
    """
    Show who did what, when and why, the newest first.

    WHO is the id of a key, or the part of the server that decided. A target is a provider, a
    stream, a key or a setting.

    \b
    Examples:
      hitless audit
      hitless audit --since 1h --target agora
      hitless audit --limit 1000 --json
    """
    since_s = None if since is None else wall_s() - since
    found = entries(server, limit=limit, target=target, since_s=since_s)
    if as_json:
        emit_json(msgspec.to_builtins(found))
    elif not found:
        click.echo("nothing was done", err=True)
    else:
        rows = (
            (moment(one.at_s), one.who, one.what, one.target, difference(one), one.because or "-")
            for one in found
        )
        table(("when", "who", "what", "target", "change", "because"), rows)


@click.command()
@click.option(
    "--since",
    type=duration,
    default="1h",
    show_default=True,
    metavar="TIME",
    help="How far back: 30m, 1h, 7d.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write it to FILE, readable by you only.",
)
@asks_server
@click.option("--json", "as_json", is_flag=True, help="It is JSON in any case.")
def incident(server: Server, since: float, output: Path | None, as_json: bool) -> None:
    """
    Collect what happened into one JSON document.

    It holds the audit log, the providers with their verdicts, the settings, the streams that are
    on or changed in that time, and what the node that answers observed and concluded, what it
    ordered its hands and how it moved its fleet, which `hitless replay` decides again. Keys,
    tokens and passwords are taken out. Names of streams are not, but for those in what was
    decided: there streams, clients and networks have other names, the same one for the same.

    \b
    Examples:
      hitless incident --since 1h --output incident.json
      hitless incident --since 30m > incident.json
      hitless replay incident.json
    """
    if output is not None:
        _write(output, "")  # what cannot be written is known before the server is asked
    document = redacted(collect(server, since))
    if output is None:
        emit_json(document)
        return
    _write(output, msgspec.json.format(msgspec.json.encode(document)).decode() + "\n")
    parts = count(len(document["streams"]), "stream")
    click.echo(f"{output}: {len(document['audit'])} audit entries, {parts}", err=True)


def collect(server: Server, since: float) -> dict[str, Any]:
    """
    Return what a server knows of the last `since` seconds, as JSON values.

    The log comes last: what was done while the rest was read is in it.
    """
    now_s = wall_s()
    settings = server.ask(Settings, "GET", "/v1/admin/settings")
    providers = all_providers(server)
    on, is_cut = some_streams(server, limit=INCIDENT_STREAMS_MAX)
    over, is_cut_too = some_streams(server, limit=INCIDENT_STREAMS_MAX, ended=True)
    recent = [one for one in over if one.changed_ago_s <= since]
    log = entries(server, limit=INCIDENT_ENTRIES_MAX + 1, since_s=now_s - since)
    try:
        judged: Judged | None = server.ask(
            Judged, "GET", "/v1/admin/recording", query={"since": since}
        )
    except ServerIsOlder:
        judged = None
    document: dict[str, Any] = msgspec.to_builtins(
        {
            "format": FORMAT,
            "version": version("hitless"),
            "server": server.url,
            "made_s": now_s,
            "since_s": now_s - since,
            "is_complete": not (is_cut or is_cut_too or len(log) > INCIDENT_ENTRIES_MAX),
            "settings": settings,
            "providers": providers,
            "streams": [*on, *recent],
            "audit": log[:INCIDENT_ENTRIES_MAX],
            "judged": judged,
        }
    )
    return document


def _write(output: Path, text: str) -> None:
    try:
        number = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(number, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as exc:
        raise ConfigError(f"cannot write {output}: {exc.strerror}") from exc


def difference(entry: AuditEntry) -> str:
    """Return what an entry changed, in a few words: `priority 1 -> 5`."""
    before, after = _flat(entry.before), _flat(entry.after)
    if entry.after is None:
        return "-"
    if entry.before is None:
        said = [f"{key} {_short(value)}" for key, value in after.items()]
        return ", ".join(said) if len(said) <= _WORDS_MAX else "-"
    known = entry.before if isinstance(entry.before, Mapping) else {}
    said = [
        f"{key} {_short(before.get(key))} -> {_short(after.get(key))}"
        if key.partition(".")[0] in known
        else f"{key} {_short(after.get(key))}"  # what it was before is not in the log
        for key in dict.fromkeys([*before, *after])
        if before.get(key) != after.get(key)
    ]
    if len(said) > _WORDS_MAX:
        said[_WORDS_MAX:] = [f"{len(said) - _WORDS_MAX} more"]
    return ", ".join(said) or "-"


def _flat(value: object) -> dict[str, object]:
    """Return an object's fields with those of objects in it: `config.url`."""
    found: dict[str, object] = {}
    for key, inner in value.items() if isinstance(value, Mapping) else ():
        if isinstance(inner, Mapping):
            found |= {f"{key}.{name}": below for name, below in inner.items()}
        elif inner not in (None, ""):
            found[str(key)] = inner
    return found


def _short(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, list):
        value = ", ".join(map(str, value)) or "none"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= 30 else text[:29] + "…"


# --- Why ---


def why_from_server(server: Server, stream: str, *, as_json: bool) -> None:
    """
    Say where a stream is and what was done to it and to its provider, the oldest first.

    Raises:
        NotThere: The server knows nothing of it.
    """
    log = entries(server, limit=WHY_ENTRIES_MAX, target=stream)
    here: Stream | None = None
    try:
        here = one_stream(server, stream)
    except NotThere:
        if not log:
            raise
    if here is not None and here.provider:
        log += entries(server, limit=WHY_PROVIDER_ENTRIES_MAX, target=here.provider)
    log.sort(key=lambda entry: int(entry.id))
    if as_json:
        emit_json(msgspec.to_builtins({"stream": stream, "now": here, "history": log}))
        return
    for entry in log:
        told = "" if entry.target == stream else f"{entry.target}: "
        because = entry.because or difference(entry)
        say(f"{moment(entry.at_s)}  {entry.what:<22} {told}{because}")
    if here is None:
        click.echo("the server does not know it any more")
        return
    flows = "media flows" if here.is_carried else "no media yet"
    now = f"{here.stream}: {here.state} with {here.provider or 'nobody'} (epoch {here.epoch})"
    if here.state != "ended":
        now += f", {flows}, {count(here.viewers, 'viewer')}"
    say(f"{now}, since {ago(here.changed_ago_s)}: {here.because or 'no reason'}")

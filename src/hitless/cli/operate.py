"""`hitless drain`, `undrain`, `check`, `freeze`, `thaw`, `settings`: what those on duty do."""

from __future__ import annotations

import click
import msgspec

from ..server.wire import Checked, ProviderChange, Settings, SettingsChange
from .calls import FLEET_S_MAX, Needs, Server, asks_server, because_option
from .output import FAILED, emit_json, json_option
from .providers import changed, one_provider
from .words import count, facts, table


@click.command()
@click.argument("provider")
@because_option
@asks_server
@json_option
def drain(server: Server, provider: str, because: str, as_json: bool) -> None:
    """
    Move all streams away from a provider and give it none.

    They move one after the other, as fast as the others accept them, without a gap.

    \b
    Examples:
      hitless drain agora --because "their maintenance at 02:00"
      hitless streams --provider agora        what is still there
      hitless undrain agora
    """
    _drained(server, provider, True, because, as_json=as_json)


@click.command()
@click.argument("provider")
@because_option
@asks_server
@json_option
def undrain(server: Server, provider: str, because: str, as_json: bool) -> None:
    """
    Let a drained provider have streams again.

    \b
    Examples:
      hitless undrain agora --because "maintenance is over"
    """
    _drained(server, provider, False, because, as_json=as_json)


def _drained(server: Server, name: str, is_drained: bool, because: str, *, as_json: bool) -> None:
    changed(server, name, ProviderChange(is_drained=is_drained), because, needs=Needs.OPERATOR)
    now = one_provider(server, name)  # its load is not in the answer to a change
    if as_json:
        emit_json(msgspec.to_builtins(now))
        return
    if not is_drained:
        click.echo(f"{name} can have streams again")
        return
    left = "no stream is on it"
    if now.streams:
        verb = "leaves" if now.streams == 1 else "leave"
        left = f"{count(now.streams, 'stream')} {verb} it: see `hitless streams --provider {name}`"
    click.echo(f"{name} is drained: it gets nothing new, and {left}")


@click.command()
@click.argument("provider", required=False)
@asks_server
@json_option
@click.pass_context
def check(ctx: click.Context, server: Server, provider: str | None, as_json: bool) -> None:
    """
    Check one provider now, or all of them.

    The server asks each at the deepest level that it allows. "unknown": the server's own machine
    was at fault, which says nothing of the provider. Exit status 1 unless all are well.

    \b
    Examples:
      hitless check
      hitless check agora --json
    """
    found = server.ask(
        list[Checked],
        "POST",
        "/v1/admin/check",
        needs=Needs.OPERATOR,
        body={"provider": provider or ""},
        limit_s=FLEET_S_MAX,
    )
    if as_json:
        emit_json(msgspec.to_builtins(found))
    elif not found:
        click.echo("no provider to check: add one with `hitless providers add`", err=True)
    else:
        table(
            ("provider", "level", "result", "took", "because"),
            (
                (
                    f"{one.provider} {one.region}".rstrip(),
                    one.level or "-",
                    "well" if one.ok else "unknown" if one.is_ours else "FAILED",
                    "-" if one.latency_s is None else f"{one.latency_s:.3f} s",
                    one.because or "-",
                )
                for one in found
            ),
        )
    if not all(one.ok for one in found):
        ctx.exit(FAILED)


# --- Settings ---


@click.command()
@because_option
@asks_server
@json_option
def freeze(server: Server, because: str, as_json: bool) -> None:
    """
    Stop all automatic moves of streams that have media.

    It holds on every node within two seconds. Streams that are dark still move, and so does what
    an operator moves.

    \b
    Examples:
      hitless freeze --because "we look at it by hand"
      hitless thaw
    """
    now = _set(server, SettingsChange(is_frozen=True, because=because), Needs.OPERATOR)
    if as_json:
        emit_json(msgspec.to_builtins(now))
        return
    click.echo("automatic moves are frozen: `hitless thaw` ends it")


@click.command()
@because_option
@asks_server
@json_option
def thaw(server: Server, because: str, as_json: bool) -> None:
    """
    Let automatic moves go on after a freeze.

    \b
    Examples:
      hitless thaw --because "it was the probe"
    """
    now = _set(server, SettingsChange(is_frozen=False, because=because), Needs.OPERATOR)
    if as_json:
        emit_json(msgspec.to_builtins(now))
        return
    click.echo("automatic moves go on")


@click.command()
@click.option(
    "--mode", type=click.Choice(["act", "observe"]), help="Act, or decide and only tell."
)
@click.option("--share", type=click.IntRange(0, 100), help="Percent of streams it may act on.")
@because_option
@asks_server
@json_option
def settings(
    server: Server, mode: str | None, share: int | None, because: str, as_json: bool
) -> None:
    """
    Show what holds for the whole server, or change it.

    Changes need an owner's key. `--mode observe` decides and tells, and does nothing.

    \b
    Examples:
      hitless settings
      hitless settings --mode observe --because "first week"
      hitless settings --mode act --share 10
    """
    if mode is None and share is None:
        now = server.ask(Settings, "GET", "/v1/admin/settings")
    else:
        said = msgspec.convert({"mode": mode, "share": share, "because": because}, SettingsChange)
        now = _set(server, said, Needs.OWNER)
    if as_json:
        emit_json(msgspec.to_builtins(now))
        return
    facts(
        (
            ("automatic moves", "frozen" if now.is_frozen else "go on"),
            ("mode", now.mode),
            ("share", f"{now.share} %"),
            ("default provider", now.default_provider or "by priority"),
        )
    )


def _set(server: Server, what: SettingsChange, needs: Needs) -> Settings:
    said = {k: v for k, v in msgspec.structs.asdict(what).items() if v is not None}
    return server.ask(Settings, "PATCH", "/v1/admin/settings", needs=needs, body=said)

"""`hitless streams`, `switch` and `end`: what is on, and where."""

from __future__ import annotations

from typing import Final

import click
import msgspec

from ..client.stream_id import check_stream_id
from ..server.wire import Move, Moved, Nothing, Stream, StreamList
from .calls import (
    FLEET_S_MAX,
    CallFailed,
    Needs,
    Server,
    asks_server,
    because_option,
    confirm,
    yes_option,
)
from .output import emit_json, json_option
from .providers import one_provider
from .words import ago, count, facts, say, table


PAGE: Final = 1000


def one_stream(server: Server, stream: str) -> Stream:
    """
    Return one stream.

    Raises:
        NotThere: The server knows none of that name.
    """
    return server.ask(Stream, "GET", "/v1/stream", query={"stream": stream})


def some_streams(
    server: Server, *, limit: int, provider: str | None = None, ended: bool = False
) -> tuple[list[Stream], bool]:
    """Return at most so many streams by id, and whether there are more."""
    found: list[Stream] = []
    after: str | None = None
    while len(found) <= limit:
        page = server.ask(
            StreamList,
            "GET",
            "/v1/streams",
            query={"provider": provider, "ended": ended, "after": after, "limit": PAGE},
        )
        found += page.streams
        if not page.next or page.next == after:
            break
        after = page.next
    return found[:limit], len(found) > limit


@click.command()
@click.argument("stream", required=False)
@click.option("--provider", metavar="NAME", help="Only those on this provider.")
@click.option("--ended", is_flag=True, help="Those that are over, in place of those that are on.")
@click.option(
    "--limit", default=1000, show_default=True, type=click.IntRange(1, 100_000), help="Most rows."
)
@asks_server
@json_option
@click.pass_context
def streams(
    ctx: click.Context,
    server: Server,
    stream: str | None,
    provider: str | None,
    ended: bool,
    limit: int,
    as_json: bool,
) -> None:
    """
    Show the streams of a running server, or one of them.

    \b
    Examples:
      hitless streams
      hitless streams --provider agora
      hitless streams morning-show
      hitless streams --ended --json
    """
    if stream is not None:
        if provider is not None or ended:
            raise click.UsageError("give a STREAM, or --provider and --ended", ctx=ctx)
        check_stream_id(stream)
        one = one_stream(server, stream)
        if as_json:
            emit_json(msgspec.to_builtins(one))
        else:
            facts(_described(one))
        return
    found, is_cut = some_streams(server, limit=limit, provider=provider, ended=ended)
    if provider is not None and not found:
        one_provider(server, provider)  # a name that is not there is no empty provider
    if as_json:
        emit_json(msgspec.to_builtins(found))
    elif not found:
        where = f" on {provider}" if provider else "" if ended else " on"
        click.echo(f"no stream {'has ended' if ended else 'is'}{where}", err=True)
    else:
        head = ("stream", "state", "provider", "media", "viewers", "epoch", "since", "because")
        table(head, map(_row, found))
    if is_cut:
        click.echo(f"there are more than {limit}: raise --limit, or give --provider", err=True)


@click.command()
@click.argument("stream", required=False)
@click.argument("provider", required=False)
@click.option("--from", "source", metavar="NAME", help="Move the streams of this provider.")
@click.option("--to", "target", metavar="NAME", help="Where they go; else the best for each.")
@click.option(
    "--share",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0, 1, min_open=True),
    help="Of the streams of --from, so much.",
)
@yes_option
@because_option
@asks_server
@json_option
@click.pass_context
def switch(
    ctx: click.Context,
    server: Server,
    stream: str | None,
    provider: str | None,
    source: str | None,
    target: str | None,
    share: float,
    yes: bool,
    because: str,
    as_json: bool,
) -> None:
    """
    Move one stream, or those of a provider.

    The new leg carries media before the old one is closed. Without a PROVIDER or --to, the best
    one that is left is chosen. A move that would leave too many viewers behind is refused, with
    the number.

    \b
    Examples:
      hitless switch morning-show zegocloud --because "viewers see blocks"
      hitless switch morning-show
      hitless switch --from agora --to zegocloud --share 0.5
      hitless switch --from agora --yes
    """
    if (stream is None) == (source is None):
        raise click.UsageError("give a STREAM, or --from NAME", ctx=ctx)
    if stream is not None:
        if target is not None or share != 1.0:
            raise click.UsageError("--to and --share go with --from", ctx=ctx)
        check_stream_id(stream)
        moved = _move(server, Move(stream=stream, provider=provider or "", because=because))
        now = one_stream(server, stream)
        if as_json:
            emit_json(msgspec.to_builtins(moved))
        else:
            say(f"{stream} moves to {now.provider} (epoch {now.epoch})")
        return
    assert source is not None  # one of the two is given
    before = one_provider(server, source)
    if target is not None:
        one_provider(server, target)
    part = "the streams" if share == 1.0 else f"{100 * share:g} % of the streams"
    where = f" to {target}" if target else ""
    confirm(f"Move {part} of {source} ({before.streams} now){where}?", is_sure=yes)
    moved = _move(server, Move(source=source, provider=target or "", share=share, because=because))
    if as_json:
        emit_json(msgspec.to_builtins(moved))
    elif moved.moved or moved.stayed:
        verb = "moves" if moved.moved == 1 else "move"
        many = count(moved.moved, "stream")
        say(f"{many} of {source} {verb}, {moved.stayed} stay: {moved.because}")
    else:
        click.echo(f"no stream is on {source}")
    if share == 1.0 and moved.stayed and not moved.moved:
        raise CallFailed("none can move: see `hitless providers` for who could take them")


@click.command()
@click.argument("stream")
@because_option
@asks_server
@json_option
def end(server: Server, stream: str, because: str, as_json: bool) -> None:
    """
    End anybody's stream; its publisher and its viewers are told.

    \b
    Examples:
      hitless end morning-show --because "asked for by the owner"
    """
    check_stream_id(stream)
    body = {"stream": stream, "because": because}
    server.ask(Nothing, "POST", "/v1/admin/end", needs=Needs.OPERATOR, body=body)
    if as_json:
        emit_json({"stream": stream, "state": "ended"})
        return
    click.echo(f"{stream} was ended")


# --- Inside ---


def _move(server: Server, what: Move) -> Moved:
    return server.ask(
        Moved,
        "POST",
        "/v1/admin/move",
        needs=Needs.OPERATOR,
        body=what,
        limit_s=FLEET_S_MAX,
    )


def _row(one: Stream) -> tuple[object, ...]:
    return (
        one.stream,
        one.state,
        one.provider,
        "flows" if one.is_carried else "none yet" if one.state != "ended" else "-",
        one.viewers,
        one.epoch,
        ago(one.changed_ago_s),
        one.because or "-",
    )


def _described(one: Stream) -> list[tuple[str, object]]:
    _, state, provider, media, viewers, epoch, since, because = _row(one)
    return [
        ("stream", one.stream),
        ("state", state),
        ("provider", f"{provider} (epoch {epoch}), since {since}"),
        ("because", because),
        ("media", media),
        ("viewers", viewers),
        ("group", one.group or "-"),
        ("rescue", one.rescue or "-"),
    ]

"""`hitless usage` and `hitless history`: what a running server measured."""

from __future__ import annotations

import re

import click
import msgspec

from ..server.wire import Moment, Usage
from .calls import Server, asks_server
from .output import emit_json, json_option
from .words import duration, moment, table


def _month(_: click.Context, __: click.Parameter, value: str) -> str:
    if value and re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", value, re.ASCII) is None:
        raise click.BadParameter(f"{value!r} is no month: write 2026-11")
    return value


@click.command()
@click.option(
    "--month",
    default="",
    callback=_month,
    metavar="YYYY-MM",
    help="Of UTC; else the current one.",
)
@asks_server
@json_option
def usage(server: Server, month: str, as_json: bool) -> None:
    """
    Show what providers carried in a month, and what it costs.

    GB (10^9 bytes) are what clients report that they sent to the provider and received from it.
    A price is set with `hitless providers change NAME --price per_minute=0.004 ...`, or per_gb,
    or both: then both are paid.

    \b
    Examples:
      hitless usage
      hitless usage --month 2026-10 --json
    """
    found = server.ask(list[Usage], "GET", "/v1/admin/usage", query={"month": month})
    if as_json:
        emit_json(msgspec.to_builtins(found))
        return
    rows = (
        (
            one.provider,
            f"{one.publisher_minutes:.1f}",
            f"{one.viewer_minutes:.1f}",
            str(one.streams),
            f"{one.sent_gb:.3f}",
            f"{one.received_gb:.3f}",
            "-" if one.cost is None else f"{one.cost:.2f} {one.currency}".rstrip(),
            one.because,
        )
        for one in found
    )
    titles = ("provider", "publisher min", "viewer min", "streams", "sent GB", "received GB")
    table((*titles, "cost", "because"), rows)


@click.command()
@click.argument("provider")
@click.option("--since", type=duration, default="1h", show_default=True, metavar="TIME",
              help="How far back: 30m, 6h, 7d.")  # fmt: skip
@click.option("--hours", is_flag=True, help="By hour; else by minute.")
@asks_server
@json_option
def history(server: Server, provider: str, since: float, hours: bool, as_json: bool) -> None:
    """
    Show how a provider did, by minute or hour.

    Up is the verdict, in which media that reach clients outweigh probes. Errors are the share of
    probes, starts and joins that failed; so both may be high. Minutes are kept for two days,
    hours for 400.

    \b
    Examples:
      hitless history agora
      hitless history agora --hours --since 30d --json
    """
    query = {"provider": provider, "step": "hour" if hours else "minute", "since": since}
    found = server.ask(list[Moment], "GET", "/v1/admin/history", query=query)
    if as_json:
        emit_json(msgspec.to_builtins(found))
    elif not found:
        click.echo("nothing was measured in this time", err=True)
    else:
        rows = (
            (
                moment(one.at_s),
                _percent(one.uptime),
                _percent(one.error_rate),
                "-" if one.latency_s is None else f"{one.latency_s:.3f} s",
                f"{one.streams:.1f}",
                f"{one.viewers:.1f}",
            )
            for one in found
        )
        table(("when", "up", "errors", "latency", "streams", "viewers"), rows)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"

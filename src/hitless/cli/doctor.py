"""`hitless doctor`: can this machine use its providers, and if not, why not?"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator
from typing import Any, Final

import click

from ..client.assembly import make_provider
from ..client.config import Config, ProviderTable
from ..client.doctor import examine
from ..errors import ConfigError
from ..providers.base import Provider
from ..providers.checkup import Finding, Verdict
from ..providers.clock import wall_s
from .output import FAILED, Invocation, emit_json, json_option, pass_invocation


_COLOURS: Final = {
    Verdict.GOOD: "green",
    Verdict.WARNING: "yellow",
    Verdict.BAD: "red",
    Verdict.LEFT_OUT: None,
}


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME...]")
@click.option("--no-media", is_flag=True, help="Publish and watch nothing: ask only.")
@json_option
@pass_invocation
@click.pass_context
def doctor(
    ctx: click.Context,
    invocation: Invocation,
    names: tuple[str, ...],
    no_media: bool,
    as_json: bool,
) -> None:
    """
    Check step by step whether providers can be used from here.

    For each provider of the configuration, or those named: its options and secrets, its name and
    certificate, the clock, its control API and credential, and at last a stream of seconds that
    is published and watched. What is wrong comes with what to do about it. Exit status 1 if
    anything is bad.

    \b
    Examples:
      hitless doctor
      hitless doctor agora --config /etc/hitless.toml
      hitless doctor --no-media --json
    """
    loaded = invocation.config()
    tables = [configured(loaded, name) for name in names] or list(loaded.providers)
    if not tables:
        raise ConfigError(
            "no provider is configured: add a [[provider]] table with a name to hitless.toml"
        )
    found = asyncio.run(_examine_all(tables, loaded, media=not no_media, quiet=as_json))
    if as_json:
        emit_json(found)
    if any(one["verdict"] is Verdict.BAD for one in found):
        ctx.exit(FAILED)


async def _examine_all(
    tables: list[ProviderTable], loaded: Config, *, media: bool, quiet: bool
) -> list[dict[str, Any]]:
    rows = []
    for table in tables:
        if not quiet:
            click.echo(click.style(f"{table.name} (adapter {table.adapter})", bold=True))
        async for finding in examined(table, loaded, media=media):
            rows.append(
                {
                    "provider": table.name,
                    "step": finding.step,
                    "verdict": finding.verdict,
                    "says": finding.says,
                    "fix": finding.fix,
                }
            )
            if not quiet:
                tell(finding)
    return rows


async def examined(table: ProviderTable, loaded: Config, *, media: bool) -> AsyncIterator[Finding]:
    """Yield what is found of one provider, as it is found; the last is about media."""
    try:
        provider = make_provider(table, loaded, os.environ)
    except ConfigError as exc:
        fix = "correct it in the configuration; `hitless config` shows every key"
        yield Finding(step="configuration", verdict=Verdict.BAD, says=str(exc), fix=fix)
        return
    try:
        yield Finding(step="configuration", verdict=Verdict.GOOD, says="options and secrets fit")
        is_usable = True
        async for finding in examine(provider, wall_s=wall_s):
            is_usable &= finding.verdict is not Verdict.BAD
            yield finding
        if not media:
            yield Finding(step="media", verdict=Verdict.LEFT_OUT, says="by --no-media")
        elif not is_usable:
            says = "what is bad above would only be told again"
            yield Finding(step="media", verdict=Verdict.LEFT_OUT, says=says)
        else:
            yield await _canary(provider)
    finally:
        await provider.aclose()


async def _canary(provider: Provider) -> Finding:
    from ..server.canary import Canary  # here: the media libraries take a second

    canary = Canary(provider, rng=random.Random())
    try:
        ended = await canary.run()
    finally:
        await canary.aclose()
    if not ended.probe.ok:
        if ended.probe.own_trouble:
            fix = f"look at this machine, or try `hitless conformance {provider.name}`"
        elif ended.publish_s is None:
            fix = "check its address and its credential: `hitless config` says where each is from"
        else:
            fix = "check the address and the credential that viewers use"
        return Finding(step="media", verdict=Verdict.BAD, says=ended.probe.because, fix=fix)
    if ended.first_media_s is None:
        says = f"published within {ended.publish_s or 0.0:.2f} s; it cannot be watched from here"
        return Finding(step="media", verdict=Verdict.WARNING, says=says)
    says = (
        f"published within {ended.publish_s or 0.0:.2f} s, watched {ended.first_media_s:.2f} s "
        f"after joining, {ended.latency_s or 0.0:.2f} s late, {ended.loss or 0.0:.1%} lost"
    )
    return Finding(step="media", verdict=Verdict.GOOD, says=says)


def configured(loaded: Config, name: str) -> ProviderTable:
    """
    Return a provider's table.

    Raises:
        ConfigError: None of that name is configured; says which are.
    """
    for table in loaded.providers:
        if table.name == name:
            return table
    known = ", ".join(table.name for table in loaded.providers) or "none"
    raise ConfigError(f"no provider called {name!r} is configured; there are: {known}")


def tell(finding: Finding) -> None:
    """Write one finding."""
    verdict = click.style(f"{finding.verdict.value:<9}", fg=_COLOURS[finding.verdict])
    click.echo(f"  {verdict} {finding.step:<13}  {finding.says}")
    if finding.fix:
        click.echo(f"{'':27}{finding.fix}")

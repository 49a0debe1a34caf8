"""`hitless conformance`: is it a provider?"""

from __future__ import annotations

import asyncio
import os
from dataclasses import asdict

import click

from ..client.assembly import make_provider
from ..client.config import Config, ProviderTable
from ..providers.base import Provider
from ..providers.conformance import RULES, Finding, check_provider
from .output import FAILED, Invocation, emit_json, json_option, pass_invocation


@click.command()
@click.argument("name")
@json_option
@pass_invocation
@click.pass_context
def conformance(ctx: click.Context, invocation: Invocation, name: str, as_json: bool) -> None:
    """
    Check a provider against the contract.

    NAME is a provider of the configuration, or an adapter that needs none. Real streams are
    published and watched, under names that nobody else uses.

    \b
    Examples:
      hitless conformance memory
      hitless conformance agora --config /etc/hitless.toml
      hitless conformance agora --json
    """
    loaded = invocation.config()
    table = _table(loaded, name)

    async def make() -> Provider:
        return make_provider(table, loaded, os.environ)

    report = asyncio.run(check_provider(make))
    if as_json:
        emit_json({"passed": report.passed, **asdict(report)})
    else:
        for finding in report.findings:
            click.echo(_line(finding))
        kept = sum(finding.is_kept for finding in report.findings)
        click.echo(f"{name}: {kept} of {len(RULES)} rules kept")
        if kept < len(report.findings) < len(RULES):
            click.echo(
                f"the rest was not tried: `hitless doctor {name}` looks for the cause", err=True
            )
    if not report.passed:
        ctx.exit(FAILED)


def _line(finding: Finding) -> str:
    verdict = (
        click.style("ok    ", fg="green") if finding.is_kept else click.style("BROKEN", fg="red")
    )
    seen = "" if finding.is_kept else f": {finding.because}"
    return f"{verdict} {finding.rule:<4} {finding.says}{seen}"


def _table(loaded: Config, name: str) -> ProviderTable:
    for table in loaded.providers:
        if table.name == name:
            return table
    return ProviderTable(name=name, adapter=name, priority=1)

"""`hitless prove`: the whole list against a real account, and the record to add."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final

import click

from ..client.assembly import make_provider
from ..client.config import Config, ProviderTable
from ..providers.base import Provider
from ..providers.checkup import Finding, Verdict
from ..providers.clock import wall_s
from ..providers.conformance import RULES, check_provider
from ..providers.record import record_of
from .doctor import configured, examined, tell
from .output import FAILED, Invocation, emit_json, json_option, pass_invocation
from .prove_publishers import two_publishers


RUN: Final = ("contract", "publishers", "leaving")
"""Steps beyond those of `hitless doctor`, in the order of the record."""

_SERVER_MAX: Final = 100


@click.command()
@click.argument("name")
@click.option(
    "--server",
    metavar="TEXT",
    help="Name and version of the other side, for the record; else the adapter's title.",
)
@click.option("--transcodes", is_flag=True, help="It encodes anew: frames need not match.")
@json_option
@pass_invocation
@click.pass_context
def prove(
    ctx: click.Context,
    invocation: Invocation,
    name: str,
    server: str | None,
    transcodes: bool,
    as_json: bool,
) -> None:
    """
    Run the whole list against a real account; print the record.

    All that `hitless doctor` does, then every rule of the contract with real streams, under names
    that nobody else uses, and at last two publishers of one stream. Where it cannot be watched
    from here, the rules about viewers are left out, and the record says so. It takes a minute or
    two and as many minutes of media as the provider bills. The record says what was run, against
    what, and when; it is printed only if nothing failed.

    \b
    Examples:
      hitless prove agora --config agora.toml
      hitless prove webrtc --server "MediaMTX 1.9"
      hitless prove janus --json
    """
    loaded = invocation.config()
    table = configured(loaded, name)
    title = (server or "").strip()[:_SERVER_MAX] or _title(table.adapter)
    found = asyncio.run(_prove(table, loaded, transcodes=transcodes, quiet=as_json))
    is_proven = all(one.verdict is not Verdict.BAD for one in found)
    day = datetime.fromtimestamp(wall_s(), UTC).date().isoformat()
    seen = next((one.says for one in found if one.step == "media"), "")
    ran = [one.says for one in found if one.step in RUN]
    what = "; ".join([*ran[:1], seen, *ran[1:]])
    proof = {"server": f"{title}, {day}", "what": what} if is_proven else None
    if as_json:
        emit_json({"provider": name, "proven": is_proven, "record": proof, "findings": found})
    elif proof is not None:
        click.echo(f"\nProven. Add this to the record of the adapter {table.adapter}:\n")
        click.echo(f"Proof(\n    server={proof['server']!r},\n    what={proof['what']!r},")
        if len(ways := _ways(table.adapter)) > 1:
            click.echo(f"    paths={ways!r},  # keep what it was run on")
        click.echo("),")
    else:
        click.echo("\nNot proven: see what is bad above.")
    if not is_proven:
        ctx.exit(FAILED)


async def _prove(
    table: ProviderTable, loaded: Config, *, transcodes: bool, quiet: bool
) -> list[Finding]:
    found = []
    async for finding in examined(table, loaded, media=True):
        found.append(finding)
        if not quiet:
            tell(finding)
    if any(one.verdict is Verdict.BAD for one in found):
        return found

    # What `hitless doctor` found out: only a stream that cannot be watched is worth a warning.
    is_seen = all(one.verdict is Verdict.GOOD for one in found if one.step == "media")

    async def make() -> Provider:
        return make_provider(table, loaded, os.environ)

    def note(finding: Finding) -> None:
        found.append(finding)
        if not quiet:
            tell(finding)

    stream = f"hitless-prove-{secrets.token_hex(4)}"
    note(await _contract(make, stream, transcodes=transcodes, views=is_seen))
    if found[-1].verdict is not Verdict.BAD:
        async for finding in two_publishers(make, f"{stream}-two"):
            note(finding)
    return found


async def _contract(
    make: Callable[[], Awaitable[Provider]], stream: str, *, transcodes: bool, views: bool
) -> Finding:
    report = await check_provider(make, stream=stream, carries_frames=not transcodes, views=views)
    kept = sum(one.is_kept for one in report.findings)
    broken = "; ".join(f"{one.rule}: {one.because}" for one in report.findings if not one.is_kept)
    says = f"{kept} of {len(RULES)} rules kept"
    if report.left_out:
        says += f", {len(report.left_out)} about viewers not tried"
    is_anew = any(one.rule == "C5" and not one.is_kept for one in report.findings)
    return Finding(
        step="contract",
        verdict=Verdict.GOOD if report.passed else Verdict.BAD,
        says=says + (f": {broken}" if broken else ""),
        fix="if it encodes anew, say --transcodes" if is_anew else "",
    )


def _ways(adapter: str) -> tuple[str, ...]:
    """Return the paths of an adapter that a proof may be of: it is of what was configured."""
    record = record_of(adapter)
    return () if record is None else tuple(one.name for one in record.paths if one.from_python)


def _title(adapter: str) -> str:
    record = record_of(adapter)
    return record.title if record is not None else adapter

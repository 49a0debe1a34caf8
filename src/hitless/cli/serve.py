"""`hitless serve`: run the control plane."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import ConfigError
from .output import Invocation, pass_invocation


if TYPE_CHECKING:
    from ..server.node import Node, NodeConfig
    from ..server.serve import Address


@click.command()
@click.option(
    "--listen",
    default=None,
    metavar="HOST:PORT",
    help="Where to listen, else server.listen (127.0.0.1:8080); port 0: any free one.",
)
@click.option(
    "--database",
    default=None,
    envvar="HITLESS_DATABASE_URL",
    show_envvar=True,
    metavar="FILE|URL",
    help="A file for SQLite (else hitless.db), or postgresql://... for several nodes.",
)
@click.option("--name", default=None, help="Name of this node; else the machine's.")
@click.option("--open-list", is_flag=True, help="Give the list of providers without a key.")
@click.option("--certificate", type=click.Path(path_type=Path, exists=True), help="For TLS, PEM.")
@click.option("--private-key", type=click.Path(path_type=Path, exists=True), help="For TLS, PEM.")
@click.option("--behind-proxy", is_flag=True, help="Something in front of it does TLS.")
@click.option("--new-keys", is_flag=True, help="Print a new set of keys and exit.")
@click.option("--check", "only_check", is_flag=True, help="Check everything, say so, and exit.")
@click.option("--ready-json", is_flag=True, help="Say when it serves, as a line of JSON.")
@pass_invocation
def serve(
    invocation: Invocation,
    listen: str | None,
    database: str | None,
    name: str | None,
    open_list: bool,
    certificate: Path | None,
    private_key: Path | None,
    behind_proxy: bool,
    new_keys: bool,
    only_check: bool,
    ready_json: bool,
) -> None:
    """
    Run the control plane.

    It serves the list of providers and their health, gives plans with credentials, tells
    publishers and viewers where streams go, and lets operators move them. The first start makes
    keys beside the database if none are configured.

    \b
    Examples:
      hitless serve                                   SQLite here, on 127.0.0.1:8080
      hitless serve --new-keys                        keys for the environment
      hitless serve --check                           what it would run with
      HITLESS_DATABASE_URL=postgresql://hitless@db/hitless hitless serve --name node-1
    """
    try:
        from ..core.rails import Rails
        from ..server import serve as serving
        from ..server.addresses import parse_allowed
        from ..server.node import NodeConfig
    except ModuleNotFoundError as exc:
        raise ConfigError(
            f"the server needs {exc.name}: install it with pip install 'hitless[server]'"
        ) from exc
    from ..server.clock import wall_s

    if new_keys:
        for variable, value in serving.new_keys(wall_s()).items():
            click.echo(f"{variable}={value}")
        return
    loaded = invocation.config()
    table = loaded.server
    if database is None:
        database = table.database.read(os.environ) if table.database else "hitless.db"
    host, port = serving.parse_address(listen or table.listen)
    address = serving.Address(
        host=host,
        port=port,
        certificate=certificate,
        private_key=private_key,
        is_behind_proxy=behind_proxy,
        proxies=table.proxies,
    )
    address.check()
    environ, made = serving.keys_beside(database, os.environ)
    if made is not None:
        click.echo(
            f"made keys in {made}: keep this file with the database; the owner's key is in it",
            err=True,
        )
    config = NodeConfig(
        database=database,
        name=name or table.name or socket.gethostname(),
        is_open=open_list or table.open_list,
        report_s=table.report_s,
        rules=loaded.rules,
        rails=Rails(share_per_minute=table.move_share_per_minute),
        allow_private=parse_allowed(table.allow_private.replace(",", " ").split()),
    )
    if only_check:
        asyncio.run(_check(config, address, environ))
        return
    serving.log_json()

    def ready(url: str, node: Node) -> None:
        if ready_json:
            said = {"name": "serve", "url": url, "pid": os.getpid(), "node": config.name}
            click.echo(json.dumps(said))
            sys.stdout.flush()
        else:
            count = len(node.providers.rows)
            more = "" if count else ": add one with `hitless providers add`"
            click.echo(f"serving on {url} with {count} providers{more} (Ctrl-C ends it)", err=True)

    asyncio.run(serving.serve(config, address, environ, ready))


async def _check(config: NodeConfig, address: Address, environ: dict[str, str]) -> None:
    """Open everything once and say what is there."""
    from ..server.node import opened

    async with opened(config, environ) as node:
        click.echo(f"listen     {address.host}:{address.port}")
        click.echo(f"database   {node.store.database.dialect}, its tables are up to date")
        click.echo(f"keys       {len(node.ring)} API keys; vault and plan keys are usable")
        rows = node.providers.rows.values()
        faulty = node.providers.faults
        for row in sorted(rows, key=lambda row: row.priority):
            state = faulty.get(row.name) or ("active" if row.is_active else "disabled")
            click.echo(f"provider   {row.name} ({row.adapter}): {state}")
        if not rows:
            click.echo("provider   none yet: add one with `hitless providers add`")
    if faulty:
        raise ConfigError(f"{', '.join(faulty)} cannot be used: give the secrets anew")

"""`hitless serve`: run the control plane."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import ssl
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
    _check_certificate(address)
    _check_database(database)
    if not only_check:  # which is for a server that runs as well
        _check_port(address)
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
        serving.log_json(logging.WARNING)  # what it says is for eyes
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


def _check_certificate(address: Address) -> None:
    """Refuse a certificate or key that cannot be used, before anything is opened."""
    if address.certificate is None or address.private_key is None:
        return
    try:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(address.certificate, address.private_key, password="")
    except OSError as exc:  # ssl.SSLError is one
        raise ConfigError(
            f"{address.certificate} and {address.private_key} cannot be used: give a PEM "
            "certificate and its private key, without a password"
        ) from exc


def _check_database(database: str) -> None:
    """Refuse what can be no database, before keys are made beside it; never quotes a URL."""
    path = Path(database.removeprefix("sqlite:///"))
    if database.startswith(("postgresql://", "postgres://")):
        return
    if "://" in database.removeprefix("sqlite:///"):
        raise ConfigError("no such kind of database: give a file, or postgresql://user@host/name")
    if path.is_dir():
        raise ConfigError(f"the database {path} is a folder: give a file in it")
    if not path.parent.is_dir():
        raise ConfigError(f"there is no folder {path.parent} for the database: make it first")


def _check_port(address: Address) -> None:
    """Refuse an address that cannot be had, before anything is opened."""
    try:
        found = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, kind, protocol, _, place = found[0]
        with socket.socket(family, kind, protocol) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(place)
    except OSError as exc:
        raise ConfigError(
            f"cannot listen on {address.host}:{address.port}: {exc.strerror}; give another "
            "address or port with --listen"
        ) from exc


async def _check(config: NodeConfig, address: Address, environ: dict[str, str]) -> None:
    """Open everything once and say what is there."""
    from ..server.node import opened
    from ..server.own_control import ask_all

    async with opened(config, environ) as node:
        click.echo(f"listen     {address.host}:{address.port}")
        click.echo(f"database   {node.store.database.dialect}, its tables are up to date")
        click.echo(f"keys       {len(node.ring)} API keys; vault and plan keys are usable")
        rows = node.providers.rows.values()
        faulty = node.providers.faults
        asked = await ask_all(
            (row for row in rows if row.is_active and row.name not in faulty),
            node.providers.secrets,
            allow_private=config.allow_private,
        )
        for row in sorted(rows, key=lambda row: row.priority):
            state = faulty.get(row.name) or ("active" if row.is_active else "disabled")
            if (answer := asked.get(row.name)) is not None:
                state += f"; {answer.because}" if answer.ok else f", but {answer.because}"
            click.echo(f"provider   {row.name} ({row.adapter}): {state}")
        if not rows:
            click.echo("provider   none yet: add one with `hitless providers add`")
    if faulty:
        raise ConfigError(
            f"{', '.join(faulty)} cannot be used: give the secrets anew, or the "
            "key that sealed them in HITLESS_VAULT_KEY"
        )

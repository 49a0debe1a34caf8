"""`hitless keys`: who may ask a running server what."""

from __future__ import annotations

from typing import Final

import click
import msgspec

from ..server.wire import KeyShown, Nothing, Resealed
from .calls import Needs, Server, asks_server, because_option, segment
from .output import FAILED, emit_json, json_option
from .words import duration, moment, table


ROLES: Final = ("client", "publisher", "viewer-client", "viewer", "operator", "owner")
"""As the server has them (`server/keys.py`, which needs the extra `server`)."""

_PATH: Final = "/v1/admin/keys"


@click.group(invoke_without_command=True)
@asks_server
@json_option
@click.pass_context
def keys(ctx: click.Context, server: Server, as_json: bool) -> None:
    """
    Show the keys of a running server, make or revoke one.

    Needs an owner's key. Those that the server has from its environment are not in the list.

    \b
    Examples:
      hitless keys
      hitless keys add operator --name night-shift --life 30d
      hitless keys revoke 3f9c1b2a4d5e6f70
    """
    if ctx.invoked_subcommand is not None:
        return
    found = server.ask(list[KeyShown], "GET", _PATH, needs=Needs.OWNER)
    if as_json:
        emit_json([_shown(one) for one in found])
        return
    if not found:
        click.echo("no key yet: make one with `hitless keys add`", err=True)
        return
    table(
        ("key", "role", "name", "scope", "made", "ends"),
        (
            (one.id, one.role, one.name or "-", one.scope or "-", moment(one.made_s), _ends(one))
            for one in found
        ),
    )


@keys.command(short_help="Make a key.")
@click.argument("role", type=click.Choice(ROLES))
@click.option("--scope", metavar="STREAM", help="The one stream it is for; a publisher's must.")
@click.option("--name", default="", help="What to call it, in the list and in logs.")
@click.option(
    "--life", type=duration, metavar="TIME", help="How long it lives: 12h, 30d; else for ever."
)
@because_option
@asks_server
@json_option
def add(
    server: Server,
    role: str,
    scope: str | None,
    name: str,
    life: float | None,
    because: str,
    as_json: bool,
) -> None:
    """
    Make a key and write it to standard output, this once.

    client: an app's own server, any stream, both ends. publisher: the publisher of one stream.
    viewer-client: viewers of one stream, or of all. viewer: sees what operators see. operator:
    moves, drains, freezes. owner: everything about the server.

    \b
    Examples:
      hitless keys add client --name app > client.key
      hitless keys add publisher --scope morning-show --life 12h
      hitless keys add operator --name night-shift --life 30d --because "new on duty"
    """
    body = {"role": role, "scope": scope, "name": name, "life_s": life}
    made = server.ask(
        KeyShown, "POST", _PATH, needs=Needs.OWNER, query={"because": because or None}, body=body
    )
    if as_json:
        emit_json(msgspec.to_builtins(made))
        return
    ends = "for ever" if made.expires_s is None else f"until {moment(made.expires_s)}"
    click.echo(
        f"made the {role} key {made.id}, good {ends}: keep it, it is not shown again", err=True
    )
    click.echo(made.key)


@keys.command(short_help="Revoke a key for good.")
@click.argument("key", metavar="ID")
@because_option
@asks_server
@json_option
def revoke(server: Server, key: str, because: str, as_json: bool) -> None:
    """
    Revoke a key for good; it counts at once on every node.

    ID is the middle part of a key, hk_ID_..., and is in the list.

    \b
    Examples:
      hitless keys revoke 3f9c1b2a4d5e6f70 --because "laptop lost"
    """
    path = f"{_PATH}/{segment(key)}"
    server.ask(Nothing, "DELETE", path, needs=Needs.OWNER, query={"because": because})
    if as_json:
        emit_json({"key": key, "is_revoked": True})
        return
    click.echo(f"{key} opens nothing any more")


@keys.command(short_help="Seal providers' secrets with the newest vault key.")
@because_option
@asks_server
@json_option
@click.pass_context
def reseal(ctx: click.Context, server: Server, because: str, as_json: bool) -> None:
    """
    Seal the secrets of all providers with the newest vault key.

    That is the first one in HITLESS_VAULT_KEY or its file; every node must have it by then. When
    this says so, the older ones can be taken away. May be repeated. Exit status 1 if a secret
    could not be opened: give it anew, with `hitless providers change`.

    \b
    Examples:
      hitless keys reseal --because "yearly rotation"
    """
    found = server.ask(
        Resealed, "POST", "/v1/admin/reseal", needs=Needs.OWNER, query={"because": because}
    )
    if as_json:
        emit_json(msgspec.to_builtins(found))
    else:
        for name, why in found.failed.items():
            click.echo(f"{name}: NOT sealed anew: {why}")
        for name in found.changed:
            click.echo(f"{name}: sealed anew")
        said = f"everything is sealed with key {found.key}: older ones can be taken away"
        if found.failed:
            said = "keep the older keys: not everything is sealed anew"
        click.echo(said, err=True)
    if found.failed:
        ctx.exit(FAILED)


def _shown(one: KeyShown) -> dict[str, object]:
    said = msgspec.structs.asdict(one)
    del said["key"]  # only ever in the answer that made it
    return said


def _ends(one: KeyShown) -> str:
    if one.revoked_s is not None:
        return f"revoked {moment(one.revoked_s)}"
    return "never" if one.expires_s is None else moment(one.expires_s)

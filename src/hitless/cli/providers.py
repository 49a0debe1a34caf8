"""`hitless providers`: where streams can go."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from ..client.keys import nearest
from ..client.secret import Secret, is_secret_name, secret_inside
from ..errors import ConfigError
from ..server.wire import Json, Nothing, ProviderChange, ProviderInFull, Settings
from .calls import (
    FLEET_S_MAX,
    Needs,
    Server,
    asks_server,
    because_option,
    confirm,
    segment,
    yes_option,
)
from .output import emit_json, json_option
from .provider_config import option_of
from .words import ago, count, facts, percent, table


_PATH: Final = "/v1/admin/providers"


def all_providers(server: Server) -> list[ProviderInFull]:
    """Return every provider, by priority."""
    return server.ask(list[ProviderInFull], "GET", _PATH)


def one_provider(server: Server, name: str) -> ProviderInFull:
    """
    Return one provider.

    Raises:
        ConfigError: There is none of that name.
    """
    known = {one.name: one for one in all_providers(server)}
    if name not in known:
        raise ConfigError(
            f"there is no provider {name!r}{nearest(name, known)} (see `hitless providers`)"
        )
    return known[name]


class _Providers(click.Group):
    """A group in which a word that is no command is a provider's name."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands:
            args = ["show", *args]
        return super().resolve_command(ctx, args)


@click.group(
    cls=_Providers, invoke_without_command=True, subcommand_metavar="[NAME | COMMAND ...]"
)
@asks_server
@json_option
@click.pass_context
def providers(ctx: click.Context, server: Server, as_json: bool) -> None:
    """
    Show the providers of a running server, or change them.

    With the NAME of a provider, everything about that one. Operators' commands need a key:
    HITLESS_KEY, or HITLESS_KEY_FILE, else the server's own HITLESS_VIEWER_KEY,
    HITLESS_OPERATOR_KEY or HITLESS_OWNER_KEY.

    \b
    Examples:
      hitless providers                       all of them
      hitless providers agora                 one of them, in full
      hitless providers --json
      hitless providers add agora --adapter whip --url https://live.example.com/whip/{stream}
      hitless providers change agora --priority 5
    """
    if ctx.invoked_subcommand is not None:
        return
    found = all_providers(server)
    if as_json:
        emit_json(msgspec.to_builtins(found))
        return
    if not found:
        click.echo("no provider yet: add one with `hitless providers add`", err=True)
        return
    settings = server.ask(Settings, "GET", "/v1/admin/settings")
    table(
        ("provider", "adapter", "priority", "state", "grade", "streams", "viewers", "because"),
        (
            (
                one.name,
                one.adapter,
                one.priority,
                _state(one, settings.default_provider),
                one.health.grade,
                one.streams,
                one.viewers,
                one.health.because or "-",
            )
            for one in found
        ),
    )


@providers.command(short_help="Show everything about one provider.")
@click.argument("name")
@asks_server
@json_option
@click.pass_context
def show(ctx: click.Context, server: Server, name: str, as_json: bool) -> None:
    """
    Show everything about one provider; of its secrets only the names.

    \b
    Examples:
      hitless providers show agora
      hitless providers show agora --json
    """
    found = one_provider(server, name)
    if as_json or (ctx.parent is not None and ctx.parent.params.get("as_json")):
        emit_json(msgspec.to_builtins(found))
        return
    settings = server.ask(Settings, "GET", "/v1/admin/settings")
    facts(_described(found, settings.default_provider))


# --- Changes ---


def _change_options(function: Any) -> Any:  # Any: click's decorators take any function
    for option in reversed(_CHANGES):
        function = option(function)
    return function


_CHANGES: Final = (
    click.option("--adapter", help="Which adapter speaks to it; else its name."),
    click.option("--url", help="The same as --config url=URL."),
    click.option("--view-url", help="The same as --config view_url=URL."),
    click.option(
        "--config",
        "config",
        multiple=True,
        metavar="KEY=VALUE",
        help="A public option of its adapter; `KEY=` takes it away.",
    ),
    click.option(
        "--secret-env",
        multiple=True,
        metavar="KEY=VARIABLE",
        help="A secret, from a variable of the environment.",
    ),
    click.option(
        "--secret-file", multiple=True, metavar="KEY=FILE", help="A secret, from a file."
    ),
    click.option("--no-secret", multiple=True, metavar="KEY", help="Take a secret away."),
    click.option("--priority", type=int, help="Lowest first."),
    click.option(
        "--default/--no-default", "is_default", default=None, help="Ask it first, or no more."
    ),
    click.option(
        "--active/--disable", "is_active", default=None, help="May streams use it, or not."
    ),
    click.option(
        "--weight", type=click.FloatRange(0), help="Its share of streams when many move at once."
    ),
    click.option(
        "--starts-per-s",
        type=click.FloatRange(0, min_open=True),
        help="How many starts a second it accepts.",
    ),
    click.option(
        "--price",
        multiple=True,
        metavar="KEY=VALUE",
        help="per_minute of a publisher or a viewer, per_gb, currency; all of them, or none.",
    ),
    click.option("--no-price", is_flag=True, help="Take its price away."),
)


@providers.command(short_help="Add a provider.")
@click.argument("name")
@_change_options
@because_option
@asks_server
@json_option
def add(server: Server, /, name: str, because: str, as_json: bool, **given: Any) -> None:
    """
    Add a provider. Needs an owner's key.

    Its `--config` is public: clients are given it. Secrets are sealed by the server and never
    shown again; they come from the environment or a file, so that no list of processes has them.

    \b
    Examples:
      hitless providers add agora --adapter whip --url https://live.example.com/whip/{stream}
      hitless providers add whip --url https://b.example.com/whip --secret-env token=B_TOKEN
    """
    change = _change(given, name, {}, ())
    if any(one.name == name for one in all_providers(server)):
        raise ConfigError(f"{name} is there already: use `hitless providers change {name}`")
    made = server.ask(
        ProviderInFull,
        "POST",
        f"{_PATH}/{segment(name)}",
        needs=Needs.OWNER,
        query={"because": because},
        body=change,
    )
    if as_json:
        emit_json(msgspec.to_builtins(made))
        return
    click.echo(
        f"{made.name} was added with priority {made.priority}: try `hitless check {made.name}`"
    )


@providers.command(short_help="Change a provider.")
@click.argument("name")
@_change_options
@because_option
@asks_server
@json_option
def change(server: Server, /, name: str, because: str, as_json: bool, **given: Any) -> None:
    """
    Change a provider; what is not said stays.

    Operators may change --priority, --default and --active; the rest needs an owner's key. When
    another provider is preferred by it, streams move there.

    \b
    Examples:
      hitless providers change agora --priority 5 --because "slow since noon"
      hitless providers change agora --disable
      hitless providers change agora --config first_media_s=6 --config region=
      hitless providers change agora --secret-file token=agora.token
    """
    before = one_provider(server, name)
    said = _change(given, before.adapter, before.config, before.secrets)
    if said == ProviderChange():
        raise click.UsageError("nothing to change was said", ctx=click.get_current_context())
    plain = ("is_active", "priority", "is_default")
    is_plain = all(getattr(said, f) is None for f in said.__struct_fields__ if f not in plain)
    after = changed(server, name, said, because, needs=Needs.OPERATOR if is_plain else Needs.OWNER)
    if as_json:
        emit_json(msgspec.to_builtins(after))
        return
    click.echo(f"{name} was changed")


@providers.command(short_help="Delete a provider.")
@click.argument("name")
@yes_option
@because_option
@asks_server
@json_option
def delete(server: Server, name: str, yes: bool, because: str, as_json: bool) -> None:
    """
    Delete a provider that carries nothing; drain it first. Needs an owner's key.

    \b
    Examples:
      hitless providers delete agora
      hitless providers delete agora --yes --because "contract ended"
    """
    confirm(f"Delete provider {name} and its secrets?", is_sure=yes)
    path = f"{_PATH}/{segment(name)}"
    server.ask(Nothing, "DELETE", path, needs=Needs.OWNER, query={"because": because})
    if as_json:
        emit_json({"provider": name, "is_deleted": True})
        return
    click.echo(f"{name} was deleted")


def changed(
    server: Server, name: str, change: ProviderChange, because: str, *, needs: Needs
) -> ProviderInFull:
    """Change a provider and return it."""
    said = {k: v for k, v in msgspec.structs.asdict(change).items() if v is not None}
    return server.ask(
        ProviderInFull,
        "PATCH",
        f"{_PATH}/{segment(name)}",
        needs=needs,
        query={"because": because},
        body=said,
        limit_s=FLEET_S_MAX,
    )


# --- Inside ---


def _change(
    given: Mapping[str, Any], adapter: str, before: Json, sealed: Collection[str]
) -> ProviderChange:
    """
    Return the change that the options mean.

    Args:
        given: The options.
        adapter: Which one speaks to it, if the options do not say another.
        before: The provider's configuration as it is.
        sealed: The names of the secrets that it has.

    Raises:
        ConfigError: An option makes no sense, or a secret cannot be read; never quotes one.
    """
    if given["no_price"] and given["price"]:
        raise ConfigError("give --price or --no-price, not both")
    config = dict(_pairs("--config", given["config"]))
    for option in ("url", "view_url"):
        if given[option] is not None:
            config[option] = given[option]
    for key, text in config.items():
        inside = key if is_secret_name(key) else secret_inside(text)
        if inside:
            raise ConfigError(
                f"--config {key}: {inside} would be public: give a secret with "
                "--secret-env KEY=VARIABLE or --secret-file KEY=FILE"
            )
    now = dict(before)
    for key, text in config.items():
        if text:
            now[key] = option_of(given["adapter"] or adapter, key, text)
        elif now.pop(key, None) is None:
            raise ConfigError(f"--config {key}=: there is no {key} to take away")
    return ProviderChange(
        adapter=given["adapter"],
        is_active=given["is_active"],
        priority=given["priority"],
        is_default=given["is_default"],
        config=now if config else None,
        price={} if given["no_price"] else _price(given["price"]),
        secrets=_secrets(given, sealed) or None,
        weight=given["weight"],
        starts_per_s=given["starts_per_s"],
    )


def _secrets(given: Mapping[str, Any], sealed: Collection[str]) -> dict[str, str | None]:
    for key in given["no_secret"]:
        if key not in sealed:
            raise ConfigError(f"--no-secret {key}: there is no {key} to take away")
    secrets: dict[str, str | None] = dict.fromkeys(given["no_secret"])
    for key, variable in _pairs("--secret-env", given["secret_env"]):
        secrets[key] = Secret(key=key, variable=variable).read(os.environ)
    for key, file in _pairs("--secret-file", given["secret_file"]):
        secrets[key] = Secret(key=key, file=Path(file)).read(os.environ)
    return secrets


def _price(given: Iterable[str]) -> Json | None:
    found: Json = {}
    for key, text in _pairs("--price", given):
        if key not in ("per_minute", "per_gb", "currency"):
            raise ConfigError(f"--price {key}: give per_minute, per_gb and currency")
        try:
            found[key] = text if key == "currency" else float(text)
        except ValueError:
            raise ConfigError(f"--price {key}={text}: give a number") from None
        if key != "currency" and not 0 <= found[key] < math.inf:
            raise ConfigError(f"--price {key}={text}: give 0 or more")
    if found.keys() == {"currency"}:
        raise ConfigError("--price currency: give per_minute or per_gb as well")
    return found or None


def _pairs(option: str, given: Iterable[str]) -> Iterable[tuple[str, str]]:
    for one in given:
        key, equals, value = one.partition("=")
        if not equals or not key.strip():
            # Not quoted: somebody may have written the secret itself.
            raise ConfigError(f"{option}: write KEY=VALUE, as its help shows")
        yield key.strip(), value.strip()


def _probed(one: ProviderInFull) -> str:
    """Return how deep it is probed, how often by media, and what that costs."""
    if one.canary_s is None:
        return one.probed
    currency = (one.price or {}).get("currency", "")
    cost = "" if one.canary_cost is None else f", {one.canary_cost:.2f} {currency}".rstrip()
    each = " in 30 days" if cost else ""
    return f"{one.probed}, a canary every {one.canary_s:g} s{cost}{each}"


def _state(one: ProviderInFull, default: str) -> str:
    """Return what operators made of it, in words."""
    words = ["disabled" if not one.is_active else "drained" if one.is_drained else "active"]
    return ", ".join([*words, "default"] if one.name == default else words)


def _described(one: ProviderInFull, default: str) -> Iterable[tuple[str, object]]:
    """Return everything about a provider, by name."""
    health = one.health
    latency = "-" if health.latency_s is None else f"{health.latency_s:.3f} s"
    yield from (
        ("provider", one.name),
        ("adapter", one.adapter),
        ("state", _state(one, default)),
        ("priority", one.priority),
        ("streams", f"{one.streams}, with {count(one.viewers, 'viewer')}"),
        ("verdict", f"{health.status}: {health.because or 'nothing is known yet'}"),
        ("grade", health.grade),
        ("rests on", f"{health.level or 'nothing'}, {count(health.reporters, 'reporter')}"),
        ("not proven", ", ".join(health.unproven) or "-"),
        ("probed", _probed(one)),
        ("in a row", count(health.failures, "failure")),
        ("latency", latency),
        ("uptime", percent(health.uptime)),
        ("errors", percent(health.error_rate)),
        (
            "last check",
            "never" if health.checked_ago_s is None else f"{ago(health.checked_ago_s)} ago",
        ),
        ("weight", f"{one.weight:g}"),
        ("starts", "-" if one.starts_per_s is None else f"{one.starts_per_s:g} a second"),
    )
    for key, value in sorted((one.price or {}).items()):
        yield f"price {key}", value
    for key, value in sorted(one.config.items()):
        yield f"config {key}", value
    yield "secrets", ", ".join(one.secrets) or "none"

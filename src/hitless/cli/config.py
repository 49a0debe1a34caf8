"""`hitless config`: every key, and where its value comes from."""

from __future__ import annotations

import asyncio
import os
from typing import Any, Final, Protocol, runtime_checkable

import click

from ..client.assembly import make_backend, make_providers
from ..client.config import Config, Setting
from ..client.secret import Secret
from ..errors import ConfigError
from ..media.address import without_stream_key
from .output import Invocation, emit_json, emit_table, json_option, pass_invocation


_OF_ADDRESSES: Final = frozenset({"server.proxies", "server.allow_private"})


@runtime_checkable
class _KnowsSecret(Protocol):
    """An adapter that can tell, without asking anybody, whether its secret can be one."""

    async def check_secret(self) -> None: ...


@click.command()
@click.option("--check", is_flag=True, help="Only judge it: make its providers, connect to none.")
@json_option
@pass_invocation
def config(invocation: Invocation, check: bool, as_json: bool) -> None:
    """
    Show every key: value, unit, default and where it comes from.

    Secrets show as (set) or (not set), never as they are.

    \b
    Examples:
      hitless config
      hitless config --json
      hitless config --check --config /etc/hitless.toml
      hitless config --set policy.max_retries=5
    """
    loaded = invocation.config()
    _check_server(loaded)
    if check:
        verdict = asyncio.run(_judge(loaded))
        if as_json:
            emit_json(verdict)
        else:
            click.echo(_sentence(verdict))
    elif as_json:
        emit_json({"file": loaded.path, "settings": [_row(one) for one in loaded.settings]})
    else:
        emit_table(
            ("KEY", "VALUE", "UNIT", "DEFAULT", "FROM"),
            (_cells(_row(one)) for one in loaded.settings),
        )


def _check_server(loaded: Config) -> None:
    """Refuse what `hitless serve` would, in its words."""
    if not loaded.said & _OF_ADDRESSES:
        return
    try:  # here: it costs half a second
        from ..server.addresses import parse_allowed
        from ..server.serve import Address
    except ModuleNotFoundError:
        return  # nothing can be served here, and `hitless serve` says so
    Address(proxies=loaded.server.proxies).check()
    parse_allowed(loaded.server.allow_private.replace(",", " ").split())


async def _judge(loaded: Config) -> dict[str, Any]:
    """Make everything it asks for, and close it again; connects to nobody."""
    providers = make_providers(loaded, os.environ) if loaded.providers else []
    try:
        for provider in providers:
            if isinstance(provider, _KnowsSecret):
                try:
                    await provider.check_secret()
                except ConfigError as exc:
                    raise ConfigError(f"provider {provider.name}: {exc}") from exc
        if loaded.backend is not None:
            await make_backend(loaded.backend, loaded, os.environ).aclose()
    finally:
        for provider in providers:
            await provider.aclose()
    return {
        "file": loaded.path,
        "good": True,
        "providers": [provider.name for provider in providers],
        "backend": loaded.backend.url if loaded.backend else None,
        "keys": sorted(loaded.said),
    }


def _sentence(verdict: dict[str, Any]) -> str:
    what = verdict["file"] or "The configuration (no file, only defaults and the environment)"
    names, backend = ", ".join(verdict["providers"]) or "none", verdict["backend"] or "none"
    said = f"{what} is good. Providers: {names}. Backend: {backend}."
    if not verdict["providers"] and not verdict["backend"]:
        said += " To publish or watch, add a [[provider]] table or a [backend]."
    return said


def _row(setting: Setting) -> dict[str, Any]:
    value, origin = setting.value, setting.origin
    if isinstance(value, Secret):
        origin = f"{origin}, {value}" if str(value) != f"${origin}" else origin
        value = "(set)" if value.is_set(os.environ) else "(not set)"
    elif isinstance(value, str):
        value = without_stream_key(value)
    return {
        "key": setting.name,
        "value": value,
        "unit": setting.key.unit,
        "default": setting.key.default,
        "from": origin,
        "says": setting.key.says,
    }


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    return tuple(_shown(row[name]) for name in ("key", "value", "unit", "default", "from"))


def _shown(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)

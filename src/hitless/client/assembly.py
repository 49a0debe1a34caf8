"""What a configuration asks for, made: its providers and its backend. Opens no connection."""

from __future__ import annotations

import collections.abc
import inspect
import types
import typing
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from ..core.policy import Policy
from ..errors import ConfigError
from .config import BackendTable, Config, ProviderTable
from .keys import literal, nearest
from .secret import Secret, is_secret_name, parse_headers


if TYPE_CHECKING:
    from ..providers.base import Provider
    from .backend import Backend
    from .control import ControlPlane


_POLICY_NAMES = frozenset(knob.name for knob in fields(Policy))


def make_providers(config: Config, environ: Mapping[str, str]) -> list[Provider]:
    """
    Return the configured providers, by priority. The caller closes them.

    Raises:
        ConfigError: There is none, an adapter is not installed, an option is unknown, missing
            or of the wrong type, or a secret is not set.
    """
    if not config.providers:
        raise ConfigError(
            "no provider is configured: add a [[provider]] table with a name to hitless.toml"
        )
    return [make_provider(table, config, environ) for table in config.providers]


def make_provider(table: ProviderTable, config: Config, environ: Mapping[str, str]) -> Provider:
    """
    Return one provider, made by its adapter from its table.

    What the table leaves out and somebody set in `[policy]` under the same name
    (`first_media_s`, `silence_s`) is taken from there; else the adapter's own default holds.

    Raises:
        ConfigError: See `make_providers`.
    """
    from ..providers import load  # here: entry points and adapters cost a tenth of a second

    factory = load(table.adapter)
    accepted = inspect.signature(factory).parameters
    is_open = any(one.kind is one.VAR_KEYWORD for one in accepted.values())
    given: dict[str, Any] = {
        name: getattr(config.policy, name)
        for name in accepted
        if name in _POLICY_NAMES and f"policy.{name}" in config.said
    }
    for option, value in table.options.items():
        if option not in accepted and not is_open:
            raise ConfigError(
                f"provider {table.name}: the adapter {table.adapter} has no option {option}"
                + nearest(option, set(accepted) - {"name"})
            )
        given[option] = value
    given["name"] = table.name
    hints = _hints(factory)
    for option, value in given.items():
        hint = hints.get(option, Any)
        if isinstance(value, Secret):
            value = _revealed(option, value, environ, hint)
        given[option] = _as_hinted(f"provider {table.name}: {option}", value, hint)
    for option, one in accepted.items():
        is_needed = one.default is one.empty and one.kind in (
            one.POSITIONAL_OR_KEYWORD,
            one.KEYWORD_ONLY,
        )
        if is_needed and option not in given:
            raise ConfigError(f"provider {table.name}: {option} is missing")
    try:
        return factory(**given)
    except ConfigError as exc:
        raise ConfigError(f"provider {table.name}: {exc}") from exc


def make_backend(
    table: BackendTable, config: Config, environ: Mapping[str, str]
) -> Backend | ControlPlane:
    """
    Return the configured backend, with a key of its own a Hitless server.

    Headers are read anew for each request: secrets rotate.

    Raises:
        ConfigError: The URL cannot be used, or the headers are not set or not headers.
    """
    from .backend import Backend  # here: an HTTP client costs a tenth of a second
    from .control import ControlPlane

    if table.key is not None:
        return ControlPlane(
            table.url,
            key=table.key.read(environ),
            region=table.region,
            timeout_s=config.policy.health_timeout_s,
            allow_http=table.allow_http,
        )
    secret = table.headers
    headers: Callable[[], Awaitable[Mapping[str, str]]] | None = None
    if secret is not None:
        kept = secret

        async def headers_now() -> Mapping[str, str]:
            return parse_headers(kept.key, kept.read(environ))

        parse_headers(kept.key, kept.read(environ))  # now, so that a mistake opens nothing
        headers = headers_now
    return Backend(
        table.url,
        headers=headers,
        timeout_s=config.policy.health_timeout_s,
        allow_http=table.allow_http,
    )


def _revealed(option: str, secret: Secret, environ: Mapping[str, str], hint: Any) -> object:
    """Return what is kept elsewhere; where the adapter can ask again, what reads it each time."""
    text = secret.read(environ)  # now in any case, so that a mistake opens nothing
    if not is_secret_name(option) and str not in _members(hint):
        return literal(text)
    if not any(typing.get_origin(one) is collections.abc.Callable for one in _members(hint)):
        return text

    async def read_again() -> str:
        return secret.read(environ)

    return read_again


def _hints(factory: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(factory.__init__ if inspect.isclass(factory) else factory)
    except (NameError, TypeError):  # hints behind TYPE_CHECKING: the adapter checks by itself
        return {}


def _as_hinted(what: str, value: Any, hint: Any) -> Any:
    """
    Return a value of the file as the adapter's type: TOML has no enums, tuples or records.

    Raises:
        ConfigError: It cannot be that type; `what` says whose it is.
    """
    members = _members(hint)
    if Any in members:
        return value
    if isinstance(value, list):
        inner = next((typing.get_args(one)[0] for one in members if typing.get_args(one)), Any)
        return tuple(_as_hinted(f"{what}[{n}]", one, inner) for n, one in enumerate(value))
    plain = [one for one in members if isinstance(one, type) and not typing.get_args(one)]
    for one in plain:
        if issubclass(one, Enum) and not isinstance(value, one):
            return _word(what, value, one)
        if is_dataclass(one) and isinstance(value, dict):
            return _record(what, value, one)
    if len(plain) == len(members) and not any(_is_a(value, one) for one in plain):
        wanted = " or ".join(one.__name__ for one in plain if one is not types.NoneType)
        raise ConfigError(f"{what} must be {wanted}, not {type(value).__name__}")
    return value


def _word(what: str, value: object, kind: type[Enum]) -> Enum:
    for word in kind:
        if word.value == value:
            return word
    words = ", ".join(str(word.value) for word in kind)
    raise ConfigError(f"{what} = {value!r} is not possible: give one of {words}")


def _record(what: str, table: dict[str, Any], kind: Any) -> Any:
    known = {one.name: one.type for one in fields(kind)}
    hints = _hints(kind)
    for name in table:
        if name not in known:
            raise ConfigError(f"{what} has no key {name}{nearest(name, known)}")
    try:
        return kind(
            **{
                name: _as_hinted(f"{what}.{name}", value, hints.get(name, Any))
                for name, value in table.items()
            }
        )
    except TypeError as exc:
        raise ConfigError(f"{what}: {exc}") from exc


def _members(hint: Any) -> tuple[Any, ...]:
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return typing.get_args(hint) if is_union else (hint,)


def _is_a(value: object, kind: type) -> bool:
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, kind) or (kind is float and isinstance(value, int))

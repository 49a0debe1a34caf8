"""
`hitless.toml`, the environment and the caller's own words, made into one checked value.

Precedence: flags and code, then environment, then file, then default. Each key of the file has
a variable: `HITLESS_POLICY__MAX_RETRIES=5`, `HITLESS_PROVIDER__AGORA__URL=https://...`. A key it
does not know is an error that names the nearest one, since a typo must not become a default.

Secrets are never written in the file: `token_env = "AGORA_TOKEN"` or `token_file = "agora.token"`
say where they are kept, and they are read when a provider is made (`client/assembly.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from ..core.evidence import Rules
from ..core.policy import Policy
from ..errors import ConfigError
from .keys import (
    PLAIN_KEYS,
    PROVIDER_KEYS,
    Given,
    Key,
    check_listen,
    check_url,
    read,
    read_option,
)
from .secret import Secret
from .sources import find, from_environment, from_file, from_flags


T = TypeVar("T")

_OF_PROVIDER: Final = {key.name.rpartition(".")[2]: key for key in PROVIDER_KEYS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """
    One key as people see it.

    Attributes:
        key: What is known of it.
        name: Its full name: `provider.agora.url`.
        value: What it is; a `Secret` says only where it is kept. None: nothing.
        origin: Where the value comes from: `default`, `hitless.toml:7`, a variable's name.
    """

    key: Key
    name: str
    value: Any
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendTable:
    """The `[backend]` table."""

    url: str
    headers: Secret | None = None
    allow_http: bool = False
    key: Secret | None = None
    """Client key of a Hitless server; None: it is any backend."""
    region: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerTable:
    """The `[server]` table: what `hitless serve` runs with."""

    listen: str
    database: Secret | None
    name: str | None
    open_list: bool
    allow_private: str
    proxies: str
    move_share_per_minute: float
    report_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderTable:
    """
    One `[[provider]]` table.

    Attributes:
        name: The user's name for it.
        adapter: Which adapter speaks to it.
        priority: Lowest first.
        options: All that belongs to the adapter; values kept elsewhere are `Secret`.
    """

    name: str
    adapter: str
    priority: int
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """
    Everything that was configured, checked. It holds no secret.

    Attributes:
        policy: All that decisions depend on.
        backend: A backend that lists providers; None: the tables below are the list.
        server: What `hitless serve` runs with.
        rules: How it judges providers.
        providers: By priority, lowest number first, ties in the order of the file.
        settings: Each key with its value and where that comes from, in the order of the docs.
        path: The file that was read; None: there was none.
    """

    policy: Policy = field(default_factory=Policy)
    backend: BackendTable | None = None
    server: ServerTable
    rules: Rules = field(default_factory=Rules)
    providers: tuple[ProviderTable, ...] = ()
    settings: tuple[Setting, ...] = ()
    path: Path | None = None

    @property
    def said(self) -> frozenset[str]:
        """Names of the keys that somebody gave; the others have their defaults."""
        return frozenset(s.name for s in self.settings if s.origin != "default")


def load(
    path: Path | None, environ: Mapping[str, str], flags: Mapping[str, object] | None = None
) -> Config:
    """
    Read the configuration.

    Args:
        path: The file; None: `HITLESS_CONFIG`, else `hitless.toml` here if there is one.
        environ: The environment.
        flags: What the caller says itself, by full name: `{"policy.max_retries": 5}`; text is
            read as the key's type.

    Raises:
        ConfigError: It cannot work; one sentence names the place, the key, the value and the way
            out. Nothing was opened.
    """
    path = find(path, environ)
    given, names = from_file(path) if path else ({}, [])
    given |= from_environment(environ, names, given)
    given |= from_flags(flags or {}, names)
    rows = [_setting(key, key.name, given.get(key.name)) for key in PLAIN_KEYS]
    providers = []
    for place, name in enumerate(names, start=1):
        own = _provider_settings(name, place, given)
        providers.append(_provider(name, own))
        rows += own
    return Config(
        policy=_built(rows, "policy", Policy),
        backend=_backend(rows),
        server=_server(rows),
        rules=_built(rows, "judging", Rules),
        providers=tuple(sorted(providers, key=lambda table: table.priority)),
        settings=tuple(rows),
        path=path,
    )


def _setting(key: Key, name: str, given: Given | None, default: object = None) -> Setting:
    if given is None:
        value = key.default if default is None else default
        return Setting(key=key, name=name, value=value, origin="default")
    if isinstance(given.value, Secret) and not key.is_secret:
        raise ConfigError(f"{given.origin}: give {name} itself, it is no secret")
    value = given.value if key.is_secret else read(key, name, given)
    return Setting(key=key, name=name, value=value, origin=given.origin)


def _provider_settings(name: str, place: int, given: Mapping[str, Given]) -> list[Setting]:
    start = f"provider.{name}."
    rows = [
        _setting(_OF_PROVIDER[key], start + key, given.get(start + key), default)
        for key, default in (("adapter", name), ("priority", place))
    ]
    for full, one in given.items():
        option = full.removeprefix(start)
        if not full.startswith(start) or option in _OF_PROVIDER:
            continue
        is_kept = isinstance(one.value, Secret)
        key = Key(name=full, type=str, says="belongs to the adapter", is_secret=is_kept)
        value = one.value if is_kept else read_option(full, one)
        rows.append(Setting(key=key, name=full, value=value, origin=one.origin))
    return rows


def _provider(name: str, rows: list[Setting]) -> ProviderTable:
    values = {row.name.rpartition(".")[2]: row.value for row in rows}
    adapter, priority = values.pop("adapter"), values.pop("priority")
    return ProviderTable(name=name, adapter=adapter, priority=priority, options=values)


def _built(settings: list[Setting], section: str, kind: Callable[..., T]) -> T:
    """Return a section as the value that checks what its keys cannot check alone."""
    rows = [row for row in settings if row.name.startswith(f"{section}.")]
    values = {row.name.removeprefix(f"{section}."): row.value for row in rows}
    try:
        return kind(**values)
    except ConfigError as exc:  # two values that are possible alone and not together
        origins = " and ".join(sorted({row.origin for row in rows} - {"default"}))
        raise ConfigError(f"{origins}: {section}: {exc}") from exc


def _server(settings: list[Setting]) -> ServerTable:
    values = {row.name.removeprefix("server."): row.value for row in settings
              if row.name.startswith("server.")}  # fmt: skip
    listen = next(row for row in settings if row.name == "server.listen")
    check_listen(listen.name, Given(value=listen.value, origin=listen.origin))
    return ServerTable(**values)


def _backend(settings: list[Setting]) -> BackendTable | None:
    rows = {row.name: row for row in settings if row.name.startswith("backend.")}
    url = rows["backend.url"]
    if url.value is None:
        said = [row for row in rows.values() if row.origin != "default"]
        if said:
            raise ConfigError(f"{said[0].origin}: {said[0].name} needs backend.url as well")
        return None
    check_url(url.name, Given(value=url.value, origin=url.origin), schemes=("http", "https"))
    return BackendTable(
        url=url.value,
        headers=rows["backend.headers"].value,
        allow_http=rows["backend.allow_http"].value,
        key=rows["backend.key"].value,
        region=rows["backend.region"].value,
    )

"""Every key that `hitless.toml` knows, and how a value given for it is read."""

from __future__ import annotations

import difflib
import math
import re
import tomllib
import types
import typing
from collections.abc import Iterable
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Final
from urllib.parse import urlsplit

from ..core.evidence import Rules
from ..core.policy import Policy, check
from ..errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """
    One key.

    Attributes:
        name: `policy.max_retries`, `backend.url`, `provider.NAME.priority`.
        type: `int`, `float`, `bool`, `str`, or a `StrEnum` of the words that are possible.
        default: What it is when nobody says; None: nothing.
        unit: `s`, or nothing.
        low: Least value; None: no limit.
        high: Greatest value; None: no limit.
        says: What it is for.
        is_secret: Whether only `..._env` and `..._file` may give it in a file.
    """

    name: str
    type: type
    default: object = None
    unit: str = ""
    low: float | None = None
    high: float | None = None
    says: str = ""
    is_secret: bool = False

    @property
    def possible(self) -> str:
        """What may be given, in words."""
        if issubclass(self.type, StrEnum):
            return "one of " + ", ".join(self.type)
        if self.type is bool:
            return "true or false"
        if self.type is str:
            return "a text"
        words = "a whole number" if self.type is int else "a number"
        if self.low is not None and self.high is not None:
            words += f" from {self.low:g} to {self.high:g}"
        return f"{words} {self.unit}".rstrip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A value somebody gave, and where: `hitless.toml:7`, a variable's name, `--set`."""

    value: object
    origin: str
    is_text: bool = False
    """Whether it still has to be read as what it means: variables and flags are text."""


def _keys_of(section: str, kind: type[Policy] | type[Rules]) -> Iterable[Key]:
    hints = typing.get_type_hints(kind)
    for knob in fields(kind):
        if not knob.metadata:
            continue  # a ladder of numbers: in code only
        meant = [one for one in _members(hints[knob.name]) if one is not types.NoneType]
        yield Key(
            name=f"{section}.{knob.name}",
            type=meant[0],
            default=knob.default,
            unit=knob.metadata["unit"],
            low=knob.metadata.get("low"),
            high=knob.metadata.get("high"),
            says=knob.metadata["says"],
        )


def _members(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)


POLICY_KEYS: Final = tuple(_keys_of("policy", Policy))
JUDGING_KEYS: Final = tuple(_keys_of("judging", Rules))

BACKEND_KEYS: Final = (
    Key(
        name="backend.url",
        type=str,
        says="the server of `GET /streaming/providers`; without it the list below is all",
    ),
    Key(
        name="backend.headers",
        type=str,
        says="HTTP headers for each request, `Name: value`, one a line",
        is_secret=True,
    ),
    Key(
        name="backend.allow_http",
        type=bool,
        default=False,
        says="whether headers may go in clear to another machine",
    ),
    Key(
        name="backend.key",
        type=str,
        says="client key of a Hitless server: streams get plans from it, and follow its word",
        is_secret=True,
    ),
    Key(
        name="backend.region",
        type=str,
        default="",
        says="where this client is, as the regions of providers are called; a Hitless server "
        "judges them by it",
    ),
)

SERVER_KEYS: Final = (
    Key(
        name="server.listen",
        type=str,
        default="127.0.0.1:8080",
        says="where `hitless serve` listens, HOST:PORT",
    ),
    Key(
        name="server.database",
        type=str,
        says="a file for SQLite, or postgresql://...; else $HITLESS_DATABASE_URL, else hitless.db",
        is_secret=True,
    ),
    Key(name="server.name", type=str, says="name of this node; else the machine's"),
    Key(
        name="server.open_list",
        type=bool,
        default=False,
        says="whether the list of providers is given without a key",
    ),
    Key(
        name="server.proxies",
        type=str,
        default="",
        says="proxies whose X-Forwarded-For is believed, `10.0.0.7, 10.1.0.0/16`; else nobody's",
    ),
    Key(
        name="server.allow_private",
        type=str,
        default="",
        says="networks besides the public ones that probes may go to, `10.0.0.0/8, ::1/128`",
    ),
    Key(
        name="server.move_share_per_minute",
        type=float,
        default=0.1,
        low=0.0,
        high=1.0,
        says="share of all streams that may be moved automatically each minute while on air",
    ),
    Key(
        name="server.report_s",
        type=float,
        default=10.0,
        unit="s",
        low=0.5,
        high=300,
        says="how often clients report",
    ),
)

PLAIN_KEYS: Final = (*POLICY_KEYS, *BACKEND_KEYS, *SERVER_KEYS, *JUDGING_KEYS)
"""Every key that is no provider's."""

PROVIDER_KEYS: Final = (
    Key(name="provider.NAME.name", type=str, says="yours: lower-case letters, digits, - and _"),
    Key(name="provider.NAME.adapter", type=str, says="which adapter speaks to it; else the name"),
    Key(
        name="provider.NAME.priority",
        type=int,
        low=-999_999,
        high=999_999,
        says="lowest first, ties in the order of the file; else the place in the file",
    ),
)
"""What every provider has; all other keys of its table belong to its adapter."""

LATER: Final = ("mode", "share", "policy.standby")
"""Keys of the design that nothing obeys yet: accepting them would be a lie."""


def read(key: Key, name: str, given: Given) -> Any:
    """
    Return a given value as what `key` wants.

    Args:
        key: What is known of it.
        name: Its full name, for messages.
        given: The value, and where it stands.

    Raises:
        ConfigError: Wrong type or out of limits; names the place, the key, value and limits.
    """
    value = given.value
    if given.is_text and isinstance(value, str) and key.type in (int, float, bool):
        value = literal(value)
    if issubclass(key.type, StrEnum) and isinstance(value, str) and value in tuple(key.type):
        return key.type(value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = {int: is_number and isinstance(value, int), float: is_number}.get(
        key.type, type(value) is key.type
    )
    if not fits:
        raise ConfigError(
            f"{given.origin}: {name} = {_shown(given.value)} is not possible: give {key.possible}"
        )
    if key.low is not None and key.high is not None:
        limits = {"low": key.low, "high": key.high, "unit": key.unit}
        try:
            check(name, value, limits)
        except ConfigError as exc:
            raise ConfigError(f"{given.origin}: {exc}") from None
        except OverflowError:  # a whole number of 400 digits
            raise ConfigError(
                f"{given.origin}: {name} = {_shown(value)} is not possible: give {key.possible}"
            ) from None
    return float(value) if key.type is float else value  # type: ignore[arg-type]  # is_number


_BY_POLICY_NAME: Final = {key.name.removeprefix("policy."): key for key in POLICY_KEYS}

_QUANTITY: Final = re.compile(r"\w+_(?:s|bps|s_max|bps_max)")


def read_option(name: str, given: Given) -> Any:
    """
    Return a provider's option: its adapter knows the type, its name knows the unit.

    Raises:
        ConfigError: A bad URL, or a time or rate that is no number or negative.
    """
    option = name.rpartition(".")[2]
    if option in _BY_POLICY_NAME:
        return read(_BY_POLICY_NAME[option], name, given)
    value = given.value
    is_url = option == "url" or option.endswith("_url")
    if given.is_text and isinstance(value, str) and not is_url:
        value = literal(value)
    if is_url:
        check_url(name, given)
    elif _QUANTITY.fullmatch(option):
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not 0 <= value < math.inf:  # type: ignore[operator]  # is_number
            raise ConfigError(
                f"{given.origin}: {name} = {_shown(given.value)} is not possible: "
                "give a number that is not negative"
            )
    return value


def check_url(name: str, given: Given, schemes: tuple[str, ...] = ()) -> None:
    """
    Check the form of a URL.

    Raises:
        ConfigError: It has no scheme or host, or a scheme that cannot be used here.
    """
    url = given.value
    try:
        parts = urlsplit(url) if isinstance(url, str) and url.isprintable() else None
        is_whole = bool(parts and parts.scheme and parts.hostname and (parts.port or 1))
    except ValueError:
        is_whole = False
    if not is_whole or not isinstance(url, str) or " " in url:
        raise ConfigError(
            f"{given.origin}: {name} = {_shown(url)} is not a URL: give https://host/path"
        )
    if schemes and urlsplit(url).scheme not in schemes:
        raise ConfigError(
            f"{given.origin}: {name} = {_shown(url)} is not possible: begin it with "
            + " or ".join(f"{scheme}://" for scheme in schemes)
        )


def check_listen(name: str, given: Given) -> None:
    """
    Check the form of an address to listen at, as `hitless serve` takes it.

    Raises:
        ConfigError: It has no port, or one that cannot be.
    """
    port = given.value.rpartition(":")[2] if isinstance(given.value, str) else ""
    has_colon = isinstance(given.value, str) and ":" in given.value
    is_number = port.isascii() and port.isdigit() and len(port) <= 5
    if not has_colon or not is_number or int(port) > 65535:
        raise ConfigError(
            f"{given.origin}: {name} = {_shown(given.value)} is not possible: give HOST:PORT, "
            "127.0.0.1:8080"
        )


def literal(text: str) -> object:
    """Return a number, boolean, list or table written as TOML; any other text as it is."""
    if "\n" in text:
        return text
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, str | bool | int | float | list | dict) else text


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean ...?`, or nothing if no known name is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"

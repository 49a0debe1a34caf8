"""
Reading what a backend says: a list of providers, and how one of them is.

Pure: any JSON comes in (hence `Any`), and a list, an answer or `Failed` comes out. Nothing is
quoted beyond a name or a short word.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ..core.listing import Answer, Listed, ProviderList


WARNINGS_MAX: Final = 20
"""Warnings kept of one list; the rest is a number."""

_NAME_CHARS_MAX = 200
_PRIORITY_LAST = 1_000_000_000
_WORD = re.compile(r"[a-z][a-z _-]{0,30}")
_FALSE = frozenset({"false", "no", "off", "0"})


@dataclass(slots=True)
class Failed(Exception):
    """Why there is no usable answer; `is_ours`: the fault lies with what we asked."""

    because: str
    answered: bool = False
    is_ours: bool = False


def unwrap(body: Any) -> Any:
    """Take the envelope off: `{"success": true, "data": {...}}`."""
    if not isinstance(body, dict):
        raise Failed("bad JSON: not an object", answered=True)
    if body.get("success") is not True:
        raise Failed("bad answer: success is not true", answered=True)
    if not isinstance(body.get("data"), dict):
        raise Failed("bad answer: data is not an object", answered=True)
    return body["data"]


def read_health(data: Any) -> tuple[Answer, str]:
    """Return how a provider is said to be, and the word for it."""
    healthy, status = data.get("healthy"), data.get("status")
    if not isinstance(healthy, bool):
        raise Failed("bad answer: healthy is not true or false", answered=True)
    word = status if isinstance(status, str) and _WORD.fullmatch(status) else None
    if healthy:
        return Answer.HEALTHY, word or "healthy"
    if word == "disabled":
        return Answer.DISABLED, "disabled by its operators; the list decides"
    return Answer.UNHEALTHY, f"unhealthy: {word}" if word else "unhealthy"


# --- Reading a list ---


def read_list(data: Any) -> ProviderList:
    """
    Read `data` of the wire (`providers`, `default`), of any JSON type, as far as it makes sense.

    An entry without a usable name is left out; every other fault costs a warning only. What
    cannot be read never disables a provider: garbage must not move a stream.
    """
    if not isinstance(data, Mapping) or not isinstance(data.get("providers"), list | tuple):
        raise Failed("the providers are not a list", answered=True)
    warnings: list[str] = []
    ranked: dict[str, tuple[float, Listed]] = {}
    for place, entry in enumerate(data["providers"], start=1):
        if (read := _read_entry(place, entry, warnings)) is None:
            continue
        if read[1].name in ranked:
            warnings.append(f"{shown(read[1].name)} is listed twice: the first entry counts")
        else:
            ranked[read[1].name] = read
    if data["providers"] and not ranked:
        raise Failed("no entry of the list can be used", answered=True)
    if not ranked:
        warnings.append("the list is empty")
    default = data.get("default")
    if default is not None and (not isinstance(default, str) or default not in ranked):
        warnings.append(f"default {shown(default)} is not in the list: ignored")
        default = None
    if len(warnings) > WARNINGS_MAX:
        warnings[WARNINGS_MAX:] = [f"and {len(warnings) - WARNINGS_MAX} more"]
    in_order = sorted(ranked.values(), key=lambda pair: pair[0])
    return ProviderList(
        providers=tuple(listed for _, listed in in_order),
        default=default,
        warnings=tuple(warnings),
    )


def _read_entry(place: int, entry: Any, warnings: list[str]) -> tuple[float, Listed] | None:
    """Return an entry with its exact rank, or None with a warning."""
    if isinstance(entry, Listed):
        return entry.priority, entry
    if isinstance(entry, str):
        entry = {"name": entry, "isActive": True, "priority": place}
    if not isinstance(entry, Mapping):
        warnings.append(f"entry {place} is not an object: left out")
        return None
    name = entry.get("name")
    if why := unusable(name):
        warnings.append(f"entry {place} is left out: its name {shown(name)} {why}")
        return None
    assert isinstance(name, str)
    written = entry.get("isActive")
    is_active = _flag(written)
    if not isinstance(written, bool):
        warnings.append(
            f"isActive of {shown(name)} is not true or false: read as {str(is_active).lower()}"
        )
    rank = _rank(entry.get("priority"))
    if rank is None:
        warnings.append(f"priority of {shown(name)} is not a number: it comes last")
        rank = float(_PRIORITY_LAST)
    config = entry.get("config", {})
    if not isinstance(config, Mapping):
        warnings.append(f"config of {shown(name)} is not an object: ignored")
        config = {}
    return rank, Listed(
        name=name,
        is_active=is_active,
        priority=int(rank),
        config=dict(config),
        streams=int(_figure(entry.get("streams"))),
        starts_per_s=_figure(entry.get("startsPerSecond")),
    )


def _figure(value: Any) -> float:
    """Return a number from 0 to 1e9 as it is written; anything else says nothing: 0."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0.0
    return float(value) if 0 <= value <= 1e9 else 0.0


def _rank(value: Any) -> float | None:
    """Return a priority as a number within limits, from a number or its text; None: neither."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    if number != number:  # NaN, which Python's JSON reader lets pass
        return None
    return max(-float(_PRIORITY_LAST), min(number, float(_PRIORITY_LAST - 1)))


def _flag(value: Any) -> bool:
    """Return what is meant by a boolean, or by a text or number in its place; else True."""
    return not (isinstance(value, bool | int | str) and str(value).strip().lower() in _FALSE)


def unusable(name: object) -> str:
    """Return why a name cannot be used, or nothing."""
    if not isinstance(name, str):
        return "is not a text"
    if not name.strip(" ."):
        return "is empty or dots only"
    if len(name) > _NAME_CHARS_MAX:
        return f"is longer than {_NAME_CHARS_MAX} characters"
    return "" if name.isprintable() else "has characters that cannot be printed"


def shown(value: object) -> str:
    """Return a text as it may be told, short and printable; of anything else its type."""
    text = ascii(value) if isinstance(value, str) else f"({type(value).__name__})"
    return text if len(text) <= 60 else text[:59] + "…"

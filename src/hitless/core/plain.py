"""
Values of the core as JSON and back, exactly: what was recorded is what is replayed.

A record becomes an object, a named tuple a list, a mapping of any keys a list of pairs in its
order, an infinite number its name. What comes back is equal to what went in.
"""

from __future__ import annotations

import collections.abc
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, Final

from ..errors import ConfigError


def plain(value: object) -> Any:
    """Return a value as JSON has it (Any: of any JSON type)."""
    if isinstance(value, Enum):
        return value.value
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if is_dataclass(value):
        return {one.name: plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        return [[plain(key), plain(inner)] for key, inner in value.items()]
    if isinstance(value, collections.abc.Iterable):
        return [plain(inner) for inner in value]
    raise TypeError(f"{type(value).__name__} is no value of the core")


def value_of(kind: Any, data: Any) -> Any:
    """
    Return what `plain` made `data` of.

    Args:
        kind: Its type: a record, or what the fields of records are (Any: types are values here).
        data: From a file, so anything.

    Raises:
        ConfigError: It is not of that type; nothing of it is quoted.
    """
    try:
        return _value(kind, data)
    except (AttributeError, TypeError, ValueError, OverflowError, RecursionError) as exc:
        name = getattr(kind, "__name__", str(kind))
        raise ConfigError(f"what was recorded is no {name}: {type(exc).__name__}") from None


def _value(kind: Any, data: Any) -> Any:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        if data is None and type(None) in inner:
            return None
        (only,) = (one for one in inner if one is not type(None))
        return _value(only, data)
    if origin is collections.abc.Mapping:
        return {_value(inner[0], key): _value(inner[1], one) for key, one in _list(data)}
    if origin in (tuple, collections.abc.Sequence):
        return tuple(_value(inner[0], one) for one in _list(data))
    if is_dataclass(kind):
        hints, make = _hints(kind), typing.cast("Any", kind)
        if data.keys() - hints.keys():
            raise ValueError("fields that are not known")
        return make(**{name: _value(hints[name], one) for name, one in data.items()})
    if issubclass(kind, tuple):
        kinds = _hints(kind).values()
        return kind(*(_value(*one) for one in zip(kinds, _list(data), strict=True)))
    return _single(kind, data)


def _single(kind: Any, data: Any) -> Any:
    if issubclass(kind, Enum):
        return kind(data)
    if kind is float and (type(data) in (int, float) or data in ("inf", "-inf")):
        return float(data)
    if type(data) is not kind:
        raise TypeError(f"no {kind.__name__}")
    return data


def _list(data: Any) -> list[Any]:
    if not isinstance(data, list):
        raise TypeError("no list")
    return data


def _hints(kind: Any) -> dict[str, Any]:
    found = _HINTS.get(kind)
    if found is None:  # the types of the core: a few dozen
        found = _HINTS[kind] = typing.get_type_hints(kind)
    return found


_HINTS: Final[dict[Any, dict[str, Any]]] = {}

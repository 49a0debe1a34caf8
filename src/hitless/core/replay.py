"""
An incident as values: events with their times, encoded to JSON-able dictionaries and replayed.

The first line of a record is its header (version, seed, policy); each further line is one event.
Replaying gives the same effects as the first time, byte for byte.

What a server keeps of a hand is the same with three things more: it is one object, it may begin in
the middle, with the state before, and each event has the effects that it had.
"""

from __future__ import annotations

import collections.abc
import math
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from enum import Enum
from typing import Any, Final, get_args, get_origin, get_type_hints

from ..errors import ConfigError
from .events import Effect, Event
from .judgement import Rejudged, as_compared
from .listing import Listed
from .plain import plain
from .policy import Policy
from .state import State
from .step import step


VERSION: Final = 1

_EVENTS: Final = {kind.__name__: kind for kind in get_args(Event)}


def header(policy: Policy, seed: int) -> dict[str, Any]:
    """Return the first line of a record."""
    return {"hitless": VERSION, "seed": seed, "policy": _plain(policy)}


def encode(event: Event, now: float) -> dict[str, Any]:
    """Return one event with its time as a dictionary for JSON."""
    return {"at_s": now, "event": type(event).__name__, **_plain(event)}


def decode(line: Mapping[str, Any]) -> tuple[Event, float]:
    """
    Return the event and its time [s].

    Raises:
        ConfigError: It is not a line of a record of this version.
    """
    rest = dict(line)
    try:
        now, kind = float(rest.pop("at_s")), _EVENTS[rest.pop("event")]
        return _value(kind, rest), now
    except (KeyError, TypeError, ValueError) as exc:
        raise ConfigError(f"not an event of a record: {dict(line)!r:.120}") from exc


def begin(line: Mapping[str, Any]) -> tuple[Policy, int]:
    """
    Return the policy and the seed of a record's header.

    Raises:
        ConfigError: It is not a header, or of another version.
    """
    if line.get("hitless") != VERSION:
        raise ConfigError(
            f"not a record of version {VERSION}: its first line begins {dict(line)!r:.60}"
        )
    try:
        return _value(Policy, dict(line["policy"])), int(line["seed"])
    except (KeyError, TypeError, ValueError) as exc:
        raise ConfigError("the header of the record is damaged") from exc


def replay(
    lines: Iterable[Mapping[str, Any]],
) -> Iterator[tuple[float, Event, tuple[Effect, ...], State]]:
    """
    Run a record again: yield each event with its time [s], its effects and the state after it.

    Raises:
        ConfigError: A line is not what a record holds.
    """
    rest = iter(lines)
    try:
        policy, seed = begin(next(rest))
    except StopIteration:
        raise ConfigError("the record is empty") from None
    state = State(seed=seed)
    for line in rest:
        event, now = decode(line)
        state, effects = step(policy, state, event, now)
        yield now, event, effects, state


# --- The steps of a hand ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step: when [s], the event, and the effects that it had."""

    at_s: float
    event: Event
    effects: tuple[Effect, ...]


def steps_line(policy: Policy, before: State, steps: Iterable[Step]) -> dict[str, Any]:
    """Return the steps of one hand as JSON: a header, the state before, events with effects."""
    lines = list[dict[str, Any]]()
    for one in steps:
        line = encode(one.event, one.at_s)
        effects = {"effects": [_effect(effect) for effect in one.effects]} if one.effects else {}
        lines.append({**line, **effects})
    return {**header(policy, before.seed), "before": _whole(before), "steps": lines}


def rerun(record: Mapping[str, Any], *, has_changed_reasons: bool = False) -> list[Rejudged]:
    """
    Run the steps of a hand again, up to the first that has other effects.

    What comes after that one began in a state that is not known any more.

    Raises:
        ConfigError: They are no steps of a hand.
    """
    policy, _ = begin(record)
    seen = as_compared(has_changed_reasons=has_changed_reasons)
    try:
        state: State = _value(State, record["before"])
        lines = [dict(line) for line in record["steps"]]
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        raise ConfigError("the recorded steps of a hand are damaged") from exc
    found = list[Rejudged]()
    for line in lines:
        told = line.pop("effects", [])
        event, now = decode(line)
        try:
            state, effects = step(policy, state, event, now)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as exc:
            because = f"the recorded steps of a hand contradict themselves: {type(exc).__name__}"
            raise ConfigError(because) from None
        again = [_effect(effect) for effect in effects]
        is_same = seen(told) == seen(again)
        kind = str(line.pop("event"))
        found.append(
            Rejudged(at_s=now, kind=kind, fields=line, told=told, now=again, is_same=is_same)
        )
        if not is_same:
            break
    return found


def _effect(effect: Effect) -> dict[str, Any]:
    return {"effect": type(effect).__name__, **plain(effect)}


def _whole(value: Any) -> Any:
    """
    Return a state for JSON: mappings are lists of pairs, for their order decides.

    But not the public configuration of a provider: that is JSON.
    """
    if isinstance(value, Listed):
        named = {f.name: getattr(value, f.name) for f in fields(value)}
        return {**named, "config": dict(value.config)}
    if isinstance(value, Enum) or value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if is_dataclass(value):
        return {f.name: _whole(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return [[key, _whole(inner)] for key, inner in value.items()]
    if isinstance(value, frozenset):
        return sorted(value)
    return [_whole(inner) for inner in value]


# --- Values and JSON ---


def _plain(value: object) -> dict[str, Any]:
    assert is_dataclass(value)
    assert not isinstance(value, type)
    return asdict(value)


def _value(kind: Any, data: Any) -> Any:  # Any: the types come from the records themselves
    """Return `data` as a value of type `kind`."""
    if kind is Any or data is None:
        return data
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return _value(next(arg for arg in inner if arg is not type(None)), data)
    if origin is tuple:
        return tuple(_value(inner[0], item) for item in data)
    if origin is frozenset:
        return frozenset(data)
    if origin is collections.abc.Mapping and isinstance(data, list):
        return {str(key): _value(inner[1], item) for key, item in data}
    if origin is not None:
        return dict(data)
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        known = {f.name for f in fields(kind)}
        unknown = set(data) - known
        if unknown:
            raise ValueError(f"unknown fields {sorted(unknown)}")
        make: Any = kind
        return make(**{name: _value(hints[name], item) for name, item in data.items()})
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(data)
    return kind(data) if kind in (int, float, str, bool) else data

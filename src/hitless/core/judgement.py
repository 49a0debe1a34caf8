"""
What a server judged, as values: observations with their times, and the verdicts they gave.

A recording is one JSON object: the rules, the standing before its first entry, the entries, and
the verdicts after the last one. Judging again gives the same news and the same verdicts. Where
`has_changed_reasons` says so, reasons were rewritten to name nobody, and are not compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, get_args

from ..errors import ConfigError
from .evidence import Rules
from .observation import Observation
from .plain import plain, value_of
from .verdict import News, Standing, forget, judge


FORMAT: Final = 1

FORGOTTEN: Final = "Forgotten"
"""The entry of a provider that was deleted."""

_KINDS: Final[Mapping[str, type]] = {kind.__name__: kind for kind in get_args(Observation)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """
    One thing that happened.

    Attributes:
        at_s: When [s].
        observation: What was observed; None: a provider was deleted.
        provider: Which was deleted; empty: none.
        news: What was new after it.
    """

    at_s: float
    observation: Observation | None = None
    provider: str = ""
    news: tuple[News, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejudged:
    """
    One entry judged again; `replay` and `fleet_replay` say by it what they decided again.

    Attributes:
        at_s: When it happened [s].
        kind: The observation's name, or `Forgotten`.
        fields: Those of the observation, as JSON.
        told: The news (effects, moves) that were recorded, as JSON.
        now: What it gives now.
        is_same: Whether they are the same.
    """

    at_s: float
    kind: str
    fields: Mapping[str, Any]
    told: list[dict[str, Any]]
    now: list[dict[str, Any]]

    is_same: bool


def record(
    rules: Rules, before: Standing, entries: Iterable[Entry], after: Standing
) -> dict[str, Any]:
    """Return a recording as JSON values."""
    return {
        "format": FORMAT,
        "rules": plain(rules),
        "before": plain(before),
        "entries": [_line(entry) for entry in entries],
        "after": _verdicts(after),
    }


def rejudge(recording: Mapping[str, Any]) -> tuple[list[Rejudged], list[str]]:
    """
    Judge again.

    Returns:
        Every entry in its order, and what of the verdicts after the last one is not as recorded.

    Raises:
        ConfigError: It is no recording of this format.
    """
    if recording.get("format") != FORMAT:
        raise ConfigError(f"not a recording of format {FORMAT}")
    seen = as_compared(has_changed_reasons=bool(recording.get("has_changed_reasons")))
    rules = value_of(Rules, recording.get("rules"))
    standing: Standing = value_of(Standing, recording.get("before"))
    lines, found = recording.get("entries"), list[Rejudged]()
    if not isinstance(lines, list):
        raise ConfigError("the recording has no entries")
    for line in lines:
        at_s, kind, rest, told = _read(line)
        news: tuple[News, ...] = ()
        if kind == FORGOTTEN:
            standing = forget(standing, value_of(str, rest.get("provider")))
        else:
            observation = value_of(_KINDS[kind], rest)
            standing, news = judge(rules, standing, observation, at_s)
        now = [plain(one) for one in news]
        is_same = seen(told) == seen(now)
        one = Rejudged(at_s=at_s, kind=kind, fields=rest, told=told, now=now, is_same=is_same)
        found.append(one)
    told_after, now_after = recording.get("after"), _verdicts(standing)
    if not isinstance(told_after, dict):
        raise ConfigError("the recording has no verdicts after it")
    differences = [
        f"{name}: recorded {_said(told_after.get(name))}, now {_said(now_after.get(name))}"
        for name in sorted({*told_after, *now_after})
        if seen(told_after.get(name)) != seen(now_after.get(name))
    ]
    return found, differences


def as_compared(*, has_changed_reasons: bool) -> Callable[[Any], Any]:
    """Return what makes JSON values comparable: without reasons, if those were rewritten."""
    return _without_reasons if has_changed_reasons else _as_it_is


def _as_it_is(value: Any) -> Any:
    return value


def _without_reasons(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_reasons(inner) for k, inner in value.items() if k != "because"}
    return [_without_reasons(inner) for inner in value] if isinstance(value, list) else value


def _said(verdict: Any) -> str:
    if not isinstance(verdict, dict):
        return "nothing"
    return ", ".join(f"{name} {verdict.get(name)}" for name in ("word", "share", "because"))


def _line(entry: Entry) -> dict[str, Any]:
    kind = FORGOTTEN if entry.observation is None else type(entry.observation).__name__
    said = {"provider": entry.provider} if entry.observation is None else plain(entry.observation)
    line = {"at_s": entry.at_s, "observation": kind, **said}
    return {**line, "news": [plain(one) for one in entry.news]} if entry.news else line


def _read(line: Any) -> tuple[float, str, dict[str, Any], list[dict[str, Any]]]:
    try:
        rest = dict(line)
        at_s, kind, told = value_of(float, rest.pop("at_s")), rest.pop("observation"), []
        if "news" in rest:
            told = list(rest.pop("news"))
        if kind != FORGOTTEN and kind not in _KINDS:
            raise ValueError(kind)
    except (KeyError, TypeError, ValueError):
        raise ConfigError("an entry of the recording is none") from None
    return at_s, kind, rest, told


def _verdicts(standing: Standing) -> dict[str, Any]:
    """Return the verdict on each provider and each of its regions."""
    found = {}
    for name in standing.cases:
        case = standing.case(name)
        found[name] = plain(standing.verdict(name))
        for region, cell in case.cells.items():
            if region is not None:
                found[f"{name} in {region}"] = plain(cell.verdict)
    return found

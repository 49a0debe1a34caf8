"""In which order providers are asked, and what a change of the backend's list means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .health import Standing
from .listing import ProviderList


def order(listed: ProviderList) -> tuple[str, ...]:
    """Return the active providers, best first: the default, then by priority, ties as listed."""
    names = [
        entry.name
        for entry in sorted(listed.providers, key=lambda e: e.priority)
        if entry.is_active
    ]
    if listed.default in names:
        names.remove(listed.default)
        names.insert(0, listed.default)
    return tuple(names)


def eligible(
    listed: ProviderList, standing: Mapping[str, Standing], now: float
) -> tuple[str, ...]:
    """
    Return whom a stream may be given to at `now`, best first.

    The banned come last: better a doubtful provider than none. Never: the disabled, and those
    that asked us to stay away.
    """
    welcome = [name for name in order(listed) if standing[name].not_before_s <= now]
    return tuple(sorted(welcome, key=lambda name: not standing[name].breaker.admits))


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """
    The difference between two successive lists.

    Attributes:
        disabled: Providers that were active before and are not now.
        preferred: The new first choice, if the first choice changed; None: it did not, or there
            is none now.
    """

    disabled: frozenset[str]
    preferred: str | None


def change(before: ProviderList, after: ProviderList) -> Change | None:
    """
    Return what changed, or None.

    Only a difference between two lists moves a stream, never one between the list and the leg on
    air: so an unchanged list never pulls a stream back after a failover.
    """
    was, now = order(before), order(after)
    if was == now:
        return None
    preferred = now[0] if now and (not was or was[0] != now[0]) else None
    return Change(disabled=frozenset(was) - frozenset(now), preferred=preferred)

"""Adapters, one file each. `load` finds them by name through entry points."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points

from ..errors import ConfigError
from .base import Leg, Provider, ViewLeg


__all__ = ["ENTRY_POINT_GROUP", "Leg", "Provider", "ViewLeg", "installed", "load"]

ENTRY_POINT_GROUP = "hitless.providers"


def installed() -> tuple[str, ...]:
    """Return the names of all installed adapters."""
    return tuple(sorted(point.name for point in entry_points(group=ENTRY_POINT_GROUP)))


def load(adapter: str) -> Callable[..., Provider]:
    """
    Return what makes providers of the kind `adapter`: `load("whip")("mine", url=...)`.

    Raises:
        ConfigError: No installed package offers it; the message lists those that are offered.
    """
    for point in entry_points(group=ENTRY_POINT_GROUP):
        if point.name == adapter:
            factory: Callable[..., Provider] = point.load()
            return factory
    offered = ", ".join(installed()) or "none"
    raise ConfigError(f"no adapter called {adapter!r}; installed: {offered}")

"""What a backend says of its providers: a list in order, and answers of health checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """
    One entry of the list.

    Attributes:
        name: Provider name, as the backend writes it.
        is_active: False: disabled; it is never tried.
        priority: Lowest first; ties keep the order of the list.
        config: Public configuration only, never a secret.
        streams: How many streams it carries; 0: the backend does not say.
        starts_per_s: How many starts it accepts [1/s]; 0: the backend does not say.
    """

    name: str
    is_active: bool = True
    priority: int = 0
    config: Mapping[str, Any] = field(default_factory=dict)
    streams: int = field(default=0, compare=False)  # another number is no other list
    starts_per_s: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderList:
    """
    A list of providers, by priority.

    Attributes:
        providers: Lowest priority number first, ties in the order they came.
        default: The provider the backend names as default; None: the first active one is.
        warnings: What was wrong with the answer, in words; the rest of it was used.
    """

    providers: tuple[Listed, ...]
    default: str | None = None
    warnings: tuple[str, ...] = ()


class Answer(StrEnum):
    """What a health check came to."""

    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    """The backend says `healthy: false`: an order."""
    DISABLED = "disabled"
    """The backend says that operators do not want it used: no failure, and the list decides."""
    UNANSWERED = "unanswered"
    """Timeout, refused connection, 5xx or bad JSON: a failed check."""
    WARNING = "warning"
    """401, 403, 404 or 429: about us, not about the provider."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One health check: of whom, the answer, why in words, and how long it took [s]."""

    provider: str
    answer: Answer
    because: str
    latency_s: float | None = None

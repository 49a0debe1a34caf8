"""
Whom to ask next, and when: the one retry loop there is.

    agora, agora, zegocloud, webrtc   -> then AllProvidersFailed, with one error per attempt

One first attempt plus at most `max_retries`; one retry on the same provider when its error
advises so, then one attempt on each next provider, never round again within one operation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import Retry
from .policy import Policy


PATIENCE_S = 1.0
"""A Retry-After beyond this makes the next provider the quicker one [s] (DESIGN 4.1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """
    Why an attempt failed: a `ProviderError` as a value.

    Attributes:
        error: Name of the error's class.
        because: In words.
        retry: What the adapter advises.
        retry_after_s: How long the provider asked us to stay away [s].
        answered: Whether anything came back at all.
        is_local: A `LocalFault`: nobody else is blamed.
    """

    error: str
    because: str
    retry: Retry = Retry.NEXT
    retry_after_s: float | None = None
    answered: bool = True
    is_local: bool = False

    @property
    def asks_again(self) -> bool:
        """Whether the same provider is worth another attempt, and soon."""
        return self.retry is Retry.SAME and (self.retry_after_s or 0.0) <= PATIENCE_S

    @property
    def blames_nobody(self) -> bool:
        """Whether it is a fault of this machine or of the caller."""
        return self.is_local or self.retry is Retry.NEVER


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt: on whom, by which leg, and how it failed (None: it succeeded)."""

    provider: str
    leg: int
    failure: Failure | None = None


def choose(
    order: Sequence[str],
    tried: Sequence[Attempt],
    *,
    same_provider_retries: int,
    max_attempts: int,
) -> str | None:
    """Return the provider to ask next, or None when this operation has used its attempts."""
    if len(tried) >= max_attempts:
        return None
    if tried:
        last = tried[-1]
        # Only the first one is asked again: `agora, agora, zegocloud, webrtc`.
        is_first = all(attempt.provider == last.provider for attempt in tried)
        again = is_first and last.failure is not None and last.failure.asks_again
        if again and len(tried) <= same_provider_retries and last.provider in order:
            return last.provider
    names = {attempt.provider for attempt in tried}
    return next((name for name in order if name not in names), None)


def delay_s(policy: Policy, retries: int, jitter: float) -> float:
    """
    Return how long to wait before retry number `retries` (from 0) on the same provider [s].

    Full jitter: uniform in [0, min(cap, base * 2^retries)] (M. Brooker, "Exponential Backoff And
    Jitter", AWS Architecture Blog, 2015).

    Args:
        policy: Base and cap.
        retries: How many retries went before.
        jitter: Uniform in [0, 1).
    """
    return jitter * min(policy.retry_delay_s_max, policy.retry_delay_s * 2.0 ** min(retries, 30))

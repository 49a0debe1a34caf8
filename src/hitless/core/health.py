"""
The standing of a provider: one count of failures in a row, one circuit, one penalty.

Failed checks and streaming errors count alike; at `max_failures` the circuit opens. A success
resets the count, with one exception: "healthy" from a health endpoint does not excuse a provider
whose media failed while that endpoint said healthy all along, for media evidence beats a health
endpoint in both directions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from .circuit import Breaker, Circuit, Signal
from .policy import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """
    What is known of one provider.

    Attributes:
        failures: Failures in a row.
        breaker: Its circuit.
        is_healthy: The last answer of its health check; None: never asked or never answered.
        checked_s: When it was last checked [s]; None: never.
        because: The last failure, in words; empty: none since the last success.
        has_failed_media: Its media failed and its health endpoint has not agreed since.
        penalty: How often it failed on air lately; halves every `damping_half_life_s`.
        penalty_s: When `penalty` was last brought up to date: its last failure on air [s].
        lived_s: How long it carried media before it last failed on air [s].
        relapse_s: Time between its last two failures on air, if they belong together [s].
        not_before_s: It asked us to stay away until then [s].
    """

    failures: int = 0
    breaker: Breaker = field(default_factory=Breaker)
    is_healthy: bool | None = None
    checked_s: float | None = None
    because: str = ""
    has_failed_media: bool = False
    penalty: float = 0.0
    penalty_s: float = 0.0
    lived_s: float = 0.0
    relapse_s: float = 0.0
    not_before_s: float = 0.0

    def penalty_at(self, policy: Policy, now: float) -> float:
        """Return the penalty decayed to `now`."""
        return float(self.penalty * 0.5 ** ((now - self.penalty_s) / policy.damping_half_life_s))

    def calm_s(self, policy: Policy, limit: float) -> float:
        """Return when the penalty has decayed to below `limit` [s]; -inf: it is there."""
        if self.penalty < limit:
            return float("-inf")
        # One millionth on top: rounding must not leave it at the limit when the time has come.
        halves = math.log2(self.penalty / limit) + 1e-6
        return self.penalty_s + policy.damping_half_life_s * halves


def failed(
    policy: Policy, standing: Standing, because: str, now: float, *, lived_s: float | None = None
) -> Standing:
    """
    Return the standing after one failure.

    Args:
        policy: The limits.
        standing: The standing before.
        because: What failed, in words.
        now: When [s].
        lived_s: It lost the media of a running stream, carried for so long [s], that another
            provider then carried. That is proof enough to open the circuit at once, and it is
            what damping counts. None: it was another kind of failure.
    """
    on_air = lived_s is not None
    count = standing.failures + 1
    trips = (
        on_air or count >= policy.max_failures or standing.breaker.circuit is not Circuit.CLOSED
    )
    breaker = standing.breaker
    if trips:
        breaker = breaker.after(
            Signal.FAILURE, now, ban_s=policy.ban_s, ban_s_max=policy.ban_s_max
        )
    after = replace(
        standing,
        failures=max(count, policy.max_failures) if on_air else count,
        breaker=breaker,
        because=because,
    )
    if lived_s is not None:
        since_s = now - standing.penalty_s if standing.penalty else float("inf")
        after = replace(
            after,
            has_failed_media=True,
            penalty=standing.penalty_at(policy, now) + 1.0,
            penalty_s=now,
            lived_s=lived_s,
            relapse_s=since_s if since_s <= 2 * policy.damping_half_life_s else 0.0,
        )
    return after


def succeeded(policy: Policy, standing: Standing, now: float) -> Standing:
    """Return the standing after a success that counts: media, or a credible healthy answer."""
    breaker = standing.breaker.after(
        Signal.SUCCESS, now, ban_s=policy.ban_s, ban_s_max=policy.ban_s_max
    )
    return replace(standing, failures=0, breaker=breaker, because="", has_failed_media=False)


def cooled(policy: Policy, standing: Standing, now: float) -> Standing:
    """Return the standing at `now`: a ban that has run out becomes a trial."""
    breaker = standing.breaker
    if breaker.circuit is Circuit.OPEN and now >= breaker.banned_until_s:
        breaker = breaker.after(Signal.COOLED, now, ban_s=policy.ban_s, ban_s_max=policy.ban_s_max)
        return replace(standing, breaker=breaker)
    return standing

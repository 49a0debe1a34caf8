"""Random policies."""

from __future__ import annotations

import random

from hitless.core.policy import Policy, ReturnPolicy


def a_policy(rng: random.Random) -> Policy:
    """Return a random policy that a user could have written."""
    return Policy(
        max_retries=rng.choice([0, 1, 3, 3, 5]),
        same_provider_retries=rng.choice([0, 1, 1, 2]),
        same_provider_retries_on_air=rng.choice([0, 0, 0, 1]),
        retry_delay_s=rng.choice([0.0, 0.1, 0.1, 0.5]),
        retry_delay_s_max=rng.choice([0.5, 2.0]),
        start_s_max=rng.choice([2.0, 15.0, 15.0]),
        first_media_s=rng.choice([1.0, 3.0]),
        health_interval_s=rng.choice([2.0, 5.0, 30.0]),
        health_timeout_s=rng.choice([0.5, 5.0]),
        max_failures=rng.choice([1, 3, 3]),
        media_beats_health=rng.random() < 0.7,
        ban_s=rng.choice([2.0, 10.0]),
        ban_s_max=300.0,
        retry_after_s_max=rng.choice([5.0, 300.0]),
        return_policy=rng.choice([ReturnPolicy.STAY, ReturnPolicy.RETURN]),
        return_after_s=rng.choice([0.0, 3.0, 10.0]),
        damping_half_life_s=rng.choice([10.0, 120.0]),
        overlap_s=rng.choice([None, 0.0, 3.0]),
        silent_leg_s=rng.choice([1.0, 5.0]),
        end_grace_s=rng.choice([2.0, 5.0]),
        give_up_s=rng.choice([20.0, 300.0]),
        network_grace_s=rng.choice([0.0, 5.0]),
    )

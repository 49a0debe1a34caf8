"""hitless.core.health"""

import pytest

from hitless.core import health
from hitless.core.circuit import Circuit
from hitless.core.health import Standing
from hitless.core.policy import Policy


POLICY = Policy()


def failing(times, standing=None, **kinds):
    """Return a standing after so many failures, one a second."""
    standing = standing or Standing()
    for second in range(times):
        standing = health.failed(POLICY, standing, "it failed", float(second), **kinds)
    return standing


def test_the_third_failure_in_a_row_opens_the_circuit():
    """
    `max_failures`, and not one before.
    """
    assert failing(2).breaker.circuit is Circuit.CLOSED
    assert failing(3).breaker.circuit is Circuit.OPEN


def test_a_success_resets_the_count():
    """
    Two, a success, two: nothing happens.
    """
    standing = health.succeeded(POLICY, failing(2), 5.0)

    assert failing(2, standing).breaker.circuit is Circuit.CLOSED


def test_one_failed_trial_is_enough():
    """
    Half-open means that the next result decides.
    """
    on_trial = health.cooled(POLICY, failing(3), 100.0)
    assert on_trial.breaker.circuit is Circuit.HALF_OPEN

    again = health.failed(POLICY, on_trial, "it failed", 100.0)

    assert again.breaker.circuit is Circuit.OPEN
    assert again.breaker.banned_until_s == pytest.approx(120.0)


def test_media_lost_on_air_opens_the_circuit_at_once():
    """
    A running stream is proof enough.
    """
    standing = failing(1, lived_s=60.0)

    assert standing.breaker.circuit is Circuit.OPEN
    assert standing.has_failed_media
    assert standing.penalty == pytest.approx(1.0)


def test_a_ban_ends_in_its_own_time():
    """
    Not a moment before.
    """
    banned = failing(3)

    assert health.cooled(POLICY, banned, 11.9).breaker.circuit is Circuit.OPEN
    assert health.cooled(POLICY, banned, 12.0).breaker.circuit is Circuit.HALF_OPEN


def test_a_penalty_halves_in_its_half_life():
    """
    Flapping is remembered, and forgiven.
    """
    standing = failing(1, lived_s=60.0)

    assert standing.penalty_at(POLICY, 120.0) == pytest.approx(0.5)
    assert standing.calm_s(POLICY, 0.5) == pytest.approx(120.0, abs=0.01)
    assert standing.penalty_at(POLICY, standing.calm_s(POLICY, 0.5)) < 0.5


def test_two_failures_on_air_that_belong_together_are_a_relapse():
    """
    And two that are hours apart are not.
    """
    first = failing(1, lived_s=60.0)
    soon = health.failed(POLICY, first, "it failed", 30.0, lived_s=5.0)
    late = health.failed(POLICY, first, "it failed", 9000.0, lived_s=5.0)

    assert soon.relapse_s == pytest.approx(30.0)
    assert soon.lived_s == pytest.approx(5.0)
    assert late.relapse_s == 0.0

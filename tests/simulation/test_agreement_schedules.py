"""
Random schedules against the agreement: seeds in, invariants checked after every step.

HITLESS_SCHEDULES says how many (default 1000). To see seed 17 again, line by line:

    HITLESS_SEED=17 pytest tests/simulation/test_agreement_schedules.py -k one_schedule -s
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from dataclasses import replace

import pytest
from simulation.agreement_invariants import Broken, Rules
from simulation.agreement_world import World

from hitless.core import agreement


CASES = 10
"""The schedules are spread over so many tests, so that several processes can share them."""

SCHEDULES = int(os.environ.get("HITLESS_SCHEDULES", "1000"))
SEED = os.environ.get("HITLESS_SEED")

REMARKABLE = {
    "a message is lost",
    "a placement is obeyed",
    "a publisher is fenced",
    "a publisher moves alone",
    "a publisher is stopped",
    "a claim is refused",
    "a node is killed",
    "a node is cut off",
    "an operator moves",
    "the clock jumps",
    "the store is lost",
    "the store is corrected",
}


def live(seed, rules=None):
    """Live through one schedule and return it; a broken invariant names its seed."""
    world = World(seed, rules)
    try:
        return world.run()
    except AssertionError as exc:
        raise Broken(
            f"seed {seed}, at {world.now:.3f} s: {exc}\nagain: HITLESS_SEED={seed} "
            "pytest tests/simulation/test_agreement_schedules.py -k one_schedule -s"
        ) from exc


def live_all(seeds, rules=None):
    """Live through many schedules and return how often each kind of thing happened."""
    met = Counter()
    for seed in seeds:
        met.update(live(seed, rules).met)
    return met


@pytest.mark.parametrize("case", range(CASES))
def test_all_agree_after_any_schedule(case):
    """
    Each epoch is one placement, nobody obeys an older one, and all go by the last in the end.
    """
    met = live_all(range(case, SCHEDULES, CASES))

    assert SCHEDULES < 500 or set(met) >= REMARKABLE, "the schedules do not meet what they are for"


if SEED is not None:

    def test_one_schedule():
        """
        The one schedule that HITLESS_SEED names, with all that happens in it.
        """
        World(int(SEED), tell=sys.stdout.write).run()


@pytest.mark.parametrize("seed", range(5))
def test_the_same_seed_makes_the_same_schedule(seed):
    """
    Nothing depends on anything but the seed.
    """
    told = [[], []]
    for lines in told:
        World(seed, tell=lines.append).run()

    assert told[0] == told[1]
    assert len(told[0]) > 5


def claimed_whatever_it_is_based_on(row, claim):
    """Compare and set, without the comparison."""
    base = row.epoch if row is not None else claim.base_epoch
    return agreement.claimed(row, replace(claim, base_epoch=base))


def told_twice(follower, placement):
    """A client obeys an epoch that is equal to its own."""
    return agreement.told(replace(follower, epoch=max(0, follower.epoch - 1)), placement)


def never_returned(row, shown):
    """A store that has lost something is not corrected."""


@pytest.mark.parametrize(
    "broken",
    [
        Rules(claimed=claimed_whatever_it_is_based_on),
        Rules(told=told_twice),
        Rules(returned=never_returned),
    ],
    ids=["compare-and-set", "obeying", "correcting"],
)
def test_a_broken_rule_is_found_within_a_hundred_schedules(broken):
    """
    And the error says which seed shows it.
    """
    with pytest.raises(Broken, match="HITLESS_SEED="):
        live_all(range(100), broken)

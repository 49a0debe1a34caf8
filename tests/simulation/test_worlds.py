"""
Random worlds against the core: seeds in, invariants checked after every step.

HITLESS_WORLDS says how many (default 300). To see seed 17 again:

    HITLESS_WORLD=17 pytest tests/simulation/test_worlds.py -k one_world -s
"""

from __future__ import annotations

import json
import os
import sys

import pytest
from simulation.world import World

from hitless.core.replay import encode, header, replay
from hitless.core.state import MOVES


CASES = 20
"""The worlds are spread over so many tests, so that several processes can share them."""

WORLDS = int(os.environ.get("HITLESS_WORLDS", "300"))
WORLD = os.environ.get("HITLESS_WORLD")


def live(seed):
    """Live through one world and return it; a broken invariant names its seed."""
    world = World(seed)
    try:
        world.run()
    except AssertionError as exc:
        raise AssertionError(
            f"world {seed}, at {world.now:.3f} s, step {world.steps}: {exc}\n"
            f"again: HITLESS_WORLD={seed} pytest tests/simulation/test_worlds.py -k one_world -s"
        ) from exc
    return world


@pytest.mark.parametrize("case", range(CASES))
def test_invariants_hold_in_any_world(case):
    """
    Whatever happens: see `invariants.Checker` and `World._look`.
    """
    seeds = range(case, WORLDS, CASES)
    steps = sum(live(seed).steps for seed in seeds)

    assert steps >= len(seeds)


if WORLD is not None:

    def test_one_world():
        """
        The one world that HITLESS_WORLD names, with all that happens in it on the way.
        """
        world = World(int(WORLD))
        try:
            world.run()
        finally:
            for client in world.clients:
                for now, event, effects in client.record:
                    sys.stdout.write(f"{now:9.3f} {client.name} {event}\n")
                    sys.stdout.writelines(f"{'':12}-> {effect}\n" for effect in effects)


@pytest.mark.parametrize("seed", range(5))
def test_the_same_seed_makes_the_same_world(seed):
    """
    Nothing depends on anything but the seed.
    """
    first, second = live(seed), live(seed)

    assert [client.record for client in first.clients] == [
        client.record for client in second.clients
    ]


@pytest.mark.parametrize("seed", range(10))
def test_a_record_of_a_world_replays_with_the_same_effects(seed):
    """
    Byte for byte, after a trip through JSON.
    """
    world = live(seed)
    for client in world.clients:
        lines = [header(world.policy, client.seed)]
        lines += [encode(event, now) for now, event, _ in client.record]
        again = [json.loads(json.dumps(line)) for line in lines]
        effects = [effects for _, _, effects, _ in replay(again)]

        assert repr(effects) == repr([effects for _, _, effects in client.record])


def test_every_legal_move_really_happens():
    """
    The table of phases lists nothing that no world ever does.
    """
    seen = set()
    table = {(a, b) for a, targets in MOVES.items() for b in targets}
    for seed in range(300):
        for client in live(seed).clients:
            seen |= client.checker.moves
        if seen == table:
            break

    assert seen == table

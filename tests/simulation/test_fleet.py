"""
Ten thousand streams lose their provider: what do the others get to feel?

Several nodes, each with its own streams and nothing else but the event, in simulated time and
without an event loop. Nodes hear of the event late, deal anew each second, die and leave their
streams to others; streams go dark on the way. The events name how many streams each node has,
sometimes wrongly.
"""

from __future__ import annotations

import functools
import random
from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from hitless.core.evidence import Rules
from hitless.core.fleet import Due, FleetMove, Moving, NodeShare, due
from hitless.core.rails import Candidate, allowed, targets
from hitless.core.rendezvous import Constraint, keys_of, place


COUNT = 10_000
WEIGHTS = {"agora": 35.0, "livekit": 20.0, "webrtc": 15.0, "zegocloud": 30.0}
ACCEPTS = {"agora": 200.0, "livekit": 250.0, "webrtc": 50.0, "zegocloud": 400.0}
IDS = [f"talk-{number}" for number in range(COUNT)]
BEGUN_S = 1_790_000_000.0
"""A time of this century: its resolution is part of the world [s]."""

TICK_S = 2.0
"""Each node deals anew so often [s]."""


@functools.cache
def born():
    """Return every stream where it belongs: placed once."""
    keys = keys_of(IDS)
    placed = place(keys, WEIGHTS)
    return tuple(
        Moving(id=one, key=int(keys[n]), provider=placed.name(n) or "", has_media=True)
        for n, one in enumerate(IDS)
    )


@dataclass
class World:
    """
    Nodes with their streams.

    Attributes:
        nodes: For each node the streams that it owns, by id.
        made: Every move that was carried out, in order.
        waiting: What each node has dealt last.
    """

    nodes: dict[str, dict[str, Moving]]
    made: list[Due] = field(default_factory=list)
    waiting: dict[str, tuple[Due, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, streams, parts, seed=1):
        """Give each node its part of the streams, by chance."""
        rng = random.Random(seed)
        owned = rng.choices(range(len(parts)), parts, k=len(streams))
        nodes = {f"n{number}": {} for number in range(len(parts))}
        for stream, number in zip(streams, owned, strict=True):
            nodes[f"n{number}"][stream.id] = stream
        return cls(nodes)

    def shares(self, source):
        """Return what an event says of each node."""
        return {
            name: NodeShare(
                dark=sum(s.provider == source and not s.has_media for s in owned.values()),
                live=sum(s.provider == source and s.has_media for s in owned.values()),
            )
            for name, owned in self.nodes.items()
        }

    def tick(self, move, now_s, *, deaf=(), is_frozen=False):
        """Let every node deal anew at `now_s`, and carry out what is due until the next tick."""
        for name, owned in self.nodes.items():
            if name not in deaf:
                dealt = due(move, owned.values(), node=name, now_s=now_s, is_frozen=is_frozen)
                self.waiting[name] = dealt.moves
        for name, owned in self.nodes.items():
            for one in self.waiting.get(name, ()):
                if now_s <= one.at_s < now_s + TICK_S and one.stream in owned:
                    owned[one.stream] = replace(
                        owned[one.stream], provider=one.target, has_media=True
                    )
                    self.made.append(one)

    def run(self, move, *, limit_s=600.0):
        """Tick until nobody has anything left to do; return how long it took [s]."""
        for turn in range(int(limit_s / TICK_S)):
            self.tick(move, BEGUN_S + turn * TICK_S)
            if not any(
                one.at_s >= BEGUN_S + (turn + 1) * TICK_S
                for name in self.nodes
                for one in self.waiting[name]
            ):
                return (turn + 1) * TICK_S
        raise AssertionError(f"not over after {limit_s:g} s")

    def counts(self):
        """Return how many streams each provider has."""
        return Counter(s.provider for owned in self.nodes.values() for s in owned.values())


def leaving(world, source="agora", **known):
    """Return the event that empties `source` by configured weight."""
    return FleetMove(
        **{
            "id": "m1",
            "source": source,
            "weights": {name: w for name, w in WEIGHTS.items() if name != source},
            "configured": WEIGHTS,
            "starts_per_s": {name: rate for name, rate in ACCEPTS.items() if name != source},
            "shares": world.shares(source),
            "begun_s": BEGUN_S,
            "because": f"{source} is down",
            **known,
        }
    )


def offered_at_most(made, bin_s):
    """Return the fullest bin of each target, from the beginning on, as a part of its limit."""
    fullest = {}
    for target in {one.target for one in made}:
        times_s = np.array([one.at_s for one in made if one.target == target]) - BEGUN_S
        _, counts = np.unique(np.floor(times_s / bin_s), return_counts=True)
        fullest[target] = float(max(counts)) / (ACCEPTS[target] * bin_s)
    return fullest


def check_pace(made):
    """No bin of 100 ms and none of 1 s of any target is offered more than it accepts."""
    for bin_s in (0.1, 1.0):
        fullest = offered_at_most(made, bin_s)
        assert max(fullest.values()) <= 1.0, (bin_s, fullest)
    assert max(Counter(one.stream for one in made).values()) == 1


def darkened(streams, part, seed=2):
    """Return the streams with so large a part of agora's gone dark, by chance."""
    rng = random.Random(seed)
    return [
        replace(s, has_media=not (s.provider == "agora" and rng.random() < part)) for s in streams
    ]


@pytest.mark.parametrize("parts", [(1, 1), (3, 1), (1, 1, 1), (5, 3, 1)])
@pytest.mark.parametrize("dark", [0.0, 1.0])
def test_no_target_is_offered_more_than_it_accepts(parts, dark):
    """
    All streams are moved, each once, those of other providers never, and in the time that the
    slowest target takes for its part at the margin.
    """
    world = World.of(darkened(born(), dark), parts)
    before = world.counts()
    move = leaving(world)
    took_s = world.run(move)

    check_pace(world.made)
    assert len(world.made) == before["agora"]
    after = world.counts()
    assert after["agora"] == 0
    slowest_s = max((after[name] - before[name]) / ACCEPTS[name] for name in move.targets)
    assert took_s <= 2.0 + 1.25 * slowest_s + 2 * TICK_S
    assert max(offered_at_most(world.made, 1.0).values()) >= 0.85


@pytest.mark.parametrize("parts", [(1, 1), (5, 3, 1)])
def test_dark_streams_are_all_moved_before_the_first_with_media(parts):
    """
    Over all nodes and targets, although one node has nearly all the dark ones.
    """
    world = World.of(born(), parts)
    for name, part in zip(world.nodes, (0.5, 0.02, 0.1), strict=False):
        world.nodes[name] = {s.id: s for s in darkened(world.nodes[name].values(), part)}
    dark = {s.id for owned in world.nodes.values() for s in owned.values() if not s.has_media}
    world.run(leaving(world))

    last_dark_s = max(one.at_s for one in world.made if one.stream in dark)
    first_live_s = min(one.at_s for one in world.made if one.stream not in dark)
    assert len(dark) > 500
    assert last_dark_s < first_live_s
    check_pace(world.made)


@pytest.mark.parametrize("seed", range(3))
def test_the_pace_holds_when_events_are_late_counts_are_wrong_and_nodes_die(seed):
    """
    Whatever the nodes know, no slot belongs to two of them. A dead node takes its slots along,
    so a new event replaces the first when it is known to be dead.
    """
    rng = random.Random(seed)
    world = World.of(darkened(born(), rng.choice([0.0, 0.1, 0.5])), (2, 2, 1), seed)
    wrong = {name: NodeShare(live=rng.randrange(500, 3000)) for name in world.nodes}
    move = leaving(world, shares=wrong, live_per_minute=rng.choice([None, 3000]))
    deaf = {name: rng.randrange(3) for name in world.nodes}
    dies = rng.randrange(2, 5)
    for turn in range(100):
        now_s = BEGUN_S + turn * TICK_S
        if turn == dies:
            dead = rng.choice(sorted(world.nodes))
            orphans = world.nodes.pop(dead)
            heirs = sorted(world.nodes)
            for one in orphans.values():
                world.nodes[rng.choice(heirs)][one.id] = one
        if turn == dies + 3:
            move = leaving(world, id="m2", begun_s=now_s, live_per_minute=move.live_per_minute)
        for owned in world.nodes.values():
            some = rng.sample(sorted(owned), 5)
            owned |= {
                one: replace(owned[one], has_media=False)
                for one in some
                if owned[one].provider == "agora"
            }
        world.tick(move, now_s, deaf={name for name, until in deaf.items() if turn < until})
        if not world.counts()["agora"]:
            break

    assert world.counts()["agora"] == 0
    check_pace(world.made)


def test_a_freeze_holds_from_the_next_deal_on_and_a_thaw_makes_up_for_nothing():
    """
    Dark streams go on; after the thaw the pace is what it was.
    """
    world = World.of(born(), (1, 1))
    move = leaving(world)
    for turn in range(20):
        is_frozen = 3 <= turn < 8
        if turn == 4:
            dark = {s.id for s in world.nodes["n0"].values() if s.provider == "agora"}
            dark = set(sorted(dark)[:50])
            world.nodes["n0"] |= {
                one: replace(world.nodes["n0"][one], has_media=False) for one in dark
            }
        world.tick(move, BEGUN_S + turn * TICK_S, is_frozen=is_frozen)

    frozen = {one.stream for one in world.made if 6.0 <= one.at_s - BEGUN_S < 16.0}
    assert frozen == dark
    assert world.counts()["agora"] == 0
    check_pace(world.made)


def test_a_cap_bounds_every_minute_of_the_whole_fleet():
    """
    Three nodes, three targets: a tenth of all streams a minute with media, all dark ones
    at once.
    """
    world = World.of(darkened(born(), 0.5), (5, 3, 1))
    healthy = set(WEIGHTS) - {"agora"}
    decision = allowed(
        "agora", active=set(WEIGHTS), healthy=healthy, streams=COUNT
    ).live_per_minute
    assert decision == 1000
    dark = {s.id for owned in world.nodes.values() for s in owned.values() if not s.has_media}
    world.run(leaving(world, live_per_minute=decision))

    live_s = np.array([one.at_s for one in world.made if one.stream not in dark])
    live_s.sort()
    within = np.searchsorted(live_s, live_s + 60.0 - 1e-6) - np.arange(len(live_s))
    assert 0.8 * decision <= max(within) <= decision
    check_pace(world.made)


def test_full_targets_get_their_room_and_the_rest_stays():
    """
    From head-room to weights to moves: the loads are as planned, but for what hashing varies.
    """
    world = World.of(born(), (1, 1))
    before = world.counts()
    room = {"livekit": 300, "webrtc": 200, "zegocloud": 1500}
    fleet = {
        name: Candidate(
            weight=weight,
            starts_per_s=ACCEPTS[name],
            streams=before[name],
            max_streams=before[name] + room.get(name, 0),
        )
        for name, weight in WEIGHTS.items()
    }
    found = targets("agora", fleet, dark=0, live=before["agora"])
    world.run(leaving(world, weights=found.weights, live_share=found.live_share))

    after = world.counts()
    assert found.staying == before["agora"] - 2000
    for name, count in room.items():
        assert abs(after[name] - before[name] - count) < 4 * count**0.5
    check_pace(world.made)


def test_a_provider_that_leaves_and_comes_back_in_steps_ends_with_exactly_its_streams():
    """
    Zero needless moves: each of its streams moves twice, nobody else's at all. The pace holds on
    the way back too.
    """
    world = World.of(born(), (1, 1, 1))
    home = {s.id: s.provider for s in born()}
    move = leaving(world)
    world.run(move)
    gone = len(world.made)
    back = 0
    for share in Rules().steps:
        world.made.clear()
        world.run(
            leaving(
                world,
                source=None,
                returning="agora",
                weights={**WEIGHTS, "agora": WEIGHTS["agora"] * share},
                starts_per_s={"agora": ACCEPTS["agora"]},
                shares={name: NodeShare(live=1) for name in world.nodes},
            )
        )
        check_pace(world.made)
        assert {home[one.stream] for one in world.made} == {"agora"}
        back += len(world.made)

    assert gone == back == sum(provider == "agora" for provider in home.values())
    assert {s.id: s.provider for owned in world.nodes.values() for s in owned.values()} == home


def test_whatever_fails_the_last_healthy_provider_keeps_its_streams():
    """
    One provider after the other looks down, in every order: what is left is never emptied, and
    when nothing is left nothing moves.
    """
    rng = random.Random(3)
    for _ in range(24):
        order = rng.sample(sorted(WEIGHTS), len(WEIGHTS))
        load = Counter(WEIGHTS)
        healthy = set(WEIGHTS)
        for number, source in enumerate(order):
            believed = healthy - {source}
            decision = allowed(source, active=set(WEIGHTS), healthy=believed, streams=COUNT)
            if decision.is_allowed:
                fleet = {
                    name: Candidate(starts_per_s=1.0, is_usable=name in believed)
                    for name in WEIGHTS
                }
                for name, part in targets(source, fleet, dark=1, live=0).weights.items():
                    load[name] += load[source] * part
                load[source] = 0
            healthy = believed
            assert decision.is_allowed is (number < len(order) - 1)
        assert load[order[-1]] == pytest.approx(sum(WEIGHTS.values()))


def test_streams_never_land_where_their_viewers_cannot_follow():
    """
    A third of the streams have viewers that open only two of the providers.
    """
    few = frozenset({"agora", "webrtc"})
    keys = keys_of(IDS)
    classes = (np.arange(COUNT) % 3 == 0).astype(np.int64)
    placed = place(keys, WEIGHTS, Constraint(can_open=(frozenset(WEIGHTS), few), classes=classes))
    streams = [
        Moving(
            id=one,
            key=int(keys[n]),
            provider=placed.name(n) or "",
            has_media=True,
            can_open=few if classes[n] else None,
        )
        for n, one in enumerate(IDS)
    ]
    world = World.of(streams, (1, 1))
    world.run(leaving(world))

    for owned in world.nodes.values():
        for one in owned.values():
            assert one.can_open is None or one.provider in one.can_open
    assert world.counts()["agora"] == 0
    check_pace(world.made)

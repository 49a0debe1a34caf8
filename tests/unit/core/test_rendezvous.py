"""hitless.core.rendezvous"""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hitless.core import rendezvous
from hitless.core.rendezvous import (
    Constraint,
    choose,
    draw,
    key,
    keys_of,
    place,
    place_next,
    share_of,
)
from hitless.errors import ConfigError


WEIGHTS = {"agora": 35.0, "janus": 5.0, "livekit": 20.0, "webrtc": 10.0, "zegocloud": 30.0}
KEYS = keys_of([f"stream-{number}" for number in range(100_000)])
WHOLE = place(KEYS, WEIGHTS)

names = st.sampled_from(sorted(WEIGHTS))
some_weights = st.dictionaries(names, st.just(0.0) | st.floats(1e-12, 1e12), max_size=5)
some_keys = st.lists(st.integers(0, 2**64 - 1), max_size=50)


def chosen(placed):
    """Return the provider of each key as text."""
    return np.array([*placed.names, None], object)[placed.index]


def by_hand(number, weights):
    """Return the choice by the recipe in the module's docstring, in plain Python."""
    costs = {}
    for name, weight in sorted(weights.items()):
        z = number ^ key(f"provider:{name}")
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
        z ^= z >> 31
        costs[name] = -math.log(((z >> 11) + 0.5) / 2**53) / weight
    return min(costs, key=costs.__getitem__)


def test_a_key_is_what_b2sum_writes_first():
    """
    `printf %s talk-1 | b2sum`: so that anybody can check it, and repeat it in any language.
    """
    assert key("talk-1") == 0x71D209CDF9691759
    assert key("Gespräch") == 0x9A9B6717FE98D967


def test_the_recipe_by_hand_gives_the_same_choice():
    """
    Plain Python, from the docstring alone; a last bit of `ln` decides in none of these.
    """
    sample = KEYS[:5000]

    assert chosen(place(sample, WEIGHTS)).tolist() == [
        by_hand(number, WEIGHTS) for number in sample.tolist()
    ]


def test_the_recipe_does_not_change_between_versions():
    """
    If it did, every stream would move at an upgrade.
    """
    assert [choose(f"talk-{number}", WEIGHTS) for number in range(8)] == [
        "livekit",
        "livekit",
        "webrtc",
        "agora",
        "zegocloud",
        "zegocloud",
        "janus",
        "zegocloud",
    ]


def test_one_stream_is_placed_as_among_many():
    """
    By its id or by its key.
    """
    many = chosen(WHOLE)

    for number in range(0, len(KEYS), 50):
        assert choose(int(KEYS[number]), WEIGHTS) == many[number]
        assert choose(f"stream-{number}", WEIGHTS) == many[number]


def test_chunks_leave_no_seam(monkeypatch):
    """
    Neither where one ends nor when the last is short or empty.
    """
    for chunk in (1, 7, 1000, 2000):
        monkeypatch.setattr(rendezvous, "CHUNK", chunk)
        assert np.array_equal(place(KEYS[:2000], WEIGHTS).index, WHOLE.index[:2000])


def test_each_provider_gets_its_share():
    """
    Within four standard deviations of a fair draw.
    """
    for name, count in WHOLE.counts().items():
        part = WEIGHTS[name] / sum(WEIGHTS.values())
        assert abs(count - part * len(KEYS)) < 4 * math.sqrt(part * (1 - part) * len(KEYS))


@pytest.mark.parametrize("gone", WEIGHTS)
def test_who_leaves_takes_only_its_own_streams_along_and_gets_the_same_back(gone):
    """
    Zero needless moves, there and back.
    """
    before = chosen(WHOLE)
    during = chosen(place(KEYS, {**WEIGHTS, gone: 0.0}))

    assert set(before[before != during]) == {gone}
    assert gone not in during
    assert np.array_equal(chosen(place(KEYS, dict(WEIGHTS))), before)


@pytest.mark.parametrize("gone", WEIGHTS)
def test_a_return_in_steps_moves_only_what_was_its_own_and_each_step_holds_the_last(gone):
    """
    At 5, 25, 50 and 100 % of its weight, and as many as that makes.
    """
    before, last = chosen(WHOLE), np.zeros(len(KEYS), bool)
    others = sum(WEIGHTS.values()) - WEIGHTS[gone]
    for step in (0.05, 0.25, 0.5, 1.0):
        weight = WEIGHTS[gone] * step
        now = chosen(place(KEYS, {**WEIGHTS, gone: weight}))
        back = now == gone
        part = weight / (others + weight)

        assert set(now[now != before]) <= set(WEIGHTS) - {gone}
        assert np.all(before[back] == gone)
        assert np.all(back[last])
        assert abs(back.mean() - part) < 4 * math.sqrt(part * (1 - part) / len(KEYS))
        last = back


def test_a_smaller_weight_moves_only_streams_of_that_provider():
    """
    A weight is a local matter.
    """
    before, after = chosen(WHOLE), chosen(place(KEYS, {**WEIGHTS, "agora": 28.0}))

    assert set(before[before != after]) == {"agora"}


def test_nobody_to_choose_from_is_an_answer():
    """
    No provider, or only such without weight.
    """
    assert choose("talk-1", {}) is None
    assert choose("talk-1", {"agora": 0.0}) is None
    assert place(KEYS[:3], {}).index.tolist() == [-1, -1, -1]
    assert place(KEYS[:0], WEIGHTS).counts() == dict.fromkeys(WEIGHTS, 0)


@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf, 1e-13, 1e13])
def test_a_weight_that_is_none_is_refused_by_name(weight):
    """
    Rather than placing streams by chance.
    """
    with pytest.raises(ConfigError, match="weight of agora"):
        choose("talk-1", {"agora": weight, "janus": 1.0})


def test_a_stream_goes_only_where_its_viewers_can_follow():
    """
    Every set of providers that a class may have, over three providers.
    """
    weights = {"agora": 3.0, "livekit": 2.0, "webrtc": 1.0}
    sets = [frozenset(c) for n in range(4) for c in itertools.combinations(weights, n)]
    classes = np.arange(4000) % len(sets)
    answer = chosen(place(KEYS[:4000], weights, Constraint(can_open=sets, classes=classes)))

    for number, name in enumerate(answer):
        can_open = sets[classes[number]]
        only = {one: weight for one, weight in weights.items() if one in can_open}
        assert name == choose(int(KEYS[number]), only)


@pytest.mark.parametrize("source", WEIGHTS)
def test_who_leaves_goes_to_its_second_choice_while_weights_are_as_configured(source):
    """
    The plan that a client was given names it, whatever scale the weights have.
    """
    own = KEYS[chosen(WHOLE) == source]
    rest = {name: weight for name, weight in WEIGHTS.items() if name != source}

    second = chosen(place(own, rest))
    assert np.array_equal(chosen(place_next(own, source, WEIGHTS, rest)), second)
    scaled = {name: weight * 1024.0 for name, weight in rest.items()}
    assert np.array_equal(chosen(place_next(own, source, WEIGHTS, scaled)), second)


@pytest.mark.parametrize("weights", [{"janus": 8.0, "livekit": 1.0}, {"new": 3.0, "webrtc": 1.0}])
@pytest.mark.parametrize("who", ["own", "brought", "unplaced"])
def test_who_leaves_spreads_by_the_weights_it_leaves_by(weights, who):
    """
    Its own streams (which `place` would spread wrongly), those brought to it by an earlier move,
    and those of a provider that has no weight.
    """
    own = chosen(WHOLE) == "agora"
    keys = KEYS[own] if who == "own" else KEYS[~own]
    configured = {**WEIGHTS, "agora": 0.0} if who == "unplaced" else WEIGHTS
    counts = place_next(keys, "agora", configured, weights).counts()

    for name, weight in weights.items():
        part = weight / sum(weights.values())
        assert abs(counts[name] - part * len(keys)) < 4 * math.sqrt(part * (1 - part) * len(keys))
    if who == "own" and "janus" in weights:
        biased = place(keys, weights).counts()
        assert abs(biased["janus"] - len(keys) * 8 / 9) > 30 * math.sqrt(len(keys) * 8 / 81)


def test_who_leaves_goes_only_where_its_viewers_can_follow():
    """
    Also a stream that would prefer a provider that it cannot use: it is the source's own among
    those that it can.
    """
    can_open = [
        frozenset({"agora", "webrtc", "livekit"}),
        frozenset({"agora"}),
        frozenset(WEIGHTS),
    ]
    constraint = Constraint(can_open=can_open, classes=np.arange(len(KEYS)) % 3)
    own = chosen(place(KEYS, WEIGHTS, constraint)) == "agora"
    rest = {name: weight for name, weight in WEIGHTS.items() if name != "agora"}
    some = Constraint(can_open=can_open, classes=constraint.classes[own])

    answer = chosen(place_next(KEYS[own], "agora", WEIGHTS, rest, some))
    assert np.array_equal(answer, chosen(place(KEYS[own], rest, some)))
    assert all(name is None for name in answer[some.classes == 1])
    assert None not in answer[some.classes != 1]


def test_leaving_in_chunks_leaves_no_seam(monkeypatch):
    """
    And nobody to go to is an answer.
    """
    rest = {name: weight for name, weight in WEIGHTS.items() if name != "agora"}
    whole = place_next(KEYS[:2000], "agora", WEIGHTS, rest).index
    monkeypatch.setattr(rendezvous, "CHUNK", 7)

    assert np.array_equal(place_next(KEYS[:2000], "agora", WEIGHTS, rest).index, whole)
    assert place_next(KEYS[:20], "agora", WEIGHTS, {}).index.tolist() == [-1] * 20


def test_a_source_cannot_be_its_own_target():
    """
    It would keep streams that were to leave it.
    """
    with pytest.raises(ConfigError, match="agora cannot be its own target"):
        place_next(KEYS[:1], "agora", WEIGHTS, WEIGHTS)


@settings(deadline=None)
@given(numbers=some_keys, weights=some_weights)
def test_only_who_has_a_weight_is_chosen(numbers, weights):
    """
    And everybody is placed if anybody has one.
    """
    placed = place(np.array(numbers, np.uint64), weights)

    assert set(placed.names) == {name for name, weight in weights.items() if weight > 0}
    assert bool(placed.names) is bool(np.all(placed.index >= 0)) or not numbers


@settings(deadline=None)
@given(number=st.integers(0, 2**64 - 1), weights=some_weights, gone=names)
def test_who_did_not_have_a_stream_may_leave_without_moving_it(number, weights, gone):
    """
    For any key and any weights.
    """
    before = choose(number, weights)
    after = choose(number, {name: w for name, w in weights.items() if name != gone})

    assert after == before or before == gone


@settings(deadline=None)
@given(number=st.integers(0, 2**64 - 1), factor=st.sampled_from([0.25, 2.0, 1024.0]))
def test_only_ratios_of_weights_matter(number, factor):
    """
    By powers of two, where no rounding decides.
    """
    assert choose(number, WEIGHTS) == choose(number, {n: w * factor for n, w in WEIGHTS.items()})


def test_the_share_grows_by_adding_streams_only():
    """
    From nobody to everybody.
    """
    ids = [f"stream-{number}" for number in range(2000)]
    last: set[str] = set()
    for percent in (0, 1, 10, 50, 99, 100):
        now = {one for one in ids if share_of(one, percent)}
        assert last <= now
        assert abs(len(now) - percent * 20) <= 4 * math.sqrt(2000 * 0.25)
        last = now

    assert [n for n in range(60) if share_of(f"talk-{n}", 10)] == [0, 6, 33, 46]
    assert not any(share_of(one, 0) for one in ids)
    assert all(share_of(one, 100) for one in ids)
    assert all(share_of(key(one), 10) is share_of(one, 10) for one in ids)


def test_the_share_has_nothing_to_do_with_the_provider():
    """
    Half of the streams are half of each provider's.
    """
    half = draw(KEYS, "share:") <= 0.5

    for at, count in enumerate(WHOLE.counts().values()):
        inside = int(np.sum(half & (WHOLE.index == at)))
        assert abs(inside - count / 2) < 4 * math.sqrt(count / 4)

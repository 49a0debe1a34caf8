"""hitless.core.fleet"""

import itertools
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from hitless.core.fleet import Due, FleetMove, Moving, NodeShare, due, going, share_for
from hitless.core.pacing import slot_s
from hitless.core.rendezvous import choose, draw, key
from hitless.errors import ConfigError


CONFIGURED = {"a": 3.0, "b": 2.0, "c": 1.0}

OWN = [f"s{n}" for n in range(1000) if choose(f"s{n}", CONFIGURED) == "a"][:450]
"""Streams that belong to a."""


def streams(count, *, dark=0, provider="a", ids=OWN):
    """Return so many streams on `provider`; every so many-th of them is dark (0: none)."""
    return [
        Moving(
            id=one,
            key=key(one),
            provider=provider,
            has_media=not (dark and n % dark == 0),
        )
        for n, one in enumerate(ids[:count])
    ]


def leaving(**known):
    """Return a move away from a, to b and c, of one node's hundred streams, begun at 1 000 s."""
    return FleetMove(
        **{
            "id": "m1",
            "source": "a",
            "weights": {"b": 2.0, "c": 1.0},
            "configured": CONFIGURED,
            "starts_per_s": {"b": 20.0, "c": 10.0},
            "shares": {"n1": NodeShare(live=100)},
            "begun_s": 1000.0,
            "because": "a is down",
            **known,
        }
    )


def deal(move, affected, *, node="n1", now_s=1000.0, **known):
    """Return the deal of node n1 at the beginning."""
    return due(move, affected, node=node, now_s=now_s, **known)


def test_each_stream_goes_where_its_hash_says():
    """
    Its second choice, which is in its plan; all of the source's, and nobody else's.
    """
    others = [replace(one, id=f"o{one.id}") for one in streams(50, provider="b")]
    dealt = deal(leaving(), streams(100) + others)

    assert {one.stream for one in dealt.moves} == set(OWN[:100])
    assert all(one.target == choose(one.stream, {"b": 2.0, "c": 1.0}) for one in dealt.moves)
    assert dealt.held == {}


def test_a_single_node_uses_every_slot_of_each_target_in_turn():
    """
    By the caller's clock, soonest first.
    """
    moves = deal(leaving(), streams(100)).moves

    assert list(moves) == sorted(moves, key=lambda one: (one.at_s, one.stream))
    for target, rate in (("b", 20.0), ("c", 10.0)):
        times_s = [one.at_s for one in moves if one.target == target]
        assert times_s == pytest.approx(list(1000.0 + slot_s(np.arange(len(times_s)), rate)))


def test_targets_made_from_head_room_get_their_parts():
    """
    And not those that their configured weights would give them.
    """
    weights = {"b": 0.1, "c": 0.9}
    moves = deal(leaving(weights=weights), streams(450)).moves

    assert 25 < sum(one.target == "b" for one in moves) < 65


def test_the_order_of_streams_makes_no_difference():
    """
    It comes from their keys.
    """
    affected = streams(100, dark=3)

    assert deal(leaving(), affected[::-1]) == deal(leaving(), affected)


def test_streams_of_a_group_go_to_the_same_target_one_after_the_other():
    """
    They have the group's key.
    """
    group = streams(3, ids=["a1", "s5", "z9"])
    group = [replace(one, key=key("group")) for one in group]
    moves = deal(leaving(), streams(100) + group).moves
    (target,) = {one.target for one in moves if one.stream in {"a1", "s5", "z9"}}
    there = [one.stream for one in moves if one.target == target]

    at = there.index("a1")
    assert there[at : at + 3] == ["a1", "s5", "z9"]


def test_dark_streams_find_the_first_slots():
    """
    Those with media come after every slot that is reserved for dark ones, at either target.
    """
    affected = streams(100, dark=4)
    move = leaving(shares={"n1": NodeShare(dark=25, live=75)})
    at_s = {one.stream: one.at_s for one in deal(move, affected).moves}

    dark_s = [at_s[one.id] for one in affected if not one.has_media]
    live_s = [at_s[one.id] for one in affected if one.has_media]
    assert len(dark_s) == 25
    assert max(dark_s) < min(live_s)


def test_dark_streams_that_the_event_does_not_know_of_still_go_before_this_nodes_others():
    """
    They went dark after it was made.
    """
    affected = streams(100, dark=4)
    at_s = {one.stream: (one.at_s, one.target) for one in deal(leaving(), affected).moves}

    for target in "bc":
        dark = [at_s[s.id][0] for s in affected if not s.has_media and at_s[s.id][1] == target]
        live = [at_s[s.id][0] for s in affected if s.has_media and at_s[s.id][1] == target]
        assert max(dark) < min(live)


def test_frozen_only_dark_streams_move():
    """
    And those with media are counted.
    """
    affected = streams(100, dark=4)
    dealt = deal(leaving(), affected, is_frozen=True)

    assert {one.stream for one in dealt.moves} == {s.id for s in affected if not s.has_media}
    assert dealt.held == {"frozen": 75}


def test_without_a_cap_of_its_own_a_dark_stream_is_not_slowed_by_that_of_the_others():
    """
    One stream with media a minute; the dark ones as fast as the targets accept.
    """
    affected = streams(100, dark=2)
    move = leaving(shares={"n1": NodeShare(dark=50, live=50)}, live_per_minute=1)
    at_s = {one.stream: one.at_s - 1000.0 for one in deal(move, affected).moves}

    live_s = sorted(at_s[one.id] for one in affected if one.has_media)
    assert max(at_s[one.id] for one in affected if not one.has_media) < 6.0
    assert np.min(np.diff(live_s)) > 60.0


def test_a_cap_of_none_a_minute_moves_only_dark_streams():
    """
    That is how a move is made of dark ones only.
    """
    affected = streams(100, dark=4)
    dealt = deal(leaving(live_per_minute=0), affected)

    assert {one.stream for one in dealt.moves} == {s.id for s in affected if not s.has_media}
    assert dealt.held == {"only streams without media move": 75}


@pytest.mark.parametrize("cap", [1, 7, 60, 300])
def test_no_minute_moves_more_streams_with_media_than_the_cap(cap):
    """
    Over both targets together, wherever the minute begins.
    """
    affected = streams(400)
    times_s = np.array([one.at_s for one in deal(leaving(live_per_minute=cap), affected).moves])

    within = np.searchsorted(times_s, times_s + 60.0 - 1e-6) - np.arange(400)
    assert max(within) <= cap
    if cap < 300:
        assert max(within) >= cap // 2


def test_the_part_without_room_stays():
    """
    Always the same streams, and dark ones never.
    """
    affected = streams(400, dark=2)
    dealt = deal(leaving(live_share=0.25), affected)
    moved = {one.stream for one in dealt.moves}

    lucky = draw(np.array([one.key for one in affected], np.uint64), "room:") <= 0.25
    assert moved == {s.id for s, is_in in zip(affected, lucky, strict=True) if is_in} | {
        one.id for one in affected if not one.has_media
    }
    assert dealt.held == {"no room at the targets": 400 - len(moved)}
    assert 120 < dealt.held["no room at the targets"] < 180


def test_a_stream_goes_only_where_its_clients_can_follow():
    """
    Every set of targets that it may have; to nobody means that it stays.
    """
    sets = [None, *(frozenset(c) for n in range(4) for c in itertools.combinations("abc", n))]
    affected = [
        replace(one, can_open=sets[n % len(sets)]) for n, one in enumerate(streams(270, dark=5))
    ]
    dealt = deal(leaving(), affected)
    to = {one.stream: one.target for one in dealt.moves}

    for one in affected:
        can_open = {"b", "c"} if one.can_open is None else one.can_open
        weights = {name: w for name, w in {"b": 2.0, "c": 1.0}.items() if name in can_open}
        assert to.get(one.id) == choose(one.id, weights)
    assert dealt.held == {"its clients can open no target": 60}


def test_nodes_never_use_the_same_slot():
    """
    Three nodes with different shares, one of which holds twice what the event says and one half.
    """
    shares = {"n1": NodeShare(live=50), "n2": NodeShare(live=100, dark=10), "n3": NodeShare()}
    move, affected = leaving(shares=shares), streams(200, dark=9)
    parts = {"n1": affected[:100], "n2": affected[100:155], "n3": affected[155:]}
    moves = [one for node, part in parts.items() for one in deal(move, part, node=node).moves]

    assert len(moves) == 200
    for target, rate in (("b", 20.0), ("c", 10.0)):
        times_s = sorted(one.at_s for one in moves if one.target == target)
        assert np.min(np.diff(times_s)) >= 1 / (0.9 * rate) - 1e-6


def test_a_node_has_slots_for_all_its_affected_streams_dark_or_not():
    """
    Two nodes of a hundred each are done at about the same time, whatever went dark or came back.
    """
    shares = {"n1": NodeShare(dark=90, live=10), "n2": NodeShare(live=100)}
    last_s = [
        max(m.at_s for m in deal(leaving(shares=shares), streams(100), node=n).moves)
        for n in shares
    ]

    assert last_s[0] == pytest.approx(last_s[1], abs=0.5)


def test_a_node_that_the_event_does_not_name_moves_nothing_and_says_so():
    """
    It has no slots.
    """
    dealt = deal(leaving(), streams(10), node="n9")

    assert (dealt.moves, dealt.held) == ((), {"n9 has no share of this move": 10})


def test_a_node_named_without_streams_can_still_move_those_it_is_given_later():
    """
    The clients of a dead node come to it.
    """
    move = leaving(shares={"n1": NodeShare(live=100), "n2": NodeShare()})

    assert len(deal(move, streams(10), node="n2", now_s=1030.0).moves) == 10


@pytest.mark.parametrize("cap", [None, 120])
def test_a_deal_that_is_made_again_uses_no_slot_twice(cap):
    """
    Each second anew, with what is left by then and with some gone dark; also at the very moment
    of a slot.
    """
    move = leaving(shares={"n1": NodeShare(live=80, dark=20)}, live_per_minute=cap)
    left = {one.id: one for one in streams(100, dark=5)}
    made: list[Due] = []
    now_s = 1000.0
    for turn in range(200):
        moves = deal(move, left.values(), now_s=now_s).moves
        assert all(one.at_s > now_s or now_s == 1000.0 for one in moves)
        until_s = moves[2].at_s if len(moves) > 2 and turn % 2 else now_s + 0.7
        made += [one for one in moves if one.at_s <= until_s]
        for one in made:
            left.pop(one.stream, None)
        if turn == 3:
            dark = next(one for one in left.values() if one.has_media)
            left[dark.id] = replace(dark, has_media=False)
        now_s = until_s

    assert not left
    assert max(Counter((one.target, one.at_s) for one in made).values()) == 1
    for target, rate in (("b", 20.0), ("c", 10.0)):
        times_s = sorted(one.at_s for one in made if one.target == target)
        assert np.min(np.diff(times_s)) >= 1 / (0.9 * rate) - 1e-6


def test_a_node_that_hears_of_a_move_late_begins_with_its_next_slot():
    """
    Nothing is made up for.
    """
    moves = deal(leaving(), streams(100), now_s=1010.0).moves
    times_s = [one.at_s for one in moves if one.target == "b"]

    assert 1010.0 < times_s[0] <= 1010.0 + 1 / 18 + 1e-6
    assert np.allclose(np.diff(times_s), 1 / 18)


def test_an_event_from_a_clock_that_is_ahead_begins_when_it_says():
    """
    Never before.
    """
    assert min(one.at_s for one in deal(leaving(), streams(100), now_s=990.0).moves) == 1000.0


def returning(share, **known):
    """Return the move back to a at a part of its weight."""
    return leaving(
        source=None,
        returning="a",
        weights={"a": 3.0 * share, "b": 2.0, "c": 1.0},
        starts_per_s={"a": 50.0},
        **known,
    )


def test_a_return_moves_only_streams_that_belong_to_the_one_that_came_back():
    """
    Step by step, each step those of the last and some more, at the end exactly those it had.
    """
    ids = [f"s{n}" for n in range(600)]
    born = {one: choose(one, CONFIGURED) for one in ids}
    left = {one.stream: one.target for one in deal(leaving(), streams(600)).moves}
    now = [
        replace(one, provider=left[one.id] if born[one.id] == "a" else born[one.id])
        for one in streams(600, ids=ids)
    ]
    last: set[str] = set()
    for share, least, most in ((0.05, 10, 50), (0.25, 90, 150), (0.5, 160, 240), (1.0, 255, 345)):
        back = deal(returning(share), now).moves
        here = {one.stream for one in back}

        assert {one.target for one in back} == {"a"}
        assert least < len(here | last) < most
        assert not here & last
        last |= here
        now = [replace(one, provider="a") if one.id in here else one for one in now]

    assert {one.id: one.provider for one in now} == born
    assert deal(returning(1.0), now).moves == ()


def test_a_return_is_capped_by_the_streams_that_return_and_no_others():
    """
    Sixty a minute, and a third of b's and c's streams are not meant: the pace is 0.9 a second.
    """
    foreign = streams(300, provider="b", ids=[f"x{n}" for n in range(300)])
    moves = deal(returning(1.0, live_per_minute=60), streams(60, provider="c") + foreign).moves

    assert 150 < len(moves) < 280
    assert moves[-1].at_s - 1000.0 == pytest.approx(2.0 + (len(moves) - 1) / 0.9, abs=0.2)


def test_a_return_leaves_dark_streams_alone():
    """
    They are looking for a leg already.
    """
    affected = streams(100, dark=1, provider="b")
    dealt = deal(returning(1.0), affected)

    assert dealt.moves == ()
    assert set(dealt.held) == {"dark: it looks for a leg by itself"}


@pytest.mark.parametrize(
    ("known", "says"),
    [
        ({"source": None}, "either source or returning"),
        ({"returning": "b"}, "either source or returning"),
        ({"weights": {"a": 1.0, "b": 1.0}}, "a cannot be its own target"),
        ({"configured": {}}, "give the configured weights"),
        ({"source": None, "returning": "a"}, "a has no weight to return to"),
        ({"starts_per_s": {"b": 20.0}}, "starts_per_s of c must be above 0"),
        ({"starts_per_s": {"b": 20.0, "c": 0.0}}, "starts_per_s of c must be above 0"),
        ({"starts_per_s": {"b": float("inf"), "c": 1.0}}, "starts_per_s of b must be above 0"),
    ],
)
def test_an_event_that_contradicts_itself_is_refused(known, says):
    """
    Where it is made, not where it is carried out.
    """
    with pytest.raises(ConfigError, match=f"fleet move m1: .*{says}"):
        leaving(**known)


def test_an_event_without_targets_moves_nothing():
    """
    Nobody to go to.
    """
    dealt = deal(leaving(weights={}, starts_per_s={}), streams(5))

    assert (dealt.moves, dealt.held) == ((), {"its clients can open no target": 5})


# --- A share, counted ---


def test_a_share_is_found_by_which_exactly_so_many_streams_with_media_move():
    """
    It is nobody's own draw, from which his key could be reckoned.
    """
    affected = streams(20)
    keys = np.array([one.key for one in affected], np.uint64)
    for count in (0, 1, 7, 19, 20, 30):
        share = share_for(keys, count)

        moved = deal(leaving(live_share=share), affected).moves
        assert len(moved) == going(keys, share) == min(count, 20)
        assert share not in draw(keys, "room:")
    assert (share_for(keys[:0], 3), share_for(keys, 20)) == (1.0, 1.0)


def test_a_share_tears_no_group():
    """
    All of it move, however few were wanted.
    """
    keys = np.array([key("band")] * 3 + [key("other")], np.uint64)
    for count in (1, 2, 3):
        assert going(keys, share_for(keys, count)) in (1, 3, 4)
        assert share_for(keys, count) not in draw(keys, "room:")
    assert going(keys, share_for(keys, 2)) >= 2

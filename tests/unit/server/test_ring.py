"""hitless.server.ring, hand_recording, fleet_recording, stand_in_keys: what is kept is bounded."""

from dataclasses import dataclass

import numpy as np
import pytest
from unit.server.recorded import as_file
from unit.server.room import Room, closed, news, on_air, opened, say
from virtual_time import run

from hitless.core.events import Ticked
from hitless.core.evidence import Rules
from hitless.core.fleet import FleetMove, Moving, NodeShare, due
from hitless.core.fleet_choices import Dealing
from hitless.core.fleet_replay import redealt
from hitless.core.policy import Policy
from hitless.core.rendezvous import key
from hitless.core.replay import rerun
from hitless.core.state import State
from hitless.core.stream_choices import Companion, Note, Parting
from hitless.core.verdict import Standing
from hitless.server.fleet_recording import FleetRecording
from hitless.server.hand_recording import HandRecording, _Hand
from hitless.server.pseudonyms import Pseudonyms
from hitless.server.recording import Recording, StreamRecording
from hitless.server.ring import PIECES, Ring
from hitless.server.stand_in_keys import stand_ins


@dataclass(frozen=True)
class Entry:
    """Something that happened."""

    at_s: float


# --- A ring ---


def test_a_ring_keeps_what_was_known_before_the_first_entry_about_each_thing_it_still_has():
    """
    However often the oldest went: what was known before what is left.
    """
    ring = Ring(keep_s=1e9, piece_s=1e9, weight_max=40)
    for n in range(200):
        ring.add(n % 3, n, Entry(float(n)), 1)

    span = ring.since(0.0)

    first = {about: entry.at_s for about, entry in reversed(span.entries)}
    assert span.before == {about: int(at_s) for about, at_s in first.items()}
    assert 40 - 40 / PIECES <= len(span.entries) <= 40
    assert span.entries[-1] == (199 % 3, Entry(199.0))


def test_a_ring_of_large_befores_is_as_bounded_as_one_of_many_entries():
    """
    What is added last stays, whatever it weighs; but no more than that.
    """
    ring = Ring(keep_s=1e9, piece_s=1e9, weight_max=100)
    weights = []
    for n in range(500):
        ring.add(n, "a state", Entry(float(n)), 1, before_weight=30)
        weights.append(ring.weight)

    assert max(weights) <= 100
    assert ring.since(0.0).entries


def test_a_ring_forgets_what_is_too_old():
    """
    By the time of the last entry of a piece.
    """
    ring = Ring(keep_s=30.0, piece_s=5.0, weight_max=1_000_000)
    for n in range(100):
        ring.add("", None, Entry(float(n)), 1)

    kept = [entry.at_s for _, entry in ring.since(0.0).entries]
    assert 99.0 - 36.0 <= kept[0] <= 99.0 - 25.0
    assert ring.since(1e9).entries == []


# --- Hands ---


def recorded(room):
    """Return what a room's node recorded, as in a file."""
    return as_file(room.recording.excerpt(0.0, Standing()))


def test_a_hand_that_comes_back_is_another_one_with_the_same_name():
    """
    Its steps begin with what it said that it had.
    """

    async def main():
        async with Room("one", "two") as room:
            first = await on_air(room)
            await room.cut(first)
            await on_air(room)
            return recorded(room)

    found = run(main())
    assert [one["hand"] for one in found["hands"]] == ["client-1", "client-1"]
    again = [rerun(one) for one in found["hands"]]
    assert all(step.is_same for steps in again for step in steps)
    assert len([step for steps in again for step in steps if step.kind == "LegOpened"]) == 2


def test_a_hand_whose_first_steps_were_forgotten_is_run_again_from_the_state_after_them():
    """
    With legs, standings, a placement obeyed and a provider that is banned in it.
    """

    async def main():
        async with Room("one", "two", policy=Policy(health_interval_s=5.0)) as room:
            room.recording.hands = HandRecording(keep_s=20.0, piece_s=5.0)
            hand = await on_air(room)
            say(hand, 1, "one", "silent", because="no packets")
            said = await news(hand)
            say(hand, 2, "two", "live")
            said += await news(hand, 60.0)
            assert opened(said) == [(2, "two")]
            assert closed(said) == [1]
            say(hand, 2, "two", "silent", because="no packets either")
            await news(hand, 1.0)
            return recorded(room)

    found = run(main())
    (hand,) = found["hands"]
    assert not any(one["event"] == "StreamRequested" for one in hand["steps"]), "it is forgotten"
    assert hand["before"]["sessions"]
    steps = rerun(hand)
    assert [one["provider"] for step in steps for one in step.told if one["effect"] == "OpenLeg"]
    assert [step for step in steps if not step.is_same] == []


def test_what_is_kept_of_ten_thousand_hands_is_bounded():
    """
    They do nothing but live: the states of those that are kept count, too.
    """
    recording = HandRecording(keep_s=1e9, piece_s=1e9, weight_max=2_000)
    for n in range(10_000):
        recording.heard(_Hand(f"client of {n}", Policy()), State(), Ticked(), float(n))

    assert recording.weight <= 2_000
    assert len(recording.since(0.0).hands) >= 100


# --- The fleet ---


def dealing(streams, *, now_s=0.0, **plan):
    """Return a deal of some streams to two targets, of all that is due in a second."""
    move = FleetMove(
        id="1",
        source="agora",
        weights={"webrtc": 0.9, "zegocloud": 0.1},
        configured={"agora": 1.0, "webrtc": 1.0, "zegocloud": 1.0},
        starts_per_s={"webrtc": 20.0, "zegocloud": 20.0},
        shares={"n1": NodeShare(live=len(streams)), "n2": NodeShare(dark=7)},
        begun_s=0.0,
        because="a test",
        **plan,
    )
    return Dealing(
        plan=move,
        streams=tuple(streams),
        node="n1",
        now_s=now_s,
        until_s=now_s + 1.0,
        is_frozen=False,
    )


def some(count, group=1):
    """Return streams of agora; some have no media, some can open one target only."""
    return [
        Moving(
            id=f"show-{n}",
            key=key(f"group-{n // group}"),
            provider="agora",
            has_media=n % 4 > 0,
            can_open=frozenset({"webrtc"}) if n % 5 == 0 else None,
        )
        for n in range(count)
    ]


def keep(recording, streams, seconds):
    """Let a node deal once a second, each stream leave when its slot was dealt; return these."""
    left, moved = {one.id: one for one in streams}, []
    for n in range(seconds):
        deal_by = dealing(left.values(), now_s=float(n))
        deal = deal_by.dealt()
        recording.dealt("1", deal_by, deal, float(n))
        moved += [one.stream for one in deal.moves]
        for one in deal.moves:
            del left[one.stream]
    return moved


def test_a_move_is_kept_as_what_changed_from_deal_to_deal():
    """
    300 streams that are dealt in 10 looks weigh twice their number, not ten times.
    """
    recording = FleetRecording(keep_s=1e9, piece_s=1e9)
    moved = keep(recording, some(300), 10)

    deals = redealt(recording.since(0.0).lines(Pseudonyms())["moves"])

    assert recording.weight <= 300 + 2 * len(moved) + 10
    assert deals[0].fields["streams"] == 300 > deals[-1].fields["streams"]
    assert [one for one in deals if not one.is_same] == []
    assert sum(len(one.now[0]["moves"]) for one in deals) == len(moved) > 50


def test_a_move_whose_first_deals_were_forgotten_is_dealt_again_from_what_was_left():
    """
    The streams before the first deal that is kept are in the file.
    """
    recording = FleetRecording(keep_s=4.0, piece_s=2.0)
    keep(recording, some(300), 12)

    (move,) = recording.since(0.0).lines(Pseudonyms())["moves"]

    assert move["before"]
    assert [one for one in redealt([move]) if not one.is_same] == []


def test_deals_of_too_many_streams_are_counted_and_those_after_them_are_whole():
    """
    Nothing is compared with what was not kept.
    """
    recording = FleetRecording(keep_s=1e9, piece_s=1e9, weight_max=600)
    for n, count in enumerate((40, 101, 30)):
        deal_by = dealing(some(count), now_s=float(n))
        recording.dealt("1", deal_by, deal_by.dealt(), float(n))

    lines = recording.since(0.0).lines(Pseudonyms())

    assert lines["left_out"] == [{"at_s": 1.0, "move": "1", "streams": 101}]
    assert [one.fields["streams"] for one in redealt(lines["moves"])] == [40, 30]
    assert all(one.is_same for one in redealt(lines["moves"]))


def test_a_plan_that_changed_is_written_where_it_changed():
    """
    Here its share of those with media: other ones are held.
    """
    recording = FleetRecording(keep_s=1e9, piece_s=1e9)
    for n, share in enumerate((0.2, 0.2, 0.8)):
        deal_by = dealing(some(60), now_s=float(n), live_share=share)
        recording.dealt("1", deal_by, deal_by.dealt(), float(n))

    (move,) = recording.since(0.0).lines(Pseudonyms())["moves"]

    assert ["plan" in deal for deal in move["deals"]] == [True, False, True]
    assert all(one.is_same for one in redealt([move]))


@pytest.mark.parametrize("live_share", [0.0, 0.03, 0.5, 1.0])
def test_streams_with_other_keys_go_the_same_ways_in_the_same_order(live_share):
    """
    To the same targets, by the same slots, as many held; and no key is one that it stands for.
    """
    streams = some(400, group=3)
    deal_by = dealing(streams, live_share=live_share)

    keys = stand_ins([(deal_by.plan, streams)], np.random.default_rng(1))

    others = [
        Moving(
            id=one.id,
            key=keys[one.key, one.id],
            provider=one.provider,
            has_media=one.has_media,
            can_open=one.can_open,
        )
        for one in streams
    ]
    assert not {one.key for one in streams} & set(keys.values())
    assert len(set(keys.values())) == len(streams), "not even who is of one group"
    told = due(deal_by.plan, streams, node="n1", now_s=0.0)
    assert due(deal_by.plan, others, node="n1", now_s=0.0) == told
    assert told.moves


def test_a_stream_that_no_other_key_can_stand_for_is_left_out(monkeypatch):
    """
    Rather than named.
    """
    monkeypatch.setattr("hitless.server.stand_in_keys.ROUNDS_MAX", 0)
    recording = FleetRecording(keep_s=1e9, piece_s=1e9)
    keep(recording, some(20), 2)

    lines = recording.since(0.0).lines(Pseudonyms())

    assert lines["moves"] == []
    assert [one["at_s"] for one in lines["left_out"]] == [0.0, 1.0]


def test_two_names_of_one_mark_have_two_pseudonyms():
    """
    "plumless" and "buckeroo" have one CRC-32.
    """
    names = Pseudonyms()

    first, second = names.called("stream", "plumless"), names.called("stream", "buckeroo")

    assert first != second
    assert (names.called("stream", "plumless"), names.called("stream", "buckeroo")) == (
        first,
        second,
    )


def test_of_single_streams_no_more_is_kept_than_the_limit():
    """
    The oldest go, piece by piece; a group counts as many as it has.
    """
    recording = StreamRecording(keep_s=1e9, piece_s=1e9, weight_max=80)
    group = tuple(
        Companion(stream=f"s{n}", provider="agora", by="operator", because="", changed_s=0.0)
        for n in range(5)
    )
    parting = Parting(streams=group, moved=0)
    for n in range(100):
        recording.noted(Note(at_s=float(n), name="rescue.opened", stream=f"s{n}"))
        recording.parted(parting, parting.followed(), float(n))
        assert recording.weight <= 80 + 80 // PIECES + 5

    found = recording.since(0.0).lines(Pseudonyms())
    assert 6 <= len(found["groups"]) <= 16
    assert found["notes"][-1]["at_s"] == 99.0


def test_a_recording_of_nothing_holds_no_steps_and_no_moves():
    """
    And says so.
    """
    found = as_file(Recording(Rules()).excerpt(0.0, Standing()))

    assert (found["hands"], found["fleet"], found["streams"]) == (
        [],
        {"orders": [], "moves": [], "left_out": [], "ends": [], "notes": []},
        {"moves": [], "groups": [], "notes": []},
    )

"""hitless.core.rails"""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hitless.core.rails import Candidate, Rails, allowed, targets


def one(**known):
    """Return a candidate that accepts 100 starts per second, with what else is known."""
    return Candidate(**{"starts_per_s": 100.0, **known})


candidates = st.builds(
    Candidate,
    weight=st.sampled_from([0.0, 0.5, 1.0, 10.0]),
    starts_per_s=st.sampled_from([0.0, 50.0]),
    max_streams=st.none() | st.integers(0, 200),
    streams=st.integers(0, 150),
    fault_domain=st.sampled_from(["", "eu"]),
    is_usable=st.booleans(),
)
fleets = st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), candidates)


def test_streams_spread_by_configured_weight():
    """
    While everybody has room.
    """
    found = targets("a", {"a": one(), "b": one(weight=3.0), "c": one()}, dark=0, live=1000)

    assert found.weights == {"b": 0.75, "c": 0.25}
    assert (found.live_share, found.staying, found.over) == (1.0, 0, 0)
    assert found.because == "from a: b 75%, c 25%"


def test_nobody_is_planned_beyond_its_room_and_the_others_take_the_rest():
    """
    b would have 750 and has room for 100; c and d share the other 900 by weight.
    """
    fleet = {
        "b": one(weight=6.0, max_streams=500, streams=400),
        "c": one(),
        "d": one(max_streams=10_000),
    }
    found = targets("a", fleet, dark=0, live=1000)

    assert found.weights == pytest.approx({"b": 0.1, "c": 0.45, "d": 0.45})


def test_when_there_is_no_room_for_all_those_with_media_stay():
    """
    Room for 300: 100 dark ones and 200 of 400.
    """
    fleet = {"b": one(max_streams=100), "c": one(max_streams=500, streams=300)}
    found = targets("a", fleet, dark=100, live=400)

    assert found.weights == pytest.approx({"b": 1 / 3, "c": 2 / 3})
    assert (found.live_share, found.staying, found.over) == (0.5, 200, 0)
    assert found.because.endswith("; 200 of 400 with media stay: no room")


def test_dark_streams_go_even_where_there_is_no_room():
    """
    Better tried than dark: what is over goes by weight.
    """
    fleet = {"b": one(max_streams=100), "c": one(weight=3.0, max_streams=100)}
    found = targets("a", fleet, dark=400, live=50)

    assert found.weights == pytest.approx({"b": 150 / 400, "c": 250 / 400})
    assert (found.live_share, found.staying, found.over) == (0.0, 50, 200)


def test_dark_streams_go_to_the_full_when_all_are_full():
    """
    And streams with media stay.
    """
    fleet = {"b": one(max_streams=100, streams=100), "c": one(max_streams=5, streams=9)}
    found = targets("a", fleet, dark=10, live=10)

    assert found.weights == pytest.approx({"b": 0.5, "c": 0.5})
    assert (found.live_share, found.staying, found.over) == (0.0, 10, 10)


def test_when_all_are_full_and_nothing_is_dark_nobody_is_a_target():
    """
    And each is told why.
    """
    found = targets("a", {"b": one(max_streams=2, streams=2)}, dark=0, live=10)

    assert (found.weights, found.staying) == ({}, 10)
    assert found.left_out == {"b": "full: 2 of 2 streams"}


def test_who_is_left_out_is_told_why():
    """
    Each with its own reason.
    """
    fleet = {
        "a": one(fault_domain="eu"),
        "b": one(is_usable=False, because="banned until 12:00"),
        "c": one(is_usable=False),
        "d": one(weight=0.0),
        "e": one(starts_per_s=0.0),
        "f": one(max_streams=7, streams=7),
        "g": one(fault_domain="eu"),
        "h": one(),
    }
    found = targets("a", fleet, dark=0, live=1)

    assert found.weights == {"h": 1.0}
    assert found.left_out == {
        "a": "it is the source",
        "b": "banned until 12:00",
        "c": "it may not be given streams now",
        "d": "its weight is 0",
        "e": "it accepts no starts now",
        "f": "full: 7 of 7 streams",
        "g": "it shares the fault domain eu with a",
    }


def test_the_same_fault_domain_is_asked_only_when_nobody_else_has_room():
    """
    Providers without a domain share it with nobody, and one domain's name may be a provider's.
    """
    a, b = one(fault_domain="eu"), one(fault_domain="eu")

    assert set(targets("a", {"a": a, "b": b, "c": one()}, dark=0, live=1).weights) == {"c"}
    assert set(targets("a", {"a": a, "b": b}, dark=0, live=1).weights) == {"b"}
    nameless = {"a": one(), "b": one(), "c": one(fault_domain="a")}
    assert set(targets("a", nameless, dark=0, live=1).weights) == {"b"}
    full = one(max_streams=1, streams=1)
    assert set(targets("a", {"a": a, "b": b, "c": full}, dark=0, live=1).weights) == {"b"}
    assert set(targets("a", {"b": one(fault_domain="a"), "c": one()}, dark=0, live=1).weights) == {
        "c"
    }


def test_nobody_to_go_to_is_an_answer():
    """
    All stay, dark or not.
    """
    found = targets("a", {"a": one()}, dark=3, live=5)

    assert (found.weights, found.live_share, found.staying, found.over) == ({}, 0.0, 5, 0)
    assert found.because == "from a: nobody to go to; 5 of 5 with media stay: no room"


def test_a_source_without_streams_has_targets_all_the_same():
    """
    For the plans of streams to come.
    """
    fleet = {"b": one(weight=3.0, max_streams=10), "c": one()}

    assert targets("a", fleet, dark=0, live=0).weights == {"b": 0.75, "c": 0.25}


@settings(deadline=None)
@given(fleet=fleets, dark=st.integers(0, 300), live=st.integers(0, 300))
def test_room_is_never_passed_but_by_dark_streams(fleet, dark, live):
    """
    Whatever the fleet: parts add up to one, loads stay within room unless something goes over,
    every provider is a target or told why not, and nobody is lost in the count.
    """
    found = targets("a", fleet, dark=dark, live=live)
    moving = dark + live - found.staying

    assert set(found.weights) | set(found.left_out) == set(fleet)
    assert not set(found.weights) & set(found.left_out)
    assert 0 <= found.staying <= live
    assert found.live_share == pytest.approx((live - found.staying) / live if live else 1.0) or (
        not found.weights
    )
    if found.weights:
        assert sum(found.weights.values()) == pytest.approx(1.0)
        assert min(found.weights.values()) > 0.0
        room = sum(fleet[name].room for name in found.weights)
        assert found.over == max(0, dark - room)
        assert not (found.over and found.staying < live)
        assert found.staying == 0 or moving >= room
        for name, part in found.weights.items():
            assert part * moving <= fleet[name].room + found.over + 1e-6


FLEET = {"active": {"a", "b", "c"}, "healthy": {"b", "c"}, "streams": 1000}


def test_an_automatic_move_is_paced_by_the_share_per_minute():
    """
    A tenth of all streams, less what is promised already; never below nothing.
    """
    assert allowed("a", **FLEET).live_per_minute == 100
    assert allowed("a", **FLEET, promised=70).live_per_minute == 30
    assert allowed("a", **FLEET, promised=170).live_per_minute == 0
    assert allowed("a", **FLEET, rails=Rails(share_per_minute=0.5)).live_per_minute == 500
    because = "at most 100 of 1000 streams a minute, 70 of them promised"
    assert allowed("a", **FLEET, promised=70).because == because


def test_a_small_fleet_moves_one_stream_a_minute_at_least():
    """
    A tenth of five streams would be none for ever.
    """
    assert allowed("a", **{**FLEET, "streams": 5}).live_per_minute == 1


def test_an_operator_is_not_capped():
    """
    Neither by share nor by freeze, nor by what looks healthy.
    """
    for healthy, is_frozen in itertools.product([set(), {"a"}, {"b"}], [False, True]):
        decision = allowed(
            "a", **{**FLEET, "healthy": healthy}, is_operator=True, is_frozen=is_frozen
        )
        assert (decision.is_allowed, decision.live_per_minute) == (True, None)


def test_the_last_healthy_provider_is_never_emptied_by_itself():
    """
    However it is asked.
    """
    decision = allowed("a", **{**FLEET, "healthy": {"a"}})

    assert not decision.is_allowed
    assert decision.because == "a is the last healthy provider"


def test_when_everything_looks_down_the_observer_is_suspected():
    """
    Nothing moves by itself.
    """
    decision = allowed("a", **{**FLEET, "healthy": set()})

    assert not decision.is_allowed
    assert (
        decision.because == "every provider looks down: the observer is suspected, nothing moves"
    )


def test_frozen_only_dark_streams_move():
    """
    They have nothing to lose.
    """
    decision = allowed("a", **FLEET, is_frozen=True)

    assert (decision.is_allowed, decision.live_per_minute) == (True, 0)
    assert decision.because == "frozen: only streams without media move"


@pytest.mark.parametrize("is_operator", [False, True])
def test_who_has_not_reached_the_store_for_three_seconds_moves_nothing(is_operator):
    """
    It may not have heard of a freeze.
    """
    assert allowed("a", **FLEET, is_operator=is_operator, store_age_s=3.0).is_allowed
    late = allowed("a", **FLEET, is_operator=is_operator, store_age_s=3.1)

    assert not late.is_allowed
    assert late.because == (
        "the store was not reached for 3.1 s, more than 3 s: a freeze may be unheard"
    )


@pytest.mark.parametrize("is_operator", [False, True])
def test_without_another_active_provider_nothing_can_move(is_operator):
    """
    Not even for an operator.
    """
    decision = allowed("a", **{**FLEET, "active": {"a"}}, is_operator=is_operator)

    assert not decision.is_allowed
    assert decision.because == "there is no active provider but a"


def test_no_automatic_act_ever_leaves_only_unhealthy_ones():
    """
    Every set of healthy providers of three, every source.
    """
    for count in range(4):
        for healthy in itertools.combinations("abc", count):
            for source in "abc":
                decision = allowed(source, **{**FLEET, "healthy": set(healthy)})
                assert decision.is_allowed is bool(set(healthy) - {source})
                assert decision.because

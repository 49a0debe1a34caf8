"""hitless.core.pacing"""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hitless.core.pacing import (
    ALONE_ODDS,
    MARGIN,
    RAMP_S,
    Slots,
    alone_s,
    dealt,
    reserve,
    slot_from,
    slot_s,
)
from hitless.core.rendezvous import key


RATES = (0.2, 1.0, 2.5, 7.0, 10.0, 25.0, 99.0, 200.0, 1000.0, 20_000.0)

rates = st.floats(0.01, 1e5)
shares = st.lists(st.integers(0, 40), min_size=1, max_size=5).filter(any)


def most_within(times_s, window_s):
    """Return the most times that any half-open window holds, wherever it begins."""
    times_s = np.sort(times_s)
    ends = np.searchsorted(times_s, times_s + window_s - 1e-9)
    return int(np.max(ends - np.arange(len(times_s))))


@pytest.mark.parametrize("rate", RATES)
def test_no_two_slots_are_nearer_than_the_rate_allows(rate):
    """
    The invariant, on the ramp, at its end and after it.
    """
    times_s = slot_s(np.arange(math.ceil(rate * 20) + 10), rate)

    assert times_s[0] == 0.0
    assert np.min(np.diff(times_s)) >= 1 / (MARGIN * rate) - 1e-9


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("window_s", [0.1, 1.0, 60.0])
def test_no_window_holds_more_than_the_rate_allows(rate, window_s):
    """
    Wherever it begins; below ten starts a window it is the next whole number at most.
    """
    times_s = slot_s(np.arange(math.ceil(rate * 20) + 10), rate)
    most = most_within(times_s, window_s)

    assert most <= math.ceil(MARGIN * rate * window_s)
    if rate * window_s >= 10 or (rate == int(rate) and window_s == 1.0):
        assert most <= rate * window_s


def test_a_target_is_used_at_its_margin_once_it_is_warm():
    """
    And the ramp costs two seconds: 200 starts per second, 10 000 streams, 57.6 s.
    """
    times_s = slot_s(np.arange(10_000), 200.0)

    assert times_s[-1] == pytest.approx(2.0 + 9_999 / 180)
    assert np.sum((times_s >= 10.0) & (times_s < 11.0)) == pytest.approx(180, abs=1)


def test_the_ramp_grows_with_the_square_of_the_time():
    """
    After half of it an eighth of what it holds in all has been offered.
    """
    times_s = slot_s(np.arange(100_000), 100_000.0)

    held = [int(np.sum(times_s < part * RAMP_S)) for part in (0.25, 0.5, 1.0)]
    assert held == [pytest.approx(90_000 * part**3, abs=2) for part in (0.25, 0.5, 1.0)]


@settings(deadline=None)
@given(rate=rates, at_s=st.floats(-5.0, 1e4))
def test_the_first_slot_from_a_moment_on_is_the_first(rate, at_s):
    """
    Not before it, and the one before it is.
    """
    number = slot_from(np.array([at_s]), rate)

    assert slot_s(number, rate)[0] >= at_s
    assert number[0] == 0 or slot_s(number - 1, rate)[0] < at_s


@pytest.mark.parametrize("nodes", [1, 2, 3])
def test_every_slot_is_dealt_to_exactly_one_node(nodes):
    """
    Every share from 0 to 5 for up to three nodes: no slot twice, none left out, and after each
    round every node has had its share.
    """
    for given_ in itertools.product(range(6), repeat=nodes):
        if not any(given_):
            continue
        for rounds in (1, 3):
            taken = [
                dealt(node, given_, np.arange(rounds * share)) if share else np.array([], int)
                for node, share in enumerate(given_)
            ]
            assert sorted(np.concatenate(taken)) == list(range(rounds * sum(given_)))


def test_a_deal_is_that_of_seats_in_a_parliament():
    """
    Sainte-Laguë's method by the book, with shares 5, 3 and 1.
    """
    votes, seats, order = [5, 3, 1], [0, 0, 0], []
    for _ in range(18):
        best = max(range(3), key=lambda n: (votes[n] / (2 * seats[n] + 1), -n))
        seats[best] += 1
        order.append(best)

    slots = [dealt(node, votes, np.arange(seats[node])).tolist() for node in range(3)]
    assert slots == [[at for at, who in enumerate(order) if who == node] for node in range(3)]


@settings(deadline=None)
@given(given_=shares, at=st.integers(0, 10_000))
def test_a_node_never_falls_behind_its_share_by_a_slot_per_node(given_, at):
    """
    So two nodes that hold half each alternate, and nobody's streams all come last.
    """
    for node, share in enumerate(given_):
        if share:
            exact = (at + 0.5) * sum(given_) / share - 0.5
            assert abs(dealt(node, given_, np.array([at]))[0] - exact) <= len(given_) / 2


@settings(deadline=None)
@given(given_=shares, dark=st.data(), rate=st.floats(0.5, 500.0))
def test_nodes_share_a_target_without_sharing_a_slot(given_, dark, rate):
    """
    With slots reserved for dark streams: those come first, and the first slot from any moment
    on is found.
    """
    given_ = [share + 1 for share in given_]
    reserved = [dark.draw(st.integers(0, share)) for share in given_]
    times_s = []
    for node, share in enumerate(given_):
        own = Slots(starts_per_s=rate, node=node, shares=given_, reserved=reserved)
        nth = np.arange(reserved[node] + 2 * share)
        at_s = own.at_s(nth)
        times_s += at_s.tolist()

        assert np.all(np.diff(at_s) > 0)
        assert np.array_equal(own.first(at_s), nth)
        assert np.array_equal(own.first(at_s + 1e-7), nth + 1)
        assert own.first(np.array([-1.0]))[0] == 0

    slots = np.arange(sum(reserved) + 2 * sum(given_))
    assert np.allclose(np.sort(times_s), slot_s(slots, rate), atol=1e-9)


def test_reserved_slots_are_the_very_first():
    """
    Two nodes with three and one dark streams: the four slots before everybody else's.
    """
    first, second = (
        Slots(starts_per_s=10.0, node=node, shares=(100, 100), reserved=(3, 1)) for node in (0, 1)
    )
    reserved_s = slot_s(np.arange(4), 10.0)

    assert sorted([*first.at_s(np.arange(3)), *second.at_s(np.arange(1))]) == list(reserved_s)
    assert first.at_s(np.array([3]))[0] >= slot_s(np.array([4]), 10.0)[0]


def test_reserved_are_all_when_there_is_one_target_and_a_fair_part_with_margin_else():
    """
    Three standard deviations: 100 streams at a half each are 50 and 15 more.
    """
    assert reserve([0, 7, 100], 1.0) == [0, 7, 100]
    assert reserve([0, 1, 100], 0.5) == [0, 1, 65]


def test_a_client_that_is_alone_goes_at_once():
    """
    Nobody else is affected: nothing to wait for.
    """
    assert {alone_s(key(f"talk-{n}"), 1, 200.0) for n in range(50)} == {0.0}


@pytest.mark.parametrize("rate", [20.0, 200.0])
def test_clients_that_can_ask_nobody_stay_below_the_rate_of_each_second(rate):
    """
    Five fleets of different streams; the odds of one failure here are below one in a thousand.
    """
    affected = int(rate * 20)
    for fleet in range(5):
        times_s = [alone_s(key(f"{fleet}/{n}"), affected, rate) for n in range(affected)]
        _, counts = np.unique(np.floor(times_s), return_counts=True)
        assert max(counts) <= rate


def test_clients_that_can_ask_nobody_use_what_their_odds_allow():
    """
    70 % at 250 starts per second, and never less than a tenth: it must end some day.
    """
    for rate, load in ((250.0, 0.70), (1000.0, 0.84), (20.0, 0.198), (10.0, 0.1), (0.5, 0.1)):
        last_s = max(alone_s(key(f"talk-{n}"), 5000, rate) for n in range(5000))
        assert last_s == pytest.approx(2.0 + 5000 / (rate * load), rel=0.02)


def test_the_odds_are_those_of_bernsteins_inequality():
    """
    The load that `alone_s` uses, put back into the bound it comes from.
    """
    limit = 200
    last_s = max(alone_s(key(f"talk-{n}"), 20_000, 200.0) for n in range(20_000))
    mean = 20_000 / (last_s - 2.0)

    bound = math.exp(-((limit - mean) ** 2) / (2 * (mean + (limit - mean) / 3)))
    assert bound == pytest.approx(ALONE_ODDS, rel=0.05)

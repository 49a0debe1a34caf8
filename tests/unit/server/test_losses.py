"""hitless.server.losses: which share of its packets a client lost, whatever it says."""

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hitless.client.protocol import Report
from hitless.server.hub import STREAMS_MAX
from hitless.server.losses import PACKETS_MIN, Losses


def shares(*counts, provider="one", losses=None):
    """Return what is made of packets lost and received in reports one after the other."""
    losses = losses or Losses()
    return [
        losses.share(
            Report(stream="show", provider=provider, packetsLost=lost, packetsReceived=received)
        )
        for lost, received in counts
    ]


def test_the_share_is_that_between_two_reports():
    assert shares((5, 1_000), (15, 1_990), (15, 2_990), (515, 3_490)) == [None, 0.01, 0.0, 0.5]


def test_who_counts_nothing_lost_nothing_that_could_be_told():
    assert shares((3, 0), (900, 0)) == [None, None]
    assert shares((0, 1_000), (0, 0), (0, 2_000), (0, 3_000)) == [None, None, None, 0.0]


def test_a_count_that_went_back_begins_anew():
    """
    It is another leg; what of its packets came before the report is not known.
    """
    assert shares((50, 9_000), (7, 800), (107, 1_700)) == [None, None, 0.1]


def test_packets_that_came_late_are_not_lost_any_more():
    assert shares((50, 1_000), (30, 2_000), (130, 2_900)) == [None, 0.0, 0.1]


def test_another_provider_begins_anew():
    losses = Losses()

    assert shares((0, 1_000), losses=losses) == [None]
    assert shares((500, 2_000), (600, 2_900), provider="two", losses=losses) == [None, 0.1]
    assert shares((600, 3_900), losses=losses) == [None]


def test_few_packets_are_added_up_until_a_share_can_be_told():
    """
    A client that reports each second, or sends sound alone, is judged as well, only later.
    """
    assert PACKETS_MIN == 100
    assert shares((0, 1_000), (4, 1_045), (10, 1_089), (10, 1_090), (20, 1_180)) == [
        None,
        None,
        None,
        0.1,
        0.1,
    ]


def test_one_that_receives_nothing_at_all_lost_everything():
    assert shares((0, 1_000), (400, 1_000)) == [None, 1.0]


def test_streams_are_told_apart_and_bounded():
    losses = Losses()

    def share(stream, received):
        return losses.share(Report(stream=stream, provider="one", packetsReceived=received))

    assert [share("a", 1_000), share("b", 5_000), share("a", 2_000)] == [None, None, 0.0]
    for number in range(10 * STREAMS_MAX):
        assert share(f"s{number}", 1_000) is None
    assert len(losses._last) <= STREAMS_MAX


@pytest.mark.parametrize("lost", [-1e308, -5.0, 1e308])
def test_a_lie_is_a_share_at_most(lost):
    for found in shares((lost, 1_000), (-lost, 2_000), (lost, 3_000)):
        assert found is None or 0.0 <= found <= 1.0


COUNTS = st.tuples(st.floats(allow_nan=False, allow_infinity=False), st.integers(0, (1 << 53) - 1))


@given(st.lists(COUNTS, max_size=8))
@example([(0.0, 2), (9_007_199_254_740_991.0, 2)])
def test_whatever_is_said_is_a_share_or_nothing(counts):
    for found in shares(*counts):
        assert found is None or (0.0 <= found <= 1.0 and not math.isnan(found))

"""hitless.core.attempts"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hitless.core.attempts import Attempt, Failure, choose, delay_s
from hitless.core.policy import Policy
from hitless.errors import Retry


SAME = Failure(error="Unreachable", because="refused", retry=Retry.SAME)
NEXT = Failure(error="MediaLost", because="no media", retry=Retry.NEXT)
ORDER = ("agora", "zegocloud", "webrtc", "livekit")


def sequence(failure, *, same=1, most=4, order=ORDER):
    """Return whom an operation asks when every attempt fails like that."""
    tried = []
    while True:
        name = choose(order, tried, same_provider_retries=same, max_attempts=most)
        if name is None:
            return [attempt.provider for attempt in tried]
        tried.append(Attempt(provider=name, leg=len(tried), failure=failure))


def test_the_first_provider_is_asked_twice_and_each_next_one_once():
    """
    agora, agora, zegocloud, webrtc: four attempts and no more.
    """
    assert sequence(SAME) == ["agora", "agora", "zegocloud", "webrtc"]


def test_a_fourth_provider_is_reached_with_one_more_retry():
    """
    `max_retries = 4`.
    """
    assert sequence(SAME, most=5) == ["agora", "agora", "zegocloud", "webrtc", "livekit"]


def test_advice_to_go_on_is_followed_at_once():
    """
    What is connected and carries nothing is not asked twice.
    """
    assert sequence(NEXT) == ["agora", "zegocloud", "webrtc", "livekit"]


def test_nobody_is_asked_a_second_time_round():
    """
    However many attempts are left.
    """
    assert sequence(SAME, most=20, order=ORDER[:2]) == ["agora", "agora", "zegocloud"]


def test_a_long_retry_after_counts_as_advice_to_go_on():
    """
    Over a second the next provider is the quicker one, whatever the adapter says.
    """
    away = Failure(error="Refused", because="503", retry=Retry.SAME, retry_after_s=1.5)

    assert sequence(away)[:2] == ["agora", "zegocloud"]


@given(
    same=st.integers(0, 5),
    most=st.integers(1, 10),
    order=st.lists(st.sampled_from(ORDER), unique=True),
    failure=st.sampled_from([SAME, NEXT]),
)
def test_attempts_are_always_bounded(same, most, order, failure):
    """
    By their limit, and by the providers there are.
    """
    asked = sequence(failure, same=same, most=most, order=order)

    assert len(asked) <= min(most, len(order) + same)
    assert set(asked) <= set(order)


@given(retries=st.integers(0, 10_000), jitter=st.floats(0, 1, exclude_max=True))
def test_delays_stay_below_their_cap(retries, jitter):
    """
    Full jitter below a doubling limit, below `retry_delay_s_max`.
    """
    assert 0.0 <= delay_s(Policy(), retries, jitter) <= min(2.0, 0.1 * 2.0 ** min(retries, 9))


def test_a_fault_of_this_machine_blames_nobody():
    """
    Neither does what the adapter says nobody can help.
    """
    assert Failure(error="LocalFault", because="no camera", is_local=True).blames_nobody
    assert Failure(error="Refused", because="key revoked", retry=Retry.NEVER).blames_nobody
    assert not SAME.blames_nobody


def test_delays_double():
    """
    0.1, 0.2, 0.4 ... seconds.
    """
    assert [delay_s(Policy(), n, 0.5) for n in range(3)] == pytest.approx([0.05, 0.1, 0.2])

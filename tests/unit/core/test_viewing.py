"""hitless.core.viewing, told as transcripts: joining and waiting"""

import itertools

import pytest
from unit.core.bench import (
    SESSION,
    Bench,
    a_list,
    absent,
    fails,
    hangs,
    opens,
    refuses,
)

from hitless.core.attempts import Failure
from hitless.core.events import EndRequested, Outcome
from hitless.core.state import Phase
from hitless.errors import Retry


def three(policy=None, **providers):
    """The publisher is on agora, unless something else is said."""
    return Bench(
        policy, **{"agora": opens(), "zegocloud": absent(), "webrtc": absent()} | providers
    )


def nowhere(**providers):
    """Nobody publishes."""
    return three(**{"agora": absent()} | providers)


# --- Joining ---


def test_a_viewer_finds_the_stream_on_its_first_provider():
    """
    One attempt, and nobody else is asked.
    """
    bench = three()
    bench.watch()
    bench.run(2.0)

    assert bench.asked == ["agora"]
    assert bench.said("stream.on_air") == ["stream.on_air agora"]


def test_a_viewer_whose_first_provider_refuses_finds_the_stream_on_the_next():
    """
    Drill join-with-failed-provider: at most a quarter of a second more, plus the retry delay.
    """
    bench = three(agora=refuses(), zegocloud=opens())
    bench.watch()
    bench.run(5.0)

    assert bench.asked == ["agora", "agora", "zegocloud"]
    assert bench.session.provider == "zegocloud"
    assert bench.at("stream.on_air") <= 0.02 + 0.01 + 0.1 + 0.25 + 0.1 + 1e-6


def test_a_first_provider_that_hangs_costs_a_quarter_of_a_second():
    """
    The next one is asked too after `hedge_s`; the loser is let go.
    """
    bench = three(agora=hangs(), zegocloud=opens())
    bench.watch()
    bench.run(2.0)

    assert bench.at("stream.on_air zegocloud") == pytest.approx(0.02 + 0.25 + 0.1)
    assert [leg.provider for leg in bench.session.legs] == ["zegocloud"]


def test_a_viewer_finds_the_stream_behind_providers_that_know_nothing_of_it():
    """
    Even one that does not want to wait looks everywhere once.
    """
    bench = nowhere(webrtc=opens())
    bench.watch(wait_s=0.0)
    bench.run(2.0)

    assert bench.session.provider == "webrtc"
    assert bench.blamed == []


def test_a_join_on_dead_providers_ends_after_four_attempts():
    """
    Drill all-providers-down, for a viewer.
    """
    bench = three(agora=refuses(), zegocloud=refuses(), webrtc=refuses())
    bench.watch(wait_s=60.0)
    bench.run(15.0)

    assert len(bench.asked) == 4
    assert bench.ended is not None
    assert bench.ended.outcome is Outcome.ALL_FAILED
    assert [a.provider for a in bench.attempts][:2] == ["agora", "agora"]
    assert len(bench.attempts) == 4


def test_a_join_where_nothing_answers_ends_in_time_and_blames_nobody():
    """
    It may be our own network.
    """
    bench = three(agora=hangs(), zegocloud=hangs(), webrtc=hangs())
    bench.watch(wait_s=60.0)
    bench.run(30.0)

    assert bench.ended is not None
    assert bench.ended.outcome is Outcome.ALL_FAILED
    assert bench.at("ended") <= 15.0 + 1e-9
    assert bench.blamed == []


def test_a_join_with_everybody_disabled_asks_for_the_list_again_and_then_says_who():
    """
    Drill all-providers-disabled, idle: at most `max_retries` more reads of the list.
    """
    bench = three()
    bench.listed = a_list("agora", "webrtc", disabled=("agora", "webrtc"))
    bench.watch(wait_s=60.0)
    bench.run(15.0)

    asks = [effect for _, effect in bench.effects if type(effect).__name__ == "AskList"]
    assert len(asks) == 1 + 3
    assert bench.ended is not None
    assert bench.ended.outcome is Outcome.ALL_FAILED
    assert "agora, webrtc" in bench.ended.because


def test_a_disabled_provider_is_never_asked_for_the_stream():
    """
    Not even by a viewer that finds it nowhere else.
    """
    bench = nowhere()
    bench.listed = a_list("agora", "zegocloud", "webrtc", disabled=("zegocloud",))
    bench.watch(wait_s=3.0)
    bench.run(5.0)

    assert set(bench.asked) == {"agora", "webrtc"}


def test_a_local_fault_of_a_viewer_fails_over_to_nobody():
    """
    It is the same with every provider.
    """
    local = Failure(error="LocalFault", because="no decoder", retry=Retry.NEVER, is_local=True)
    bench = three(agora=fails(local))
    bench.watch()
    bench.run(1.0)

    assert bench.asked == ["agora"]
    assert bench.ended is not None
    assert bench.ended.outcome is Outcome.LOCAL_FAULT
    assert bench.blamed == []


def test_a_banned_provider_is_asked_last_by_a_join():
    """
    Doubtful is better than none.
    """
    bench = three(zegocloud=refuses(), webrtc=refuses())
    for _ in range(3):
        bench.error("agora")
    bench.watch()
    bench.run(5.0)

    assert bench.asked[0] == "zegocloud"
    assert bench.asked[-1] == "agora"
    assert bench.session.provider == "agora"


# --- Waiting ---


def test_a_viewer_before_its_publisher_waits_counts_nothing_and_then_watches():
    """
    Drill viewer-before-publisher, five seconds early.
    """
    bench = nowhere()
    bench.watch(wait_s=30.0)
    bench.run(5.0)
    assert bench.phase is Phase.WAITING
    assert bench.said("stream.waiting")
    bench.providers["zegocloud"] = opens()
    bench.run(1.5)

    assert bench.session.provider == "zegocloud"
    assert bench.blamed == []
    assert [attempt.failure for attempt in bench.session.attempts] == [None]


def test_a_waiting_viewer_asks_every_50_ms_at_first_and_every_second_later():
    """
    Quick while it matters, gentle in the long run.
    """
    bench = nowhere()
    bench.watch(wait_s=60.0)
    bench.run(60.0)
    asked = bench.asked_at("agora")
    early = [b - a for a, b in itertools.pairwise(asked) if b < 1.0]
    late = [b - a for a, b in itertools.pairwise(asked) if a > 10.0]

    assert max(early) <= 0.05 + 0.01 + 1e-6
    assert min(late) >= 1.0
    assert len(asked) < 100


def test_a_provider_that_hangs_does_not_slow_the_others():
    """
    Every provider is asked in a loop of its own.
    """
    bench = nowhere(agora=hangs())
    bench.watch(wait_s=30.0)
    bench.run(1.2)
    asked = bench.asked_at("zegocloud")

    assert len(bench.asked_at("agora")) == 1
    assert len(asked) >= 10


def test_a_viewer_waits_for_wait_s_and_no_longer():
    """
    Then `NotOnAir`.
    """
    bench = nowhere()
    bench.watch(wait_s=4.0)
    bench.run(10.0)

    assert bench.ended is not None
    assert bench.ended.outcome is Outcome.NOT_ON_AIR
    assert bench.at("ended") == pytest.approx(4.0, abs=0.01)
    assert bench.attempts == ()


def test_a_viewer_that_does_not_wait_is_told_at_once():
    """
    As soon as everybody has said no.
    """
    bench = nowhere()
    bench.watch(wait_s=0.0)
    bench.run(5.0)

    assert bench.ended is not None
    assert bench.ended.outcome is Outcome.NOT_ON_AIR
    assert bench.at("ended") < 0.2
    assert set(bench.asked) == {"agora", "zegocloud", "webrtc"}


def test_a_viewer_that_does_not_wait_gives_up_on_one_that_hangs():
    """
    In the time a start may take.
    """
    bench = nowhere(webrtc=hangs())
    bench.watch(wait_s=0.0)
    bench.run(30.0)

    assert bench.ended is not None
    assert bench.ended.outcome is Outcome.NOT_ON_AIR
    assert bench.at("ended") <= 15.0 + 1e-9


def test_a_long_retry_after_is_obeyed_while_waiting_and_a_short_one_does_not_slow():
    """
    A 409 with up to a second is advice for crowds, not for one viewer in a hurry.
    """
    bench = nowhere(zegocloud=absent(retry_after_s=8.0))
    bench.watch(wait_s=30.0)
    bench.run(7.0)

    assert len(bench.asked_at("zegocloud")) == 1
    assert len(bench.asked_at("agora")) > 10


def test_answers_that_come_late_are_let_go():
    """
    The losers of the race are closed, and what they say afterwards changes nothing.
    """
    bench = nowhere(agora=opens(0.9), zegocloud=opens(0.4), webrtc=absent())
    bench.watch(wait_s=30.0)
    bench.run(5.0)

    assert bench.said("stream.on_air") == ["stream.on_air zegocloud"]
    assert len(bench.checker.open_legs) == 1


# --- Ending ---


def test_leaving_closes_every_leg_and_every_ask():
    """
    Nothing remains.
    """
    bench = nowhere(agora=hangs())
    bench.watch(wait_s=60.0)
    bench.run(1.0)
    bench.hear(EndRequested(session=SESSION, because="the caller left"))

    assert bench.checker.open_legs == {}
    assert bench.checker.wakeup_s() == float("inf")
    assert bench.ended is not None
    assert bench.ended.outcome is Outcome.REQUESTED

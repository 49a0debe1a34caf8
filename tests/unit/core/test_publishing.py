"""hitless.core.publishing, told as transcripts: starting, and moving from leg to leg"""

import pytest
from unit.core.bench import (
    Bench,
    a_list,
    fails,
    gray,
    hangs,
    opens,
    refuses,
    unreachable,
)

from hitless.core.attempts import Failure
from hitless.core.circuit import Circuit
from hitless.core.events import OpenLeg, Outcome, Role, SourceFailed, StreamRequested
from hitless.core.listing import Answer
from hitless.core.state import Phase
from hitless.errors import Retry


def three(policy=None, **providers):
    """Three good providers, but for what is said of them."""
    return Bench(
        policy, **{name: opens() for name in ("agora", "zegocloud", "webrtc")} | providers
    )


# --- Starting ---


def test_a_start_with_a_dead_first_provider_asks_it_twice_and_then_the_next():
    """
    Drill start-with-failed-provider.
    """
    bench = three(agora=refuses())
    bench.publish()
    bench.run(2.0)

    assert bench.asked == ["agora", "agora", "zegocloud"]
    assert bench.session.provider == "zegocloud"
    assert bench.said("stream.on_air", "failover") == [
        "failover.started agora",
        "failover.trying zegocloud",
        "stream.on_air zegocloud",
        "failover.succeeded zegocloud",
    ]


SHARED = {"agora": {"fault_domain": "west"}, "zegocloud": {"fault_domain": "west"}}


def test_after_a_failure_the_next_choice_comes_from_another_fault_domain():
    """
    What broke the first may have broken its neighbour: the neighbour is asked last.
    """
    listed = a_list("agora", "zegocloud", "webrtc", config=SHARED)
    start = Bench(None, listed=listed, agora=refuses(), zegocloud=opens(), webrtc=refuses())
    start.publish()
    start.run(3.0)
    move = Bench(None, listed=listed, agora=opens(), zegocloud=opens(), webrtc=opens())
    move.on_air()
    move.silent("agora")
    move.run(1.0)

    assert start.asked == ["agora", "agora", "webrtc", "zegocloud"]
    assert move.session.provider == "webrtc"


def test_a_leg_may_take_as_long_as_its_provider_says():
    """
    Ingest over RTMP proves its first media later than WHIP does.
    """
    listed = a_list("agora", "zegocloud", config={"agora": {"first_media_s": 8.0}})
    bench = Bench({"start_s_max": 30.0}, listed=listed, agora=opens(7.0), zegocloud=opens())
    bench.publish()
    bench.run(10.0)

    assert bench.asked == ["agora"]
    assert bench.session.provider == "agora"


def test_a_start_with_a_silent_first_provider_does_the_same():
    """
    A first provider that cannot be reached at all costs two deadlines, and is blamed afterwards.
    """
    bench = three(agora=unreachable(1.0))
    bench.publish()
    bench.run(5.0)

    assert bench.asked == ["agora", "agora", "zegocloud"]
    assert bench.blamed == ["agora", "agora"]


def test_a_disabled_default_is_never_asked():
    """
    Drill start-with-disabled-default.
    """
    listed = a_list("agora", "zegocloud", "webrtc", disabled=("agora",), default="agora")
    bench = three()
    bench.listed = listed
    bench.publish()
    bench.run(2.0)

    assert bench.asked == ["zegocloud"]
    assert bench.blamed == []


def test_the_named_default_goes_first():
    """
    `default` beats priority.
    """
    bench = three()
    bench.listed = a_list("agora", "zegocloud", "webrtc", default="webrtc")
    bench.publish()
    bench.run(2.0)

    assert bench.asked == ["webrtc"]


def test_a_start_on_dead_providers_ends_after_four_attempts():
    """
    Drill all-providers-down.
    """
    bench = three(agora=refuses(), zegocloud=refuses(), webrtc=refuses())
    bench.publish()
    bench.run(15.0)

    assert bench.asked == ["agora", "agora", "zegocloud", "webrtc"]
    assert bench.ended is not None
    assert bench.ended.outcome is Outcome.ALL_FAILED
    assert [a.provider for a in bench.attempts] == ["agora", "agora", "zegocloud", "webrtc"]
    assert bench.at("ended") < 2.0


def test_a_start_where_nothing_answers_ends_in_time_and_blames_nobody():
    """
    Silence everywhere may as well be our own network.
    """
    bench = three(agora=hangs(), zegocloud=hangs(), webrtc=hangs())
    bench.publish()
    bench.run(20.0)

    assert bench.ended is not None
    assert bench.ended.outcome is Outcome.ALL_FAILED
    assert bench.at("ended") <= 15.0 + 1e-9
    assert bench.blamed == []
    assert bench.asked == ["agora", "zegocloud", "webrtc"]
    assert len(bench.attempts) == 3


def test_a_start_with_everybody_disabled_asks_for_the_list_again_and_then_says_who():
    """
    Drill all-providers-disabled, idle: at most `max_retries` more reads of the list.
    """
    bench = three()
    bench.listed = a_list("agora", "webrtc", disabled=("agora", "webrtc"))
    bench.publish()
    bench.run(15.0)

    asks = [effect for _, effect in bench.effects if type(effect).__name__ == "AskList"]
    assert len(asks) == 1 + 3
    assert bench.asked == []
    assert bench.ended is not None
    assert bench.ended.outcome is Outcome.ALL_FAILED
    assert "agora, webrtc" in bench.ended.because


def test_a_list_that_comes_back_while_it_is_asked_again_saves_the_start():
    """
    Disabled is not for ever.
    """
    bench = three()
    bench.listed = None
    bench.publish()
    bench.run(0.01)
    bench.listed = a_list("agora")
    bench.run(2.0)

    assert bench.session.provider == "agora"


def test_a_local_fault_at_the_start_fails_over_to_nobody():
    """
    Drill local-fault: no camera is the same with every provider.
    """
    local = Failure(error="LocalFault", because="no camera", retry=Retry.NEVER, is_local=True)
    bench = three(agora=fails(local))
    bench.publish()
    bench.run(2.0)

    assert bench.asked == ["agora"]
    assert bench.blamed == []
    assert bench.ended is not None
    assert bench.ended.outcome is Outcome.LOCAL_FAULT


def test_a_source_that_fails_on_air_ends_the_stream_and_blames_nobody():
    """
    Drill local-fault, on air.
    """
    bench = three()
    bench.on_air()
    bench.hear(SourceFailed(session="s", because="the camera was unplugged"))

    assert bench.ended is not None
    assert bench.ended.outcome is Outcome.LOCAL_FAULT
    assert bench.blamed == []


def test_a_short_retry_after_is_waited_for_on_the_same_provider():
    """
    Up to a second the same provider is the quicker one.
    """
    bench = three(agora=refuses(retry_after_s=0.8))
    bench.publish()
    bench.run(0.5)
    bench.providers["agora"] = opens()
    bench.run(2.0)

    assert bench.asked == ["agora", "agora"]
    assert bench.asked_at("agora")[1] >= bench.asked_at("agora")[0] + 0.8


def test_a_long_retry_after_makes_the_next_provider_the_quicker_one():
    """
    And the one that asked is not asked before its time, by this stream or another.
    """
    bench = three(agora=refuses(retry_after_s=60.0))
    bench.publish()
    bench.run(2.0)
    assert bench.asked == ["agora", "zegocloud"]

    bench.hear(StreamRequested(session="t", stream="other", role=Role.PUBLISHER))
    bench.run(2.0)
    assert bench.asked == ["agora", "zegocloud", "zegocloud"]

    bench.providers["agora"] = opens()
    bench.run(60.0)
    bench.hear(StreamRequested(session="u", stream="third", role=Role.PUBLISHER))
    bench.run(2.0)
    assert bench.asked[-1] == "agora"


def test_a_retry_after_is_capped():
    """
    Nobody is left alone for longer than `retry_after_s_max`.
    """
    bench = three({"retry_after_s_max": 20.0}, agora=refuses(retry_after_s=9999.0))
    bench.publish()
    bench.run(2.0)
    bench.providers["agora"] = opens()
    bench.run(20.0)
    bench.hear(StreamRequested(session="t", stream="other", role=Role.PUBLISHER))
    bench.run(2.0)

    assert bench.asked[-1] == "agora"


def test_a_banned_provider_costs_a_start_no_attempt():
    """
    It is skipped while anybody else is left.
    """
    bench = three()
    bench.on_air()
    for _ in range(3):
        bench.error("webrtc")
    bench.providers["agora"] = bench.providers["zegocloud"] = refuses()
    bench.hear(StreamRequested(session="t", stream="other", role=Role.PUBLISHER))
    bench.run(5.0)

    assert bench.asked == ["agora", "agora", "zegocloud", "webrtc"]


# --- On air ---


def test_a_killed_provider_is_left_for_the_next_one():
    """
    Drill provider-killed: one attempt, the same stream, the old leg is let go.
    """
    bench = three()
    bench.on_air()
    bench.providers["agora"] = refuses()
    bench.silent("agora")
    bench.run(0.05)
    bench.lost("agora")
    bench.run(2.0)

    assert bench.asked == ["zegocloud"]
    assert bench.session.provider == "zegocloud"
    assert bench.session.epoch == 2
    assert bench.said("failover") == [
        "failover.started agora",
        "failover.trying zegocloud",
        "failover.succeeded zegocloud",
    ]
    assert [leg.provider for leg in bench.session.legs] == ["zegocloud"]
    assert bench.state.standing["agora"].breaker.circuit is Circuit.OPEN


def test_a_hanging_provider_is_left_on_silence_alone():
    """
    Drill provider-hangs: nothing was answered, nothing was refused.
    """
    bench = three()
    bench.on_air()
    bench.providers["agora"] = hangs()
    silent_s = bench.now
    bench.silent("agora")
    bench.run(2.0)

    assert bench.at("failover.succeeded zegocloud") == pytest.approx(silent_s + 0.1)
    assert bench.blamed == ["agora"]


def test_a_gray_provider_is_left_within_the_first_media_deadline():
    """
    Drill gray-ingest: it answered 201 and carries nothing; that is not asked twice.
    """
    bench = three(agora=gray(2.5))
    bench.publish()
    bench.run(5.0)

    assert bench.asked == ["agora", "zegocloud"]
    assert bench.session.provider == "zegocloud"


def test_a_provider_that_accepts_and_then_says_nothing_at_all_meets_our_own_deadline():
    """
    No adapter that forgets its deadline can hold a start up for longer than `first_media_s`.
    """
    bench = three(agora=hangs())
    bench.publish()
    bench.run(3.1)

    assert bench.asked == ["agora", "zegocloud"]
    assert bench.asked_at("zegocloud")[0] == pytest.approx(bench.asked_at("agora")[0] + 3.0)


def test_a_silence_that_ends_before_the_next_leg_opens_changes_nothing():
    """
    Silence is not death: the first to carry media wins, and nobody is blamed.
    """
    bench = three(zegocloud=opens(1.0))
    bench.on_air()
    bench.silent("agora")
    assert bench.phase is Phase.RECOVERING
    bench.run(0.3)
    bench.heard("agora")
    bench.run(10.0)

    assert bench.phase is Phase.ON_AIR
    assert bench.session.provider == "agora"
    assert bench.session.epoch == 1
    assert bench.moves == []
    assert bench.blamed == []
    assert [leg.provider for leg in bench.session.legs] == ["agora"]


def test_what_is_asked_for_during_a_move_is_folded_into_it():
    """
    One move at a time: silence, errors, a failed check and an operator make one failover.
    """
    bench = three(zegocloud=opens(0.5))
    bench.on_air()
    bench.silent("agora")
    for _ in range(3):
        bench.error("agora")
    bench.check("agora", Answer.UNHEALTHY)
    bench.switch()
    bench.run(0.1)
    bench.lost("agora")
    bench.run(5.0)

    assert bench.asked == ["zegocloud"]
    assert bench.moves == ["zegocloud"]


def test_a_silence_during_a_planned_move_makes_it_a_failover_to_the_same_place():
    """
    The leg being opened is kept: nothing is quicker.
    """
    bench = three(webrtc=opens(0.5))
    bench.on_air()
    bench.switch("webrtc")
    bench.run(0.1)
    bench.silent("agora")
    bench.run(2.0)

    assert bench.asked == ["webrtc"]
    assert bench.said("failover.succeeded", "migration.succeeded") == ["failover.succeeded webrtc"]


def test_a_new_leg_that_dies_during_the_overlap_gives_way_to_the_old_one():
    """
    Both are fed for `overlap_s`; the old one is still there.
    """
    bench = three({"overlap_s": 10.0})
    bench.on_air()
    bench.switch("zegocloud")
    bench.run(1.0)
    assert bench.session.provider == "zegocloud"
    bench.lost("zegocloud")

    assert bench.session.provider == "agora"
    assert bench.asked == ["zegocloud"]
    assert bench.session.epoch == 3


def test_the_old_leg_is_closed_after_the_overlap():
    """
    Planned moves feed both legs for `overlap_s` and no longer.
    """
    bench = three({"overlap_s": 10.0})
    bench.on_air()
    bench.switch("zegocloud")
    bench.run(9.9)
    assert [leg.provider for leg in bench.session.legs] == ["agora", "zegocloud"]
    bench.run(0.5)

    assert [leg.provider for leg in bench.session.legs] == ["zegocloud"]


def test_a_planned_move_that_finds_nobody_stays_and_says_so():
    """
    A stream is never ended because a move failed.
    """
    bench = three(zegocloud=refuses())
    bench.on_air()
    bench.switch("zegocloud")
    bench.run(5.0)

    assert bench.session.provider == "agora"
    assert bench.asked == ["zegocloud", "zegocloud"]
    assert bench.said("stream.stays") == ["stream.stays agora"]


def test_a_provider_disabled_while_a_leg_is_opened_on_it_is_let_go():
    """
    The list is obeyed at once, not only at the next start.
    """
    bench = three(agora=hangs())
    bench.publish()
    bench.run(0.1)
    bench.list_is(a_list("agora", "zegocloud", "webrtc", disabled=("agora",)))
    bench.run(1.0)

    assert bench.asked == ["agora", "zegocloud"]
    assert bench.session.provider == "zegocloud"
    assert bench.session.attempts[0].provider == "zegocloud"


# --- Ending ---


def test_the_end_closes_every_leg_and_the_monitoring():
    """
    Nothing remains: no leg, no timer.
    """
    bench = three({"overlap_s": 60.0})
    bench.on_air()
    bench.switch("zegocloud")
    bench.run(1.0)
    bench.end()

    assert bench.ended is not None
    assert bench.ended.outcome is Outcome.REQUESTED
    assert bench.checker.open_legs == {}
    assert bench.checker.wakeup_s() == float("inf")
    assert bench.said("health.monitoring_stopped")


def test_every_leg_and_its_reason_is_told_in_order():
    """
    The words on the console, at their moments.
    """
    bench = three(agora=refuses(retry=Retry.NEXT))
    bench.publish()
    bench.run(0.5)

    opened = [effect for _, effect in bench.effects if isinstance(effect, OpenLeg)]
    assert [effect.because for effect in opened] == ["a start was asked for"] * 2
    assert [words for _, words in bench.told] == [
        "leg.opening agora",
        "leg.failed agora",
        "provider.failed agora",
        "failover.started agora",
        "failover.trying zegocloud",
        "leg.opening zegocloud",
        "leg.opened zegocloud",
        "stream.on_air zegocloud",
        "started",
        "failover.succeeded zegocloud",
        "health.monitoring_started zegocloud",
    ]

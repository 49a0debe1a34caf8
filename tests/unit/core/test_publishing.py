"""hitless.core.publishing, told as transcripts: what happens, and what must come of it"""

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
from hitless.core.policy import ReturnPolicy
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


# --- What the program, the backend and the operator say ---


def test_three_errors_in_a_row_move_the_stream():
    """
    Drill errors-recorded.
    """
    bench = three()
    bench.on_air()
    bench.error("agora")
    bench.error("agora")
    bench.run(1.0)
    assert bench.moves == []
    bench.error("agora")
    bench.run(1.0)

    assert bench.moves == ["zegocloud"]


def test_a_success_between_errors_resets_the_count():
    """
    Drill errors-recorded: two, a success, two.
    """
    bench = three()
    bench.on_air()
    for tell in (bench.error, bench.error, bench.success, bench.error, bench.error):
        tell("agora")
    bench.run(5.0)

    assert bench.moves == []
    assert bench.session.provider == "agora"


def test_the_third_unhealthy_answer_in_a_row_moves_the_stream_and_not_the_second():
    """
    Drill health-failures, at an interval of one second.
    """
    bench = three({"health_interval_s": 1.0})
    bench.on_air()
    bench.health["agora"] = Answer.UNHEALTHY
    bench.run(2.5)
    assert len(bench.said("health.failed")) == 2
    assert bench.moves == []
    bench.run(1.0)

    assert bench.moves == ["zegocloud"]
    assert bench.said("health.failed")[:3] == ["health.failed agora"] * 3


def test_one_healthy_answer_resets_the_count():
    """
    Drill health-failures.
    """
    bench = three({"health_interval_s": 1.0})
    bench.on_air()
    for answer in (Answer.UNHEALTHY, Answer.UNHEALTHY, Answer.HEALTHY) * 3:
        bench.check("agora", answer)
    bench.run(0.5)

    assert bench.moves == []
    assert bench.said("health.recovered") == ["health.recovered agora"] * 3


def test_checks_that_get_no_answer_do_not_count_while_frames_flow():
    """
    Drill health-check-lies: it stays, and says why.
    """
    bench = three({"health_interval_s": 1.0})
    bench.on_air()
    bench.health["agora"] = Answer.UNANSWERED
    bench.run(10.0)

    assert bench.moves == []
    assert bench.blamed == []
    assert len(bench.said("health.ignored")) >= 5


def test_checks_that_get_no_answer_count_when_media_does_not_beat_health():
    """
    Drill health-check-lies, with `media_beats_health = false`.
    """
    bench = three({"health_interval_s": 1.0, "media_beats_health": False})
    bench.on_air()
    bench.health["agora"] = Answer.UNANSWERED
    bench.run(2.5)
    assert bench.moves == []
    bench.run(1.0)

    assert bench.moves == ["zegocloud"]


def test_a_warning_about_us_is_no_failure():
    """
    401, 403, 404 and 429 say nothing of the provider.
    """
    bench = three()
    bench.on_air()
    for _ in range(5):
        bench.check("agora", Answer.WARNING)
    bench.run(1.0)

    assert bench.moves == []
    assert bench.said("health.warned") == ["health.warned agora"] * 5


def test_a_provider_disabled_on_air_is_left_at_that_tick():
    """
    Drill provider-disabled: a planned move, and nobody is blamed.
    """
    bench = three({"health_interval_s": 5.0})
    bench.on_air()
    bench.listed = a_list("agora", "zegocloud", "webrtc", disabled=("agora",))
    bench.run(6.0)

    assert bench.moves == ["zegocloud"]
    assert bench.said("migration") == [
        "migration.started zegocloud",
        "migration.succeeded zegocloud",
    ]
    assert bench.blamed == []


def test_a_stream_stays_when_every_provider_is_disabled_and_says_so():
    """
    Drill all-providers-disabled, on air.
    """
    bench = three()
    bench.on_air()
    bench.list_is(a_list("agora", "zegocloud", disabled=("agora", "zegocloud")))
    bench.run(60.0)

    assert bench.phase is Phase.ON_AIR
    assert bench.said("stream.stays") == ["stream.stays agora"]
    assert bench.asked == []


def test_a_disabled_provider_is_left_later_when_nobody_could_take_the_stream_at_first():
    """
    Its disabling is not forgotten because the first move failed.
    """
    bench = three({"health_interval_s": 5.0}, zegocloud=refuses(), webrtc=refuses())
    bench.on_air()
    bench.listed = a_list("agora", "zegocloud", "webrtc", disabled=("agora",))
    bench.run(10.0)
    assert bench.session.provider == "agora"
    bench.providers["zegocloud"] = opens()
    bench.run(60.0)

    assert bench.session.provider == "zegocloud"


def test_a_new_first_choice_moves_the_stream_as_planned():
    """
    Drill backend-switch.
    """
    bench = three()
    bench.on_air()
    bench.list_is(a_list("webrtc", "agora", "zegocloud"))
    bench.run(1.0)

    assert bench.said("migration") == ["migration.started webrtc", "migration.succeeded webrtc"]
    assert bench.said("failover") == []


def test_an_unchanged_list_never_pulls_the_stream_back():
    """
    Drill backend-switch: only a change between two lists moves a stream.
    """
    bench = three({"health_interval_s": 1.0})
    bench.on_air()
    bench.lost("agora")
    bench.run(60.0)

    assert bench.moves == ["zegocloud"]
    assert bench.session.provider == "zegocloud"


def test_a_change_asked_for_during_a_failover_is_done_after_it():
    """
    One move at a time, and none is lost.
    """
    bench = three(zegocloud=opens(1.0))
    bench.on_air()
    bench.silent("agora")
    bench.list_is(a_list("webrtc", "agora", "zegocloud"))
    bench.run(5.0)

    assert bench.moves == ["zegocloud", "webrtc"]


def test_the_next_stream_after_a_switch_starts_on_the_new_provider():
    """
    Drill next-stream-after-switch.
    """
    bench = three()
    bench.on_air()
    bench.end()
    bench.listed = a_list("webrtc", "agora", "zegocloud")
    bench.hear(StreamRequested(session="t", stream="next", role=Role.PUBLISHER))
    bench.run(1.0)

    assert bench.asked == ["webrtc"]


# --- In the dark ---


def test_a_stream_whose_providers_all_die_says_so_and_returns_by_itself():
    """
    Drill all-providers-die: one comes back after ten seconds.
    """
    bench = three()
    bench.on_air()
    for name in bench.providers:
        bench.providers[name] = refuses()
    bench.lost("agora")
    bench.run(10.0)
    assert bench.phase is Phase.OFF_AIR
    assert len(bench.said("stream.off_air")) == 1
    bench.providers["webrtc"] = opens()
    bench.run(3.0)

    assert bench.phase is Phase.ON_AIR
    assert bench.session.provider == "webrtc"
    assert len(bench.asked) < 60


def test_a_stream_that_nobody_carries_is_given_up_in_the_end():
    """
    No path loops for ever: `give_up_s`, with the errors of the last attempts.
    """
    bench = three({"give_up_s": 60.0})
    bench.on_air()
    for name in bench.providers:
        bench.providers[name] = refuses()
    lost_s = bench.now
    bench.lost("agora")
    bench.run(70.0)

    assert bench.ended is not None
    assert bench.ended.outcome is Outcome.ALL_FAILED
    assert bench.at("ended") == pytest.approx(lost_s + 60.0)
    assert bench.attempts


def test_the_own_network_down_blames_nobody_and_resumes_on_the_silent_leg():
    """
    Drill own-network-down: eight seconds in which nothing answers.
    """
    bench = three()
    bench.on_air()
    for name in bench.providers:
        bench.providers[name] = unreachable(3.0)
    bench.listed = None
    bench.silent("agora")
    bench.run(8.0)
    assert bench.session.leg(bench.session.on_air) is not None, "the silent leg is kept"
    before = len(bench.session.attempts)
    bench.heard("agora")
    for name in bench.providers:
        bench.providers[name] = opens()
    bench.run(20.0)

    assert bench.phase is Phase.ON_AIR
    assert bench.session.provider == "agora"
    assert bench.blamed == []
    assert len(bench.session.attempts) == before == 1
    assert bench.said("network") == ["network.lost None", "network.back None"]


def test_the_own_network_down_for_long_blames_nobody_either():
    """
    A minute in the dark, and the old leg is dead when the network is back.
    """
    bench = three()
    bench.on_air()
    for name in bench.providers:
        bench.providers[name] = unreachable(0.0)
    bench.listed = None
    bench.silent("agora")
    bench.run(60.0)
    for name in bench.providers:
        bench.providers[name] = opens()
    bench.run(3.0)

    assert bench.phase is Phase.ON_AIR
    assert bench.blamed == []
    assert all(standing.failures == 0 for standing in bench.state.standing.values())


def test_a_silent_leg_is_closed_once_somebody_else_answers():
    """
    With a network that works, silence of `silent_leg_s` is death.
    """
    bench = three(zegocloud=refuses(), webrtc=refuses())
    bench.on_air()
    bench.providers["agora"] = hangs()
    bench.silent("agora")
    bench.run(4.5)
    assert bench.session.provider == "agora"
    bench.run(1.0)

    assert bench.session.provider is None
    assert bench.phase is Phase.OFF_AIR


def test_a_short_loss_of_the_own_network_leaves_no_doubt_behind():
    """
    What was asked in vain during the silence is excused with it.
    """
    bench = three(zegocloud=unreachable(1.0), webrtc=hangs())
    bench.on_air()
    bench.listed = None
    bench.silent("agora")
    bench.run(2.0)
    assert bench.state.doubts
    bench.heard("agora")
    bench.check("agora", Answer.HEALTHY)
    bench.run(5.0)

    assert bench.blamed == []
    assert bench.phase is Phase.ON_AIR


def test_a_provider_that_came_back_is_asked_though_its_dead_leg_is_still_kept():
    """
    Nobody answers, so it may be our network and the silent leg is kept: that must not keep a
    new one away.
    """
    bench = Bench(agora=opens(), zegocloud=hangs())
    bench.on_air()
    bench.listed = None
    bench.silent("agora")
    bench.run(10.0)

    assert bench.phase is Phase.ON_AIR
    assert bench.session.provider == "agora"
    assert bench.session.epoch == 2


def test_a_local_fault_during_a_failover_blames_nobody():
    """
    A socket that this machine could not open says nothing of the provider.
    """
    local = Failure(error="LocalFault", because="no socket", retry=Retry.NEVER, is_local=True)
    bench = three(zegocloud=fails(local))
    bench.on_air()
    bench.lost("agora", is_local=True)
    bench.run(2.0)

    assert bench.phase is Phase.ON_AIR
    assert bench.blamed == []


def test_a_stream_leaves_a_provider_that_another_stream_found_out():
    """
    Also when it was a deadline that told, and no event.
    """
    bench = three({"max_failures": 1})
    bench.on_air()
    bench.providers["agora"] = hangs()
    bench.hear(StreamRequested(session="t", stream="other", role=Role.PUBLISHER))
    bench.run(1.0)
    bench.check("agora", Answer.WARNING)
    bench.run(2.03)

    assert bench.state.standing["agora"].breaker.circuit is Circuit.OPEN
    bench.run(0.2)
    assert bench.session.provider == "zegocloud"


def test_a_banned_provider_is_left_though_its_media_stuttered_meanwhile():
    """
    A silence that ends does not call off a move that had another reason.
    """
    bench = three(zegocloud=opens(1.0))
    bench.on_air()
    for _ in range(3):
        bench.error("agora")
    bench.run(0.2)
    bench.silent("agora")
    bench.run(0.2)
    bench.heard("agora")
    bench.run(2.0)

    assert bench.moves == ["zegocloud"]


# --- Going back ---


def returning(**policy):
    return {"return_policy": ReturnPolicy.RETURN, "return_after_s": 3.0} | policy


def test_a_stream_stays_where_it_is_by_default_and_the_next_one_starts_on_the_healed():
    """
    Drill recovery, `stay`: circuit opens, trial, closes.
    """
    bench = three({"health_interval_s": 5.0})
    bench.on_air()
    bench.providers["agora"] = refuses()
    bench.health["agora"] = Answer.UNHEALTHY
    bench.lost("agora")
    bench.run(8.0)
    assert bench.state.standing["agora"].breaker.circuit is Circuit.OPEN
    bench.providers["agora"] = opens()
    bench.health["agora"] = Answer.HEALTHY
    bench.run(300.0)

    assert bench.said("circuit") == [
        "circuit.opened agora",
        "circuit.half_opened agora",
        "circuit.closed agora",
    ]
    assert bench.session.provider == "zegocloud"
    bench.hear(StreamRequested(session="t", stream="next", role=Role.PUBLISHER))
    bench.run(1.0)
    assert bench.asked[-1] == "agora"


def test_a_stream_returns_after_proven_media_when_told_to():
    """
    Drill recovery, `return`: a trial leg carries media for `return_after_s` first.
    """
    bench = three(returning())
    bench.on_air()
    bench.providers["agora"] = refuses()
    bench.lost("agora")
    bench.run(5.0)
    bench.providers["agora"] = opens()
    bench.run(20.0)

    assert bench.moves == ["zegocloud", "agora"]
    assert bench.said("trial") == ["trial.started agora"]
    opened_s = bench.at("leg.opened agora")
    assert bench.at("migration.succeeded agora") == pytest.approx(opened_s + 3.0)


def test_a_chosen_provider_is_not_left_for_a_better_one():
    """
    Who asked for it by name means it.
    """
    bench = three(returning())
    bench.on_air()
    bench.switch("zegocloud")
    bench.run(60.0)

    assert bench.moves == ["zegocloud"]


def test_media_lost_during_a_trial_goes_to_the_trial_leg_at_once():
    """
    Nothing is quicker than a leg that carries media already.
    """
    bench = three(returning(return_after_s=100.0))
    bench.on_air()
    bench.lost("agora")
    bench.run(20.0)
    assert {leg.provider for leg in bench.session.legs} == {"agora", "zegocloud"}
    bench.lost("zegocloud")

    assert bench.session.provider == "agora"


def test_a_trial_leg_that_opens_in_the_dark_wins():
    """
    The first to carry media does, whatever it was opened for.
    """
    bench = three(returning(), webrtc=hangs())
    bench.on_air()
    bench.providers["agora"] = refuses()
    bench.lost("agora")
    bench.run(5.0)
    bench.providers["agora"] = opens(1.0)
    while "agora" not in [leg.provider for leg in bench.session.legs]:
        bench.run(0.1)
    bench.silent("zegocloud")
    assert bench.phase is Phase.RECOVERING
    bench.run(1.1)

    assert bench.phase is Phase.ON_AIR
    assert bench.session.provider == "agora"


def test_a_trial_that_the_backend_disables_is_ended():
    """
    It could only lead to a place where the stream may not go.
    """
    bench = three(returning(return_after_s=20.0))
    bench.on_air()
    bench.lost("agora")
    bench.run(15.0)
    assert bench.leg("agora").live_s is not None
    bench.list_is(a_list("agora", "zegocloud", "webrtc", disabled=("agora",)))
    bench.run(60.0)

    assert bench.session.provider == "zegocloud"
    assert [leg.provider for leg in bench.session.legs] == ["zegocloud"]


def flap(bench, up, seconds, *, period_s=5.0):
    """Let providers be up and down in turns: `up[name]` tells which first; None: it is steady."""
    for turn in range(int(seconds / period_s)):
        is_up = {
            name: begins_up is None or (turn % 2 == 0) == begins_up
            for name, begins_up in up.items()
        }
        for name in up:
            bench.providers[name] = opens() if is_up[name] else refuses()
        for name in up:
            carrying = [leg for leg in bench.session.legs if leg.provider == name]
            if not is_up[name] and any(leg.live_s is not None for leg in carrying):
                bench.lost(name)
        bench.run(period_s)


def test_a_flapping_provider_moves_a_stream_at_most_twice():
    """
    Drill flapping: 5 s up, 5 s down, under `return`, for ten minutes.
    """
    bench = three(returning())
    bench.on_air()
    flap(bench, {"agora": True, "zegocloud": None, "webrtc": None}, 600.0)

    assert len(bench.moves) <= 2
    assert bench.session.provider == "zegocloud"


def test_two_providers_flapping_in_antiphase_move_a_stream_at_most_twice():
    """
    Drill flapping: the steady third one is where it settles.
    """
    bench = three(returning())
    bench.on_air()
    flap(bench, {"agora": True, "zegocloud": False, "webrtc": None}, 600.0)

    assert len(bench.moves) <= 2
    assert bench.session.provider == "webrtc"


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

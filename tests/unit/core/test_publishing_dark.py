"""hitless.core.publishing and trial: nobody carries it, and going back"""

import pytest
from unit.core.bench import (
    Bench,
    a_list,
    fails,
    hangs,
    opens,
    refuses,
    unreachable,
)

from hitless.core.attempts import Failure
from hitless.core.circuit import Circuit
from hitless.core.events import Outcome, Role, StreamRequested
from hitless.core.listing import Answer
from hitless.core.policy import ReturnPolicy
from hitless.core.state import Phase
from hitless.errors import Retry


def three(policy=None, **providers):
    """Three good providers, but for what is said of them."""
    return Bench(
        policy, **{name: opens() for name in ("agora", "zegocloud", "webrtc")} | providers
    )


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

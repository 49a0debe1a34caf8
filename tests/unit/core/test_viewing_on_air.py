"""hitless.core.viewing: a stream that moves, falls silent, ends or comes back"""

import pytest
from unit.core.bench import (
    Bench,
    a_list,
    absent,
    gray,
    hangs,
    opens,
    refuses,
    unreachable,
)

from hitless.core.events import Outcome, Role
from hitless.core.listing import Answer
from hitless.core.policy import ReturnPolicy
from hitless.core.state import Phase


def three(policy=None, **providers):
    """The publisher is on agora, unless something else is said."""
    return Bench(
        policy, **{"agora": opens(), "zegocloud": absent(), "webrtc": absent()} | providers
    )


def nowhere(**providers):
    """Nobody publishes."""
    return three(**{"agora": absent()} | providers)


# --- Watching ---


def test_a_viewer_that_loses_its_provider_finds_the_stream_where_the_publisher_went():
    """
    Drill provider-killed, at the viewer: it keeps asking until the publisher is there.
    """
    bench = three()
    bench.on_air(role=Role.VIEWER)
    bench.providers["agora"] = refuses()
    lost_s = bench.now
    bench.silent("agora")
    bench.run(0.2)
    bench.lost("agora")
    bench.providers["zegocloud"] = opens()
    bench.run(2.0)

    assert bench.session.provider == "zegocloud"
    assert bench.at("failover.succeeded") <= lost_s + 0.2 + 0.06 + 0.1
    assert bench.said("failover") == ["failover.started agora", "failover.succeeded zegocloud"]


def test_a_viewer_blames_nobody_for_lost_media():
    """
    The publisher may have moved or ended; a refusal, though, is counted.
    """
    bench = three()
    bench.on_air(role=Role.VIEWER)
    bench.silent("agora")
    bench.run(0.1)
    bench.providers["zegocloud"] = opens()
    bench.run(1.0)

    assert bench.session.provider == "zegocloud"
    assert bench.blamed == []


def test_a_viewer_finds_the_stream_though_another_provider_hangs():
    """
    Drill provider-hangs: what hangs is asked in its own loop, and costs nothing.
    """
    bench = three(webrtc=hangs())
    bench.on_air(role=Role.VIEWER)
    bench.providers["agora"] = hangs()
    bench.providers["zegocloud"] = opens()
    lost_s = bench.now
    bench.silent("agora")
    bench.run(1.0)

    assert bench.at("failover.succeeded zegocloud") == pytest.approx(lost_s + 0.1)


def test_a_silence_that_ends_changes_nothing():
    """
    The silent leg is kept, and wins.
    """
    bench = three()
    bench.on_air(role=Role.VIEWER)
    bench.silent("agora")
    bench.run(0.5)
    bench.heard("agora")
    bench.run(5.0)

    assert bench.phase is Phase.ON_AIR
    assert bench.session.epoch == 1
    assert bench.asked.count("agora") == 0
    assert len(bench.checker.open_legs) == 1


def test_a_leg_that_is_dead_on_a_provider_that_lives_is_replaced_there():
    """
    After a second of silence the same provider is asked anew, beside the silent leg.
    """
    bench = three()
    bench.on_air(role=Role.VIEWER)
    bench.silent("agora")
    bench.run(2.0)

    assert bench.phase is Phase.ON_AIR
    assert bench.session.provider == "agora"
    assert bench.session.epoch == 2


def test_a_stream_that_ends_is_over_for_its_viewers_after_end_grace_s():
    """
    Drill stream-ends: nobody is blamed, nothing fails over.
    """
    bench = three()
    bench.on_air(role=Role.VIEWER)
    bench.providers["agora"] = absent()
    lost_s = bench.now
    bench.silent("agora")
    bench.run(20.0)

    assert bench.ended is not None
    assert bench.ended.outcome is Outcome.STREAM_ENDED
    assert lost_s + 4.7 <= bench.at("ended") <= lost_s + 5.3
    assert bench.blamed == []
    assert bench.moves == []


def test_a_stream_that_ends_with_a_closed_leg_is_over_as_well():
    """
    A provider that says that it is over does not make it last.
    """
    bench = three()
    bench.on_air(role=Role.VIEWER)
    bench.providers["agora"] = absent()
    lost_s = bench.now
    bench.lost("agora")
    bench.run(20.0)

    assert bench.ended is not None
    assert bench.ended.outcome is Outcome.STREAM_ENDED
    assert bench.at("ended") <= lost_s + 5.3


def test_a_stream_that_comes_back_within_end_grace_s_goes_on():
    """
    Absence is not the end yet.
    """
    bench = three()
    bench.on_air(role=Role.VIEWER)
    bench.providers["agora"] = absent()
    bench.silent("agora")
    bench.run(4.0)
    bench.providers["webrtc"] = opens()
    bench.run(2.0)

    assert bench.phase is Phase.ON_AIR
    assert bench.session.provider == "webrtc"


def test_dead_providers_are_not_the_end_of_a_stream():
    """
    Drill all-providers-die, at the viewer: it looks on until the stream returns.
    """
    bench = three(zegocloud=refuses(), webrtc=refuses())
    bench.on_air(role=Role.VIEWER)
    bench.providers["agora"] = refuses()
    bench.lost("agora")
    bench.run(30.0)
    assert bench.phase is Phase.RECOVERING
    bench.providers["webrtc"] = opens()
    bench.run(4.0)

    assert bench.session.provider == "webrtc"


def test_a_stream_not_found_again_is_over_in_the_end():
    """
    No path loops for ever.
    """
    bench = three({"give_up_s": 30.0}, zegocloud=refuses(), webrtc=refuses())
    bench.on_air(role=Role.VIEWER)
    bench.providers["agora"] = refuses()
    bench.lost("agora")
    bench.run(60.0)

    assert bench.ended is not None
    assert bench.ended.outcome is Outcome.STREAM_ENDED


def test_the_own_network_down_blames_nobody_and_resumes_on_the_silent_leg():
    """
    Drill own-network-down, at the viewer.
    """
    bench = three()
    bench.on_air(role=Role.VIEWER)
    for name in bench.providers:
        bench.providers[name] = unreachable(0.0)
    bench.listed = None
    bench.silent("agora")
    bench.run(8.0)
    bench.heard("agora")
    for name in bench.providers:
        bench.providers[name] = absent()
    bench.run(20.0)

    assert bench.phase is Phase.ON_AIR
    assert bench.session.provider == "agora"
    assert bench.blamed == []


def test_a_viewer_follows_a_planned_move_and_never_asks_where_it_is():
    """
    Drill backend-switch: still live, that one would win.
    """
    bench = three()
    bench.on_air(role=Role.VIEWER)
    bench.providers["webrtc"] = opens()
    bench.list_is(a_list("webrtc", "agora", "zegocloud"))
    bench.run(1.0)

    assert set(bench.asked) == {"webrtc"}
    assert bench.moves == ["webrtc"]
    assert bench.said("migration") == ["migration.started webrtc", "migration.succeeded webrtc"]
    assert [leg.provider for leg in bench.session.legs] == ["webrtc"]


def test_a_viewer_that_hears_of_a_move_first_waits_for_the_publisher():
    """
    Watching on meanwhile.
    """
    bench = three()
    bench.on_air(role=Role.VIEWER)
    bench.list_is(a_list("webrtc", "agora", "zegocloud"))
    bench.run(20.0)
    assert bench.session.provider == "agora"
    bench.providers["webrtc"] = opens()
    bench.run(2.0)

    assert bench.moves == ["webrtc"]


def test_a_viewer_whose_publisher_never_moves_stays_and_says_so():
    """
    After `overlap_s` the search ends.
    """
    bench = three({"overlap_s": 5.0})
    bench.on_air(role=Role.VIEWER)
    bench.list_is(a_list("webrtc", "agora", "zegocloud"))
    bench.run(10.0)

    assert bench.phase is Phase.ON_AIR
    assert bench.said("stream.stays") == ["stream.stays agora"]
    assert bench.session.search_s is None


def test_a_viewer_leaves_a_disabled_provider_for_whoever_has_the_stream():
    """
    Drill provider-disabled, at the viewer.
    """
    bench = three({"health_interval_s": 5.0})
    bench.on_air(role=Role.VIEWER)
    bench.listed = a_list("agora", "zegocloud", "webrtc", disabled=("agora",))
    bench.run(5.0)
    bench.providers["zegocloud"] = opens()
    bench.run(3.0)

    assert bench.moves == ["zegocloud"]


def test_a_silence_during_a_planned_search_makes_it_a_rescue_everywhere():
    """
    One move at a time, in whatever direction the stream is found.
    """
    bench = three()
    bench.on_air(role=Role.VIEWER)
    bench.list_is(a_list("webrtc", "agora", "zegocloud"))
    bench.run(2.0)
    bench.providers["zegocloud"] = opens()
    bench.silent("agora")
    bench.run(1.0)

    assert bench.moves == ["zegocloud"]


def test_a_viewer_looks_elsewhere_when_its_provider_is_banned_and_stays_if_it_must():
    """
    Three failed checks do not darken a screen that shows a picture.
    """
    bench = three({"overlap_s": 5.0})
    bench.on_air(role=Role.VIEWER)
    for _ in range(3):
        bench.check("agora", Answer.UNHEALTHY)
    bench.run(10.0)

    assert set(bench.asked) == {"zegocloud", "webrtc"}
    assert bench.phase is Phase.ON_AIR
    assert bench.session.provider == "agora"


def test_a_refusal_with_retry_after_is_obeyed_by_a_viewer():
    """
    Other providers are asked meanwhile.
    """
    bench = three(zegocloud=refuses(retry_after_s=6.0))
    bench.on_air(role=Role.VIEWER)
    bench.providers["agora"] = gray()
    bench.lost("agora")
    bench.run(4.0)

    assert len(bench.asked_at("zegocloud")) == 1
    assert len(bench.asked_at("webrtc")) > 10


def test_a_viewer_returns_when_its_publisher_has():
    """
    Under `return`: a trial leg beside the one it watches, and no dark moment.
    """
    bench = three({"return_policy": ReturnPolicy.RETURN, "return_after_s": 3.0})
    bench.on_air(role=Role.VIEWER)
    bench.providers["agora"] = absent()
    bench.providers["zegocloud"] = opens()
    bench.lost("agora")
    bench.run(15.0)
    assert bench.session.provider == "zegocloud"
    bench.providers["agora"] = opens()
    bench.run(20.0)

    assert bench.moves == ["zegocloud", "agora"]
    assert bench.blamed == []

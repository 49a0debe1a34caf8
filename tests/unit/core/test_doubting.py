"""hitless.core.doubting: the next leg is there before silence is certain"""

from unit.core.bench import Bench, opens, refuses

from hitless.core.doubting import PAUSE_S
from hitless.core.events import Role


def three(policy=None, **providers):
    """Three providers whose legs take 0.1 s, but for what is said of them."""
    good = {name: opens(0.1) for name in ("agora", "zegocloud", "webrtc")}
    return Bench(policy, **good | providers)


def test_a_silence_that_was_doubted_before_finds_the_next_leg_open():
    """
    The stream is on air again at the moment it is called silent.
    """
    bench = three()
    bench.on_air()
    bench.doubted("agora")
    bench.run(0.15)
    bench.silent("agora")

    assert bench.session.provider == "zegocloud"
    assert bench.said("failover") == [
        "failover.started agora",
        "failover.trying zegocloud",
        "failover.succeeded zegocloud",
    ]
    assert bench.blamed == ["agora"]


def test_a_leg_that_is_still_opening_is_waited_for_and_no_second_one_begun():
    """
    Silence came before it was there.
    """
    bench = three()
    bench.on_air()
    asked = len(bench.asked)
    bench.doubted("agora")
    bench.run(0.05)
    bench.silent("agora")
    bench.run(0.06)

    assert bench.asked[asked:] == ["zegocloud"]
    assert bench.session.provider == "zegocloud"


def test_media_that_comes_back_closes_the_leg_and_nobody_is_blamed():
    """
    Jitter, not silence.
    """
    bench = three()
    bench.on_air()
    bench.doubted("agora")
    bench.run(0.15)
    bench.dispelled("agora")
    bench.run(1.0)

    assert [leg.provider for leg in bench.session.legs] == ["agora"]
    assert bench.session.provider == "agora"
    assert (bench.blamed, bench.said("failover")) == ([], [])


def test_needless_legs_are_opened_ever_more_seldom():
    """
    30 s, 60 s, 120 s ... apart: a network that jitters is not asked to carry twice as much.
    """
    bench = three()
    bench.on_air()
    asked = len(bench.asked)
    for _ in range(40):
        bench.doubted("agora")
        bench.run(0.2)
        bench.dispelled("agora")
        bench.run(PAUSE_S / 4)

    assert 3 <= len(bench.asked) - asked <= 4


def test_a_leg_begun_on_a_doubt_that_fails_is_nobodys_fault():
    """
    The failover that follows asks all in order.
    """
    bench = three(zegocloud=refuses())
    bench.on_air()
    bench.doubted("agora")
    bench.run(0.15)
    blamed = list(bench.blamed)
    bench.silent("agora")
    bench.run(0.5)

    assert blamed == []
    assert bench.session.provider == "webrtc"


def test_it_can_be_declined_and_is_not_for_viewers():
    """
    `opens_on_doubt = false`: one uplink, one leg.
    """
    bench = three({"opens_on_doubt": False})
    bench.on_air()
    viewer = three()
    viewer.on_air(role=Role.VIEWER)
    for one in (bench, viewer):
        asked = len(one.asked)
        one.doubted("agora")
        one.run(0.5)
        assert len(one.asked) == asked

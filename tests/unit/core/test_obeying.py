"""hitless.core.obeying, told as transcripts: what a client does with what a control plane says"""

from unit.core.bench import SESSION, Bench, a_list, absent, hangs, opens, refuses

from hitless.core.events import (
    ClaimPlacement,
    CloseLeg,
    ConfirmPlacement,
    LegsReleased,
    Outcome,
    PlacementTold,
    RescueTold,
    Role,
    StreamOver,
)
from hitless.core.state import Phase


def three(policy=None, **providers):
    """Three good providers, but for what is said of them."""
    names = ("agora", "zegocloud", "webrtc")
    return Bench(policy, **{name: opens() for name in names} | providers)


def told(bench, epoch, provider, *, is_own=False):
    """The control plane tells a placement."""
    because = "an operator moved it"
    bench.hear(
        PlacementTold(
            session=SESSION, epoch=epoch, provider=provider, because=because, is_own=is_own
        )
    )


def placed(role=Role.PUBLISHER, **providers):
    """A client on air where the placement of epoch 1 says."""
    bench = three(**providers)
    bench.publish() if role is Role.PUBLISHER else bench.watch()
    told(bench, 1, "agora")
    bench.run(1.0)
    assert bench.session.provider == "agora"
    return bench


def viewer(**providers):
    """A viewer on air where the placement of epoch 1 says; the publisher is nowhere else."""
    return placed(Role.VIEWER, **{"zegocloud": absent(), "webrtc": absent()} | providers)


def answers(bench):
    """Return what the control plane was told, in order."""
    said = []
    for _, effect in bench.effects:
        match effect:
            case ClaimPlacement():
                said.append(("claim", effect.base, effect.provider))
            case ConfirmPlacement():
                said.append(("confirm", effect.epoch, effect.provider))
    return said


# --- Starting ---


def test_a_start_begins_where_the_plan_says():
    bench = three()
    bench.publish()
    told(bench, 1, "webrtc")
    bench.run(1.0)

    assert bench.asked == ["webrtc"]
    assert answers(bench) == [("confirm", 1, "webrtc")]


def test_a_start_that_has_to_go_elsewhere_claims_it():
    bench = three(agora=refuses())
    bench.publish()
    told(bench, 1, "agora")
    bench.run(2.0)

    assert bench.asked == ["agora", "agora", "zegocloud"]
    assert answers(bench) == [("claim", 1, "zegocloud")]


def test_a_join_asks_first_where_the_plan_says():
    bench = three(agora=absent(), zegocloud=absent())
    bench.watch()
    told(bench, 4, "webrtc")
    bench.run(1.0)

    assert bench.asked == ["webrtc"]
    assert answers(bench) == [("confirm", 4, "webrtc")]


def test_a_client_without_a_control_plane_tells_it_nothing():
    bench = three()
    bench.on_air()
    bench.switch("webrtc")
    bench.run(2.0)

    assert bench.session.provider == "webrtc"
    assert answers(bench) == []


# --- A publisher ---


def test_a_publisher_goes_where_a_newer_placement_says_and_confirms():
    bench = placed()
    told(bench, 2, "webrtc")
    bench.run(2.0)

    assert bench.moves == ["webrtc"]
    assert answers(bench)[-1] == ("confirm", 2, "webrtc")


def test_nobody_obeys_an_older_placement():
    bench = placed()
    told(bench, 3, "webrtc")
    bench.run(2.0)
    told(bench, 2, "zegocloud")
    told(bench, 3, "zegocloud")
    bench.run(2.0)

    assert bench.moves == ["webrtc"]


def test_a_publisher_saves_its_stream_first_and_claims_afterwards():
    bench = placed()
    bench.silent("agora")
    bench.run(1.0)

    assert bench.session.provider == "zegocloud"
    assert answers(bench) == [("confirm", 1, "agora"), ("claim", 1, "zegocloud")]


def test_an_accepted_claim_changes_nothing():
    bench = placed()
    bench.silent("agora")
    bench.run(1.0)
    told(bench, 2, "zegocloud", is_own=True)
    bench.run(2.0)

    assert bench.moves == ["zegocloud"]
    assert answers(bench)[-1] == ("confirm", 2, "zegocloud")


def test_a_publisher_whose_claim_lost_goes_where_the_winner_says():
    bench = placed()
    bench.silent("agora")
    bench.run(1.0)
    told(bench, 2, "webrtc")
    bench.run(2.0)

    assert bench.moves == ["zegocloud", "webrtc"]
    assert answers(bench)[-1] == ("confirm", 2, "webrtc")


def test_a_publisher_does_not_go_back_for_an_older_claim_of_its_own():
    """
    It claimed zegocloud, lost it too and is on webrtc when the first claim is answered.
    """
    bench = placed()
    bench.silent("agora")
    bench.run(1.0)
    bench.silent("zegocloud")
    bench.run(1.0)
    assert bench.session.provider == "webrtc"
    told(bench, 2, "zegocloud", is_own=True)
    bench.run(2.0)

    assert bench.session.provider == "webrtc"
    assert answers(bench)[-1] == ("claim", 2, "webrtc")


def test_a_publisher_that_cannot_go_where_it_is_told_stays_and_claims_to_be_there():
    bench = placed(webrtc=refuses())
    told(bench, 2, "webrtc")
    bench.run(5.0)

    assert bench.session.provider == "agora"
    assert answers(bench)[-1] == ("claim", 2, "agora")


def told_again_and_again(bench, because, times=4):
    """A fleet move deals the stream again each second; its publisher claims it back each time."""
    for _ in range(times):
        epoch = bench.session.follower.epoch
        order = PlacementTold(session=SESSION, epoch=epoch + 1, provider="agora", because=because)
        bench.hear(order)
        told(bench, epoch + 2, "zegocloud", is_own=True)
        bench.run(1.0)


def test_a_publisher_that_is_told_again_to_go_where_it_failed_says_once_that_it_stays():
    bench = placed()
    bench.silent("agora")
    bench.run(2.0)
    told(bench, 2, "zegocloud", is_own=True)
    bench.told.clear()
    told_again_and_again(bench, "agora is the default now")

    refusal = ["migration.started agora", "stream.stays zegocloud"]
    assert bench.said("migration", "stream.stays") == refusal
    claims = [one for one in answers(bench) if one[0] == "claim"]
    assert claims[1:] == [("claim", epoch, "zegocloud") for epoch in (3, 5, 7, 9)]

    told_again_and_again(bench, "an operator wants it there", times=2)
    assert bench.said("migration", "stream.stays") == refusal * 2


def test_a_placement_told_in_the_middle_of_a_failover_is_obeyed_after_it():
    bench = placed(zegocloud=opens(0.5))
    bench.silent("agora")
    bench.run(0.1)
    told(bench, 2, "webrtc")
    bench.run(3.0)

    assert bench.moves == ["zegocloud", "webrtc"]
    assert answers(bench) == [("confirm", 1, "agora"), ("confirm", 2, "webrtc")]


def test_with_a_control_plane_a_change_of_the_list_moves_nothing_by_itself():
    bench = placed()
    bench.list_is(a_list("webrtc", "agora", "zegocloud"))
    bench.run(2.0)

    assert bench.moves == []


def test_a_placement_with_a_provider_that_is_not_listed_yet_waits_for_the_list():
    bench = placed(fresh=opens())
    bench.listed = a_list("agora", "zegocloud", "webrtc")
    bench.list_is(bench.listed)
    bench.listed = a_list("agora", "zegocloud", "webrtc", "fresh")
    told(bench, 2, "fresh")
    bench.run(2.0)

    assert bench.moves == ["fresh"]


def test_the_leg_that_was_left_closes_when_the_viewers_have_followed():
    bench = placed()
    told(bench, 2, "webrtc")
    bench.run(1.0)
    assert [leg.provider for leg in bench.session.legs] == ["agora", "webrtc"]
    bench.hear(LegsReleased(session=SESSION, epoch=1))
    assert len(bench.session.legs) == 2  # of a placement that is over
    bench.hear(LegsReleased(session=SESSION, epoch=2))

    assert [leg.provider for leg in bench.session.legs] == ["webrtc"]


# --- Rescue ---


def test_a_publisher_serves_cut_off_viewers_over_one_more_leg():
    bench = placed()
    bench.hear(RescueTold(session=SESSION, provider="webrtc", because="a viewer is cut off"))
    bench.run(1.0)
    assert [leg.provider for leg in bench.session.legs] == ["agora", "webrtc"]
    assert bench.session.provider == "agora"
    assert answers(bench) == [("confirm", 1, "agora")]
    bench.hear(RescueTold(session=SESSION, provider=None, because="nobody watches it"))

    assert [leg.provider for leg in bench.session.legs] == ["agora"]


def test_a_rescue_leg_outlives_a_move_of_the_stream():
    bench = placed()
    bench.hear(RescueTold(session=SESSION, provider="webrtc", because="a viewer is cut off"))
    bench.run(1.0)
    told(bench, 2, "zegocloud")
    bench.run(1.0)

    assert bench.session.provider == "zegocloud"
    assert {leg.provider for leg in bench.session.legs} == {"agora", "webrtc", "zegocloud"}


def test_a_rescue_leg_is_where_a_failover_goes_at_once():
    bench = placed()
    bench.hear(RescueTold(session=SESSION, provider="webrtc", because="a viewer is cut off"))
    bench.run(1.0)
    lost_s = bench.now
    bench.silent("agora")

    assert bench.session.provider == "webrtc"
    assert bench.at("failover.succeeded") == lost_s


def test_a_rescue_that_fails_leaves_the_stream_alone():
    bench = placed(webrtc=refuses())
    bench.hear(RescueTold(session=SESSION, provider="webrtc", because="a viewer is cut off"))
    bench.run(3.0)

    assert bench.phase is Phase.ON_AIR
    assert [leg.provider for leg in bench.session.legs] == ["agora"]
    assert bench.moves == []


def test_a_cut_off_viewer_finds_the_stream_where_it_is_rescued():
    bench = viewer()
    bench.providers["webrtc"] = opens()
    bench.hear(RescueTold(session=SESSION, provider="webrtc", because="it is cut off"))
    bench.run(1.0)

    assert bench.session.provider == "webrtc"
    assert answers(bench) == [("confirm", 1, "agora")]  # the placement is as it was


# --- A viewer ---


def test_a_viewer_follows_a_placement_while_it_goes_on_watching():
    bench = viewer()
    told(bench, 2, "webrtc")
    bench.run(0.3)
    assert bench.session.provider == "agora"
    bench.providers["webrtc"] = opens()
    bench.run(1.0)

    assert bench.session.provider == "webrtc"
    assert answers(bench) == [("confirm", 1, "agora"), ("confirm", 2, "webrtc")]


def test_a_viewer_in_search_asks_at_once_where_it_is_told_to():
    """
    The search has grown slow by now: without being told it would ask a second later.
    """
    bench = viewer(agora=opens())
    bench.providers["agora"] = hangs()
    bench.silent("agora")
    bench.run(8.2)
    bench.providers["webrtc"] = opens()
    asked = len(bench.asked_at("webrtc"))
    told(bench, 2, "webrtc")

    assert len(bench.asked_at("webrtc")) == asked + 1


def test_a_viewer_never_claims():
    bench = viewer()
    bench.providers |= {"agora": hangs(), "zegocloud": opens()}
    bench.silent("agora")
    bench.run(3.0)

    assert bench.session.provider == "zegocloud"
    assert answers(bench) == [("confirm", 1, "agora")]


def test_a_viewer_is_told_the_end_of_the_stream():
    bench = viewer()
    bench.hear(StreamOver(session=SESSION, because="the publisher ended it"))

    assert bench.ended is not None
    assert bench.ended.outcome is Outcome.STREAM_ENDED
    assert any(isinstance(effect, CloseLeg) for _, effect in bench.effects)


def test_a_publisher_ends_its_stream_by_itself():
    bench = placed()
    bench.hear(StreamOver(session=SESSION, because="late news"))

    assert bench.phase is Phase.ON_AIR


def test_news_for_a_session_that_is_over_is_nothing():
    bench = placed()
    bench.end()
    told(bench, 2, "webrtc")
    bench.hear(LegsReleased(session=SESSION, epoch=2))

    assert bench.phase is Phase.ENDED

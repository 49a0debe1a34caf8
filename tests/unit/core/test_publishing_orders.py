"""hitless.core.publishing: what the program, the backend and the operator say"""

from unit.core.bench import (
    Bench,
    a_list,
    opens,
    refuses,
)

from hitless.core.events import AskList, Role, StreamRequested
from hitless.core.listing import Answer
from hitless.core.state import Phase


def three(policy=None, **providers):
    """Three good providers, but for what is said of them."""
    return Bench(
        policy, **{name: opens() for name in ("agora", "zegocloud", "webrtc")} | providers
    )


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


def disabled_beside_a_banned_default():
    """
    On air at zegocloud, which is disabled then; the default is agora, which failed here.
    """
    bench = Bench({"health_interval_s": 1.0}, agora=opens(), zegocloud=opens())
    bench.on_air()
    bench.silent("agora")
    bench.run(2.0)
    bench.told.clear()
    names = ("agora", "zegocloud")
    bench.listed = a_list(*names, default="agora", disabled=("zegocloud",))
    return bench


def test_that_nobody_can_take_a_disabled_stream_is_said_once_and_not_at_each_poll():
    bench = disabled_beside_a_banned_default()
    bench.run(6.0)

    assert bench.said("stream.stays", "migration") == ["stream.stays zegocloud"]
    assert len([one for one in bench.effects if isinstance(one[1], AskList)]) >= 5


def test_a_list_that_changes_again_has_it_said_again():
    bench = disabled_beside_a_banned_default()
    before = bench.listed
    bench.run(2.5)
    bench.listed = a_list("agora", "zegocloud", default="agora", disabled=("agora", "zegocloud"))
    bench.run(1.0)
    bench.told.clear()
    bench.listed = before
    bench.run(2.5)

    assert bench.said("stream.stays", "migration") == [
        "migration.started agora",  # which the list prefers again
        "stream.stays zegocloud",
        "stream.stays zegocloud",  # which is disabled, with nobody else to go to
    ]


def test_who_asks_twice_for_a_banned_provider_is_told_twice():
    bench = three()
    bench.on_air()
    bench.silent("agora")
    bench.run(2.0)
    bench.told.clear()
    for _ in range(2):
        bench.switch("agora")
        bench.run(0.5)

    assert bench.said("stream.stays") == ["stream.stays zegocloud"] * 2


def test_a_stream_that_was_said_to_stay_moves_when_the_ban_of_the_default_is_over():
    bench = disabled_beside_a_banned_default()
    bench.run(60.0)

    assert bench.session.provider == "agora"
    assert bench.said("stream.stays", "migration") == [
        "stream.stays zegocloud",
        "migration.started agora",
        "migration.succeeded agora",
    ]


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


# --- What a provider says of a leg ---


def test_a_leg_whose_credential_cannot_be_renewed_is_left_by_a_planned_move():
    bench = three()
    bench.on_air()
    bench.expiring("agora")
    bench.run(1.0)

    assert bench.moves == ["zegocloud"]
    assert bench.said("migration", "failover") == [
        "migration.started zegocloud",
        "migration.succeeded zegocloud",
    ]
    assert bench.blamed == []


def test_where_nobody_else_can_take_it_the_stream_stays_until_the_credential_ends():
    bench = three(zegocloud=refuses(), webrtc=refuses())
    bench.on_air()
    bench.expiring("agora")
    bench.run(3.0)

    assert bench.session.provider == "agora"
    assert bench.said("stream.stays") == ["stream.stays agora"]


def test_a_viewer_does_not_move_for_the_age_of_its_own_credential():
    bench = three()
    bench.on_air(role=Role.VIEWER)
    bench.expiring("agora")
    bench.run(1.0)

    assert bench.asked == []

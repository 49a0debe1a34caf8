"""hitless.core.verdict: what clients report, and where."""

import pytest
from unit.core.observations import RULES, TICK, canary, fresh, join, lost, play, probe, who

from hitless.core import verdict
from hitless.core.observation import Level, QualityReported


# --- Reports ---


def test_three_clients_in_two_rooms_and_two_networks_condemn():
    """
    Neither fewer clients, nor one room, nor one network.
    """
    start = (0, probe(True), "healthy")
    play(start, (1, [lost(1), lost(2)], "healthy"))
    play(start, (1, [lost(n, stream="one") for n in range(20)], "healthy"))
    play(start, (1, [lost(n, network="one") for n in range(20)], "healthy"))
    play(start, (1, [lost(1)] * 50, "healthy"))
    standing, _ = play(start, (1, [lost(1), lost(2), lost(3)], "down 0"))

    found = standing.verdict("a")
    assert "3 of 3 clients lost media: stopped" == found.because
    assert (Level.END_TO_END, 3) == (found.level, found.reporters)


def test_a_crowd_in_one_room_or_network_does_not_drown_the_others():
    """
    Rates are also taken by room and by network, and the smallest counts.
    """
    others = [fresh(n) for n in range(100, 104)]
    room = [lost(n, stream="big") for n in range(60)] + [lost(n) for n in (61, 62)]
    behind = [lost(n, network="office") for n in range(60)] + [lost(n) for n in (61,)]

    play((0, [probe(True), *others, *room, TICK], "degraded"))
    play((0, [probe(True), *others, *behind, TICK], "degraded"))
    play((0, [probe(True), *others, *(lost(n) for n in range(60)), TICK], "down"))


def test_reports_count_for_a_window():
    """
    Failures that are not close together do not add up.
    """
    play(
        (0, [probe(True), lost(1), lost(2)], "healthy"),
        (RULES.window_s + 1, [lost(3), probe(True)], "healthy"),
        (RULES.window_s + 2, [lost(4), lost(5)], "down"),
    )


def test_starts_that_fail_while_media_flows_keep_new_starts_away():
    """
    F4: joins answered 500, running calls fine.
    """
    standing, _ = play(
        (0, [probe(True), fresh()], "healthy 1"),
        (1, [join(n, False) for n in (1, 2, 3)], "degraded 0"),
    )
    assert "3 of 3 starts fail: HTTP 500" == standing.verdict("a").because

    play((0, probe(True), "healthy 1"), (1, [join(n, False) for n in (1, 2, 3)], "down 0"))


def test_some_failures_degrade_and_do_not_ban():
    """
    A tenth of the clients, from all over.
    """
    well = [fresh(n) for n in range(20)]
    play((0, [probe(True), *well, *(lost(n) for n in (21, 22, 23)), TICK], "degraded 1"))


@pytest.mark.parametrize("bad", [{"loss": 0.2}, {"rtt_s": 1.0}, {"jitter_s": 0.3}])
def test_poor_quality_degrades_and_does_not_ban(bad):
    """
    F16 to F18; one client's own uplink (F19) does nothing.
    """
    poor = [QualityReported(**who(n), **bad) for n in range(3)]
    good = [QualityReported(**who(n), loss=0.0, rtt_s=0.1, jitter_s=0.01) for n in range(3)]
    begin = (0, [probe(True), fresh()], "healthy")

    play(begin, (1, poor[:1] * 9, "healthy"))
    play(begin, (1, poor, "degraded 1"), (2, good, "healthy 1"))


def test_a_canary_that_loses_pictures_degrades():
    """
    Seen, and not well.
    """
    play(
        (0, canary(True, loss=0.3), "degraded 1"),
        (1, canary(True, loss=0.0), "healthy 1"),
    )


# --- Regions ---


def test_one_region_down_degrades_the_provider():
    """
    F10: and the other region is as healthy as before.
    """
    standing, _ = play(
        (0, [probe(True), probe(True, region="eu"), probe(True, region="us")], "healthy"),
        (1, [probe(False, region="eu")] * 3, "eu: down 0, us: healthy 1, degraded 1"),
        (2, probe(True), "degraded"),
    )

    assert "eu: control fails: HTTP 503" == standing.verdict("a").because
    assert 0.0 == verdict.share(standing, "a", "eu")
    assert 1.0 == verdict.share(standing, "a", "us")


def test_clients_of_one_region_condemn_that_region_only():
    """
    Though they are most of the clients.
    """
    play(
        (0, [probe(True), fresh(100, region="us")], "healthy"),
        (1, [lost(n, region="eu") for n in range(9)], "eu: down 0, us: healthy, degraded 1"),
    )


def test_a_provider_whose_regions_are_all_down_is_down():
    """
    Though its global endpoint answers.
    """
    play(
        (0, [probe(True), probe(True, region="eu"), probe(True, region="us")], "healthy"),
        (1, [probe(False, region="eu")] * 3, "degraded"),
        (2, [probe(False, region="us")] * 3, "down 0"),
    )


def test_few_clients_in_many_regions_condemn_the_provider():
    """
    No region has a sample of its own.
    """
    play(
        (0, probe(True), "healthy"),
        (1, [lost(n, region=f"region-{n}") for n in range(4)], "down 0"),
    )

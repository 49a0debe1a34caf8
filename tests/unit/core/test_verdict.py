"""hitless.core.verdict, with what stands behind it: observation, evidence, returning, uptime"""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hitless.core import evidence, verdict
from hitless.core.cadence import interval_s, offset_s
from hitless.core.circuit import Circuit
from hitless.core.evidence import WORDS, Cell, Rules, Sign, Verdict, Word, look, row_after
from hitless.core.observation import (
    NETWORK_MARKS,
    NO_VOTES,
    Ballot,
    HeardElsewhere,
    JoinEnded,
    Level,
    ManyFresh,
    MediaFresh,
    MediaLost,
    OperatorSaid,
    ProbeEnded,
    QualityReported,
    Reached,
    Said,
    StartEnded,
    Ticked,
    cast,
    mark,
    vote_of,
)
from hitless.core.uptime import HOURS, MINUTES, Grade, History, passed, summary, tried
from hitless.core.verdict import PUBLIC, Standing, grade, judge, windows
from hitless.errors import ConfigError


RULES = Rules()
TICK = Ticked()


def probe(ok, provider="a", level=Level.CONTROL, **fields):
    """Return a probe's end; a failure is an answer unless said otherwise."""
    because = "it answers" if ok else "HTTP 503"
    return ProbeEnded(provider=provider, level=level, ok=ok, because=because, **fields)


def timeout(provider="a", **fields):
    """Return a probe that nobody answered."""
    return replace(probe(False, provider, **fields), because="timeout", answered=False)


def canary(ok, provider="a", **fields):
    """Return the end of a media canary."""
    return probe(ok, provider, Level.END_TO_END, **fields)


def who(number, *, stream=None, network=None, provider="a", region=None):
    """Return the fields of a client: each in a room and a network of its own, or in one."""
    return {
        "provider": provider,
        "region": region,
        "client": f"client-{number}",
        "stream": stream or f"room-{number}",
        "network": network or f"net-{number}",
    }


def join(number, ok, **fields):
    """Return the end of a join."""
    return JoinEnded(**who(number, **fields), ok=ok, because="" if ok else "HTTP 500")


def fresh(number=0, **fields):
    """Return a client that has media."""
    return MediaFresh(**who(number, **fields))


def lost(number, **fields):
    """Return a client that lost its media."""
    return MediaLost(**who(number, **fields))


def play(*rows, rules=RULES, standing=None, provider="a"):
    """
    Play a transcript: (when [s], observation or several, what is thought then).

    What is thought is `word`, or `word share`, of a provider; `region: word` of a region.
    """
    standing, news = standing or Standing(), []
    for at_s, observed, expected in rows:
        for one in observed if isinstance(observed, list) else [observed]:
            standing, more = judge(rules, standing, one, at_s)
            news += more
        for thought in filter(None, (expected or "").split(", ")):
            region, _, words = thought.rpartition(": ")
            found = standing.verdict(provider, region or None)
            wanted, _, share = words.partition(" ")
            assert (at_s, wanted) == (at_s, found.word.value), found
            assert not share or float(share) == pytest.approx(found.share), (at_s, found)
    return standing, news


# --- Tables ---


def test_every_pair_of_signs_has_a_word():
    """
    The table leaves nothing to chance.
    """
    assert set(itertools.product(Sign, Sign)) == set(WORDS)


def test_every_word_has_a_public_answer():
    """
    Exactly the four of the contract; what is not known is no reason for anybody to move.
    """
    assert PUBLIC == {
        Word.HEALTHY: (True, "active"),
        Word.DEGRADED: (True, "degraded"),
        Word.DOWN: (False, "down"),
        Word.DISABLED: (False, "disabled"),
        Word.UNKNOWN: (True, "active"),
    }


def observed(control, media):
    """Return the word of these two signs, each made by observations."""
    rows = {
        Sign.GOOD: [probe(True)],
        Sign.BAD: [probe(False)] * 3,
        Sign.NONE: [],
    }[control] + ([canary(True)] if media is Sign.GOOD else [])
    cell, votes = Cell(), NO_VOTES
    for one in rows:
        row = row_after(cell.rows.get(one.level), one, 5.0)
        cell = replace(cell, rows={**cell.rows, one.level: row})
    for number in range(4 if media is Sign.BAD else 0):
        one = vote_of(lost(number), None, ok=False, because="", now=5.0)
        votes = cast(votes, [one], votes_max=9)
    ballots = [[], list(votes.values()), []]
    return look(RULES, cell, ballots, 5.0, witness_s=float("inf"), fresh_s=None).word


SIGNS = [pytest.param(pair, id=f"{pair[0]}+{pair[1]}") for pair in WORDS]


@pytest.mark.parametrize("pair", SIGNS)
def test_two_signs_make_one_word(pair):
    """
    Media is the better evidence in both directions.
    """
    control, media = pair
    expected = {
        Sign.GOOD: Word.DEGRADED if control is Sign.BAD else Word.HEALTHY,
        Sign.BAD: Word.DOWN,
        Sign.NONE: {
            Sign.GOOD: Word.HEALTHY,
            Sign.BAD: Word.DOWN,
            Sign.NONE: Word.UNKNOWN,
        }[control],
    }[media]

    assert observed(control, media) is expected


@pytest.mark.parametrize("pair", SIGNS)
def test_no_entry_of_the_table_may_change_unnoticed(pair, monkeypatch):
    """
    Each entry, to each other word.
    """
    was = observed(*pair)
    for word in (Word.HEALTHY, Word.DEGRADED, Word.DOWN, Word.UNKNOWN):
        if word is not was:
            monkeypatch.setitem(evidence.WORDS, pair, word)
            with pytest.raises((AssertionError, KeyError)):
                assert observed(*pair) is was


# --- Probes ---


def test_the_third_probe_in_a_row_that_fails_counts():
    """
    And not one before; a success in between begins anew.
    """
    play(
        (0, probe(True), "healthy 1"),
        (30, probe(False), "healthy 1"),
        (35, probe(False), "healthy 1"),
        (40, probe(True), "healthy 1"),
        (45, probe(False), "healthy"),
        (50, probe(False), "healthy"),
        (55, probe(False), "down 0"),
    )


def test_a_verdict_says_on_what_it_rests_and_what_is_not_proven():
    """
    A control probe proves no media; a canary proves everything above it.
    """
    standing, _ = play((0, probe(True), "healthy"))
    shallow = standing.verdict("a")
    standing, _ = play((1, canary(True), "healthy"), standing=standing)
    deep = standing.verdict("a")

    assert (Level.CONTROL, (Level.INGEST, Level.END_TO_END)) == (shallow.level, shallow.unproven)
    assert "not proven" in shallow.because
    assert (Level.END_TO_END, ()) == (deep.level, deep.unproven)
    assert 0.0 == deep.since_s


def test_an_ingest_probe_leaves_forwarding_unproven():
    """
    Taken is not forwarded.
    """
    standing, _ = play((0, [probe(True), probe(True, level=Level.INGEST)], "healthy"))

    assert Level.INGEST is standing.verdict("a").level
    assert (Level.END_TO_END,) == standing.verdict("a").unproven


def test_a_canary_that_is_never_seen_outweighs_an_api_that_answers():
    """
    F13: 200 all along, and down by media.
    """
    standing, news = play(
        (0, [probe(True), canary(True)], "healthy"),
        (300, [probe(True), canary(False)], "healthy"),
        (315, [probe(True), canary(False)], "healthy"),
        (330, [probe(True), canary(False)], "down 0"),
        (335, probe(True), "down 0"),
    )
    found = standing.verdict("a")

    assert Level.END_TO_END is found.level
    assert "canary (end_to_end) fails: HTTP 503" == found.because
    assert 330 == found.since_s
    assert ["verdict.changed", "share.changed"] == [one.name for one in news[-2:]]
    assert (Word.HEALTHY, Word.DOWN) == (news[-1].was, news[-1].verdict.word)


def test_a_canary_that_fails_while_clients_have_media_keeps_new_starts_away():
    """
    F4: running streams are left alone.
    """
    standing, _ = play(
        (0, [probe(True), canary(True)], "healthy 1"),
        (10, [canary(False), fresh()], "healthy"),
        (20, [canary(False), fresh()], "healthy"),
        (30, [fresh(), canary(False)], "degraded 0"),
    )

    assert (True, "degraded") == verdict.public_answer(standing, "a")


@pytest.mark.parametrize("media", [fresh(), canary(True)], ids=["client", "canary"])
def test_a_control_probe_alone_never_makes_it_unhealthy_while_media_is_fresh(media):
    """
    F22: the health check lies. When media is no longer fresh, it is believed.
    """
    limit_s = RULES.fresh_s if isinstance(media, MediaFresh) else RULES.canary_fresh_s
    play(
        (0, probe(True), "healthy"),
        (1, [probe(False)] * 2 + [media, probe(False)], "degraded"),
        (1 + limit_s, TICK, "degraded"),
        (2 + limit_s, probe(False), "down 0"),
        (3 + limit_s, media, "degraded"),
    )


def test_starts_that_work_outweigh_a_control_probe():
    """
    Whatever its endpoint says, it takes new streams.
    """
    play(
        (0, [probe(True), fresh()], "healthy 1"),
        (1, [probe(False)] * 3, "degraded 0"),
    )
    play(
        (0, [probe(True), fresh()], "healthy 1"),
        (1, [probe(False), probe(False)], "healthy"),
        (2, [join(1, True), probe(False)], "degraded 1"),
    )


def test_what_was_observed_long_ago_is_not_known_now():
    """
    Without probes a verdict fades.
    """
    play(
        (0, probe(True), "healthy"),
        (RULES.proof_s, TICK, "healthy"),
        (RULES.proof_s + 1, TICK, "unknown 1"),
    )


# --- Suspecting the observer ---


def test_when_nobody_answers_nobody_is_blamed():
    """
    Our own network: no verdict for as long as it lasts, and none from it afterwards.
    """
    rounds = [(t, [timeout("a"), timeout("b")], "healthy") for t in range(30, 90, 5)]
    standing, news = play((0, [probe(True), probe(True, "b")], "healthy"), *rounds)
    assert standing.suspect_because is not None
    assert standing.verdict("b").word is Word.HEALTHY
    assert ["observer.suspected"] == [one.name for one in news if one.name.startswith("obs")]
    assert windows(RULES, standing, "a", 90)[0].error_rate < 0.7

    standing, news = play(
        (90, probe(True, "b"), "healthy"),
        (91, timeout("a"), "healthy"),
        (92, timeout("a"), "healthy"),
        (93, timeout("a"), "healthy"),
        (94, probe(True, "b"), "down"),
        standing=standing,
    )
    assert standing.suspect_because is None
    assert "observer.trusted" == news[0].name


def test_a_silence_counts_once_another_provider_answered_after_it_began():
    """
    F2: it is them.
    """
    play(
        (0, [probe(True), probe(True, "b")], "healthy"),
        (30, timeout(), "healthy"),
        (35, timeout(), "healthy"),
        (40, timeout(), "healthy"),
        (41, probe(True, "b"), "down"),
    )


def test_a_silent_provider_with_nobody_to_compare_is_down():
    """
    With one provider there is nothing to suspect by.
    """
    play((0, probe(True), "healthy"), (30, [timeout()] * 3, "down"))


def test_the_probes_own_trouble_changes_nothing():
    """
    A late event loop, an encoder that gives nothing.
    """
    standing, _ = play((0, probe(True), "healthy"))
    after, news = play(
        *[(t, replace(probe(False), own_trouble=True), "healthy") for t in range(1, 20)],
        standing=standing,
    )

    assert after is standing
    assert news == []


def test_a_provider_that_was_condemned_before_stays_so_when_we_were_cut_off():
    """
    Only what began while we were cut off is forgiven.
    """
    play(
        (0, [probe(True), probe(True, "b")], "healthy"),
        (30, [probe(False)] * 3, "down"),
        (31, [timeout(), timeout("b")], "down"),
        (32, probe(True, "b"), "down"),
    )


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


# --- Bans and the way back ---


def test_a_provider_comes_back_by_one_trial_and_then_in_steps():
    """
    A success during the ban is none yet; each step is held.
    """
    play(
        (0, [probe(False)] * 3, "down 0"),
        (5, probe(True), "down 0"),
        (10, TICK, "down 0"),
        (15, probe(True), "degraded 0.05"),
        (20, probe(True), "degraded 0.05"),
        (44, probe(True), "degraded 0.05"),
        (45, probe(True), "degraded 0.25"),
        (75, probe(True), "degraded 0.5"),
        (105, probe(True), "degraded 1"),
        (135, probe(True), "healthy 1"),
    )


def test_a_step_is_not_left_while_something_fails_or_nothing_is_known():
    """
    One failure holds it, and so does silence.
    """
    play(
        (0, [probe(False)] * 3, "down 0"),
        (15, probe(True), "degraded 0.05"),
        (45, TICK, "degraded 0.05"),
        (46, probe(False), "degraded 0.05"),
        (50, TICK, "degraded 0.05"),
        (55, probe(True), "degraded 0.25"),
        (84, lost(1), "degraded 0.25"),
        (86, probe(True), "degraded 0.25"),
        (86 + RULES.window_s, probe(True), "degraded 0.5"),
    )


def test_a_failed_trial_bans_for_twice_as_long_up_to_a_limit():
    """
    One result is enough; 10, 20, 40 ... 300 s.
    """
    standing, _ = play((0, [probe(False)] * 3, "down 0"))
    now, lengths = 0.0, []
    for _ in range(7):
        until_s = standing.case("a").cells[None].breaker.banned_until_s
        lengths.append(until_s - now)
        now = until_s + 1
        standing, _ = play(
            (until_s - 1, probe(False), "down 0"),
            (until_s, TICK, "down 0"),
            (now, probe(False), "down 0"),
            standing=standing,
        )

    assert lengths == [10, 20, 40, 80, 160, 300, 300]


def test_a_relapse_on_the_way_back_bans_for_longer():
    """
    F20: the circuit forgets only when the last step was held.
    """
    standing, _ = play(
        (0, [probe(False)] * 3, "down 0"),
        (15, probe(True), "degraded 0.05"),
        (46, probe(True), "degraded 0.25"),
        (50, [probe(False)] * 3, "down 0"),
    )
    assert 70 == standing.case("a").cells[None].breaker.banned_until_s


def test_a_trial_is_as_deep_as_the_reason_of_the_ban():
    """
    An API that answered all along is no proof that media flows again.
    """
    play(
        (0, [probe(True), canary(True)], "healthy"),
        (1, [canary(False)] * 3, "down 0"),
        (15, probe(True), "down 0"),
        (20, probe(True), "down 0"),
        (25, canary(True), "degraded 0.05"),
    )


def test_a_clients_start_is_a_trial_too():
    """
    Everybody was banned, so it was tried, and it works.
    """
    play((0, [probe(False)] * 3, "down 0"), (15, join(1, True), "degraded 0.05"))


def test_without_probes_a_few_starts_are_the_trial():
    """
    A ban never lasts for ever.
    """
    play(
        (0, [lost(n) for n in range(4)], "down 0"),
        (11, TICK, "unknown 0.05"),
        (12, join(9, True), "degraded 0.05"),
    )


# --- Operators, answers, cadence ---


def test_an_operators_word_outweighs_all_evidence():
    """
    Disabled is disabled; enabled again it is judged by what is observed.
    """
    standing, news = play(
        (0, [probe(True), fresh()], "healthy 1"),
        (
            1,
            OperatorSaid(provider="a", word=Said.DISABLED, because="contract ended"),
            "disabled 0",
        ),
        (2, [probe(True), fresh()], "disabled 0"),
    )
    assert "contract ended" == news[-1].because
    assert (False, "disabled") == verdict.public_answer(standing, "a")
    assert Grade.DISABLED is grade(RULES, standing, "a", 2)
    play(
        (3, OperatorSaid(provider="a", word=Said.ENABLED, because="back"), "healthy 1"),
        standing=standing,
    )


def test_what_is_mended_is_trusted_again_at_once():
    """
    No ban, no steps.
    """
    standing, _ = play(
        (0, probe(True), "healthy"),
        (1, [probe(False)] * 3 + [lost(n) for n in range(4)], "down 0"),
        (2, OperatorSaid(provider="a", word=Said.MENDED, because="new certificate"), "healthy 1"),
    )
    assert standing.case("a").cells[None].breaker.circuit is Circuit.CLOSED


def test_a_suspect_is_probed_more_often():
    """
    From its first failure until it is trusted again.
    """
    standing, _ = play((0, probe(True), "healthy"))
    assert 30 == interval_s(RULES, standing, "a")
    assert 300 == interval_s(RULES, standing, "a", Level.END_TO_END)

    standing, _ = play((30, probe(False), "healthy"), standing=standing)
    assert 5 == interval_s(RULES, standing, "a")
    assert 15 == interval_s(RULES, standing, "a", Level.END_TO_END)
    assert 30 == interval_s(RULES, standing, "stranger")


def test_a_silence_has_the_others_probed_sooner_until_one_answered():
    """
    To know whether it is them or us.
    """
    standing, _ = play((0, [probe(True), probe(True, "b")], None), (30, timeout(), "healthy"))
    assert 5 == interval_s(RULES, standing, "b")

    standing, _ = play((31, probe(True, "b"), None), standing=standing)
    assert 30 == interval_s(RULES, standing, "b")


def test_first_probes_are_spread_by_the_hash_of_a_name():
    """
    The same in every run, and all over the interval.
    """
    offsets = [offset_s(f"provider-{n}", 30.0) for n in range(200)]

    assert offsets == [offset_s(f"provider-{n}", 30.0) for n in range(200)]
    assert all(0 <= one < 30 for one in offsets)
    assert min(sum(10 * k <= one < 10 * (k + 1) for one in offsets) for k in range(3)) > 40


# --- History ---


def test_uptime_error_rate_and_latency_are_those_of_the_window():
    """
    Down for one minute of ten.
    """
    rows = [(t, probe(True, latency_s=0.1), None) for t in range(0, 300, 10)]
    rows += [(300, [probe(False)] * 3, "down"), (330, probe(True, latency_s=0.4), "degraded")]
    rows += [(t, probe(True, latency_s=0.1), None) for t in range(340, 601, 10)]
    standing, _ = play(*rows)
    short, hour, day = windows(RULES, standing, "a", 601)

    assert (300, 3600, 86_400) == (short.window_s, hour.window_s, day.window_s)
    assert hour.uptime == pytest.approx(570 / 600, abs=0.01)
    assert hour.error_rate == pytest.approx(3 / 61, abs=0.002)
    assert hour.latency_s == pytest.approx((57 * 0.1 + 0.4) / 58, abs=0.001)
    assert short.uptime == pytest.approx(1.0)
    assert (day.uptime, day.tries) == (pytest.approx(hour.uptime), hour.tries)


def test_time_without_observations_is_not_counted():
    """
    A server that slept for an hour was neither up nor down.
    """
    history = passed(passed(History(), True, 0.0), True, 4000.0)

    assert 120 == sum(bucket.known_s for bucket in history.hours)


def test_history_is_bounded():
    """
    However long it runs.
    """
    history = History()
    for minute in range(3 * 24 * 60):
        history = tried(passed(history, True, 60.0 * minute), True, 60.0 * minute)

    assert MINUTES == len(history.minutes)
    assert HOURS == len(history.hours)
    assert MINUTES == summary(history, 3600.0, 60.0 * minute).tries


@pytest.mark.parametrize(
    ("down_s", "errors", "expected"),
    [
        (0, 0, Grade.EXCELLENT),
        (10, 0, Grade.EXCELLENT),
        (30, 5, Grade.HEALTHY),
        (30, 10, Grade.WARNING),
        (70, 0, Grade.WARNING),
    ],
)
def test_a_grade_is_a_word_for_people(down_s, errors, expected):
    """
    99 %; 95 % and under 10 % errors; less.
    """
    history = passed(History(), None, 0.0)
    for second in range(10, 1001, 10):
        history = passed(history, second > down_s, float(second))
        history = tried(history, second > 10 * errors, float(second))
    case = verdict.Case(history=history, verdict=Verdict(word=Word.HEALTHY, since_s=0))

    assert expected is grade(RULES, Standing(cases={"a": case}), "a", 1000)


def test_three_failures_in_a_row_are_critical():
    """
    Whatever the last hour was like, and even while media flows.
    """
    standing, _ = play((0, [probe(True), fresh()], "healthy"), (1, [probe(False)] * 3, "degraded"))

    assert Grade.CRITICAL is grade(RULES, standing, "a", 1)
    assert Grade.UNKNOWN is grade(RULES, Standing(), "a", 1)


# --- Bounds ---


def test_what_is_kept_is_bounded_whatever_clients_send():
    """
    Clients, rooms, networks, regions and providers without number, and names without end.
    """
    rules = Rules(votes_max=50, regions_max=4, providers_max=3)
    standing = Standing()
    for n in range(600):
        for one in (
            lost(n, region=f"r{n}"),
            join(n, False, region=f"r{n}", provider=f"p{n}"),
            QualityReported(**(who(n) | {"client": "x" * 5000 + str(n)}), loss=0.5),
        ):
            standing, _ = judge(rules, standing, one, n / 10)
    assert 3 == len(standing.cases)
    for case in standing.cases.values():
        assert len(case.cells) <= 5
        for votes in case.votes.values():
            assert len(votes) <= 50
            assert all(0 <= client < 1 << 32 for client in votes)


def test_a_network_that_sends_many_clients_does_not_push_out_the_others():
    """
    The votes of the crowd go first.
    """
    standing, _ = play(
        (0, [fresh(1), fresh(2)], None),
        (1, [lost(n, network="flood") for n in range(10, 900)], None),
        (2, TICK, None),
    )
    votes = standing.case("a").votes

    assert {mark(name) % NETWORK_MARKS for name in ("net-1", "net-2", "flood")} == {
        one.network for ballot in votes.values() for one in ballot.values()
    }


def test_many_clients_that_media_reaches_at_once_count_as_one_after_the_other():
    """
    Judged in one step: the same votes, the same regions, the same word.
    """
    known = [probe(True), fresh(1, region="eu"), lost(2), join(3, False)]
    found = [(n, region) for n, region in zip(range(30), itertools.cycle((None, "eu", "us")))]
    many = ManyFresh(
        provider="a",
        reports=[Reached(f"client-{n}", f"room-{n}", f"net-{n}", region) for n, region in found],
    )

    one_by_one, _ = play((0, known, None), (1, [fresh(n, region=r) for n, r in found], None))
    at_once, _ = play((0, known, None), (1, many, None))

    this, that = one_by_one.case("a"), at_once.case("a")
    assert this.votes == that.votes
    assert this.cells == that.cells
    assert this.verdict == that.verdict


def test_what_is_heard_from_elsewhere_is_bounded_like_our_own():
    """
    However many nodes say whatever: votes, regions, no time to come, no provider unheard of.
    """
    rules = Rules(votes_max=20, regions_max=3)
    votes = [
        vote_of(lost(n), f"region {n}", ok=False, because="", now=1e9 + n) for n in range(500)
    ]
    said = HeardElsewhere(
        provider="a",
        votes={Ballot.MEDIA: votes},
        fresh_s={f"region {n}": 1e9 for n in range(50)},
    )
    standing, _ = judge(rules, Standing(), fresh(1), 1.0)
    for one in (said, replace(said, provider="nobody")):
        standing, _ = judge(rules, standing, one, 2.0)

    case = standing.case("a")
    assert list(standing.cases) == ["a"]
    assert len(case.heard[Ballot.MEDIA]) <= 20
    assert len(case.cells) <= 4
    assert all(one.at_s <= 2.0 for one in case.heard[Ballot.MEDIA].values())
    assert set(case.heard_fresh_s.values()) == {2.0}

    forgotten = replace(said, votes={}, fresh_s={})
    standing, _ = judge(rules, standing, forgotten, 3.0)
    assert standing.case("a").counted(Ballot.MEDIA) == list(case.votes[Ballot.MEDIA].values())


def test_many_votes_are_counted_now_and_then_and_at_every_tick():
    """
    A storm of reports costs no more than it must.
    """
    standing, _ = play((0, [probe(True), *(fresh(n) for n in range(60)), TICK], "healthy"))
    storm = [lost(n) for n in range(60)]
    play((0.1, storm, "healthy"), (0.1, TICK, "down"), standing=standing)
    play((0.1, storm, "healthy"), (0.2, lost(1), "down"), standing=standing)


def test_a_deleted_provider_is_forgotten():
    """
    Nothing of it is kept.
    """
    standing, _ = play((0, [probe(True), probe(True, "b")], None))

    assert ["b"] == list(verdict.forget(standing, "a").cases)


@pytest.mark.parametrize(
    "bad",
    [
        {"min_clients": 1},
        {"fail_rate": 0.0},
        {"steps": (0.5, 0.2, 1.0)},
        {"steps": (0.5,)},
        {"steps": ()},
        {"windows_s": (1.0,)},
        {"ban_s": 400.0},
        {"fresh_s": float("nan")},
    ],
)
def test_rules_that_cannot_work_are_refused(bad):
    """
    One client is never enough, by any configuration.
    """
    with pytest.raises(ConfigError, match=next(iter(bad))):
        Rules(**bad)


# --- Invariants in random worlds ---

PROVIDERS = st.sampled_from(["a", "b", "c"])
REGIONS = st.sampled_from([None, "eu", "us"])
LEVELS = st.sampled_from(list(Level))


@st.composite
def reports(draw, clients=None, streams=None, networks=None):
    """Return any report; of given clients, rooms or networks only."""
    number = draw(st.integers(0, 9) if clients is None else clients)
    fields = who(
        number,
        stream=None if streams is None else draw(streams),
        network=None if networks is None else draw(networks),
        provider=draw(PROVIDERS),
        region=draw(REGIONS),
    )
    kind = draw(st.sampled_from([StartEnded, JoinEnded, MediaLost, MediaFresh, QualityReported]))
    if kind in (StartEnded, JoinEnded):
        return kind(**fields, ok=draw(st.booleans()), because="")
    return (
        kind(**fields, loss=draw(st.floats(0, 1))) if kind is QualityReported else kind(**fields)
    )


PROBES = st.builds(
    ProbeEnded,
    provider=PROVIDERS,
    region=REGIONS,
    level=LEVELS,
    ok=st.booleans(),
    because=st.just("seen"),
    answered=st.booleans(),
    own_trouble=st.booleans(),
)
ORDERS = st.builds(
    OperatorSaid, provider=PROVIDERS, word=st.sampled_from(list(Said)), because=st.just("asked")
)


def worlds(*observations):
    """Return worlds: what is observed, each some time after the last."""
    waits = st.sampled_from([0.0, 0.3, 1.0, 5.0, 12.0, 31.0, 70.0, 400.0])
    return st.lists(st.tuples(waits, st.one_of(*observations, st.just(TICK))), max_size=60)


def unfold(world, rules=RULES):
    """Yield (now, observation, standing, news) after each observation."""
    standing, now = Standing(), 0.0
    for wait_s, one in world:
        now += wait_s
        standing, news = judge(rules, standing, one, now)
        yield now, one, standing, news


def words_of(standing):
    """Return every word that stands."""
    return {
        found.word
        for case in standing.cases.values()
        for found in (case.verdict, *(cell.verdict for cell in case.cells.values()))
    }


ONE = {
    "client": reports(clients=st.just(1)),
    "room": reports(streams=st.just("one")),
    "network": reports(networks=st.just("one")),
}


@pytest.mark.parametrize("one", ONE)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_one_client_room_or_network_never_condemns(one, data):
    """
    Whatever it sends, however often, and however well the probes do.
    """
    well = PROBES.filter(lambda probe: probe.ok)
    for _, _, standing, _ in unfold(data.draw(worlds(ONE[one], well))):
        assert not words_of(standing) & {Word.DOWN}
        assert all(
            cell.breaker.circuit is Circuit.CLOSED
            for case in standing.cases.values()
            for cell in case.cells.values()
        )


@given(
    worlds(reports(clients=st.integers(0, 1)), PROBES.filter(lambda p: p.level is Level.CONTROL))
)
@settings(max_examples=100, deadline=None)
def test_failed_control_probes_never_make_it_unhealthy_while_media_is_fresh(world):
    """
    In any order, in any region, before and after bans.
    """
    fresh_s = {}
    for now, one, standing, _ in unfold(world):
        if isinstance(one, MediaFresh) or (isinstance(one, JoinEnded) and one.ok):
            fresh_s[one.provider, one.region] = now
        for name in standing.cases:
            whole_s = fresh_s.get((name, None), float("-inf"))
            if now - whole_s <= RULES.fresh_s and not isinstance(one, (MediaLost, StartEnded)):
                if one is TICK or getattr(one, "provider", None) == name:
                    assert verdict.public_answer(standing, name)[0]


@given(worlds(reports(), PROBES, ORDERS))
@settings(max_examples=150, deadline=None)
def test_every_verdict_is_sound(world):
    """
    It says why, since when and on what; news tell every change; bans are bounded; it is the same
    again.
    """
    words = {}
    for now, _, standing, news in unfold(world):
        for told in news:
            assert told.because
            if told.name == "verdict.changed":
                assert words.get((told.provider, told.region), Word.UNKNOWN) is told.was
                words[told.provider, told.region] = told.verdict.word
        for name, case in standing.cases.items():
            assert words.get((name, None), Word.UNKNOWN) is case.verdict.word
            for place, cell in case.cells.items():
                found = cell.verdict
                assert found.because
                assert found.since_s <= now
                assert found.word is not Word.DISABLED
                assert found.word is Word.UNKNOWN or found.level is not None
                assert found.word is not Word.DOWN or found.share == 0
                assert found.share in (0.0, 1.0, *RULES.steps)
                assert cell.breaker.banned_until_s <= now + RULES.ban_s_max
                if place is not None:
                    assert words.get((name, place), Word.UNKNOWN) is found.word
    again = [standing for *_, standing, _ in unfold(world)]
    assert again == [standing for *_, standing, _ in unfold(world)]


@given(worlds(PROBES.map(lambda p: replace(p, ok=False, answered=False, own_trouble=False))))
@settings(max_examples=60, deadline=None)
def test_silence_alone_never_condemns_one_of_several(world):
    """
    Nobody answers: the observer is suspected.
    """
    seen = [(0.0, probe(True, name)) for name in "abc"]
    for _, _, standing, _ in unfold(seen + world):
        assert Word.DOWN not in words_of(standing)

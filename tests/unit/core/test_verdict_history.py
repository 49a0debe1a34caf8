"""hitless.core.verdict: what is remembered, and that it is bounded."""

import itertools
from dataclasses import replace

import pytest
from unit.core.observations import RULES, TICK, fresh, join, lost, play, probe, who

from hitless.core import verdict
from hitless.core.evidence import Rules, Verdict, Word
from hitless.core.observation import (
    NETWORK_MARKS,
    Ballot,
    HeardElsewhere,
    ManyFresh,
    QualityReported,
    Reached,
    mark,
    vote_of,
)
from hitless.core.uptime import HOURS, MINUTES, Grade, History, passed, summary, tried
from hitless.core.verdict import Standing, grade, judge, windows
from hitless.errors import ConfigError


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

"""hitless.core.verdict: the table of signs, probes, and when the observer is suspected."""

import itertools
from dataclasses import replace

import pytest
from unit.core.observations import RULES, TICK, canary, fresh, join, lost, play, probe, timeout

from hitless.core import evidence, verdict
from hitless.core.evidence import WORDS, Cell, Sign, Word, look, row_after
from hitless.core.observation import NO_VOTES, Level, MediaFresh, cast, vote_of
from hitless.core.verdict import PUBLIC, windows


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

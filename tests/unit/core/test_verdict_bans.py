"""hitless.core.verdict: bans, the way back, and what an operator says."""

from unit.core.observations import RULES, TICK, canary, fresh, join, lost, play, probe, timeout

from hitless.core import verdict
from hitless.core.cadence import interval_s, offset_s
from hitless.core.circuit import Circuit
from hitless.core.observation import Level, OperatorSaid, Said
from hitless.core.uptime import Grade
from hitless.core.verdict import grade


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

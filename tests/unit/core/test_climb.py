"""hitless.core.climb"""

from hitless.core.climb import STEPS, Climb, Evidence


GOOD, POOR, DOWN = Evidence.GOOD, Evidence.POOR, Evidence.DOWN


def climbed(*looks, step_s=60.0):
    """Return the share after each look, given as (time, evidence)."""
    climb, shares = Climb(), []
    for now, evidence in looks:
        climb = climb.after(evidence, now, step_s=step_s)
        shares.append(climb.share)
    return shares


def test_a_recovered_provider_climbs_a_step_each_time_it_has_proved_one():
    """
    5, 25, 50, 100 %, and there it stays.
    """
    looks = [(10.0 * look, GOOD) for look in range(40)]
    shares = climbed(*looks)

    assert sorted(set(shares)) == [0.05, 0.25, 0.5, 1.0]
    assert [shares.index(step) * 10.0 for step in STEPS] == [0.0, 60.0, 120.0, 180.0]
    assert shares == sorted(shares)


def test_one_look_never_climbs_two_steps():
    """
    However long nobody looked.
    """
    assert climbed((0.0, GOOD), (10_000.0, GOOD)) == [0.05, 0.25]


def test_it_does_not_climb_while_things_are_poor_and_then_proves_the_whole_step_anew():
    """
    What it has it keeps.
    """
    looks = [(0.0, GOOD), (59.0, POOR), (60.0, GOOD), (100.0, POOR), (159.0, GOOD), (160.0, GOOD)]

    assert climbed(*looks) == [0.05, 0.05, 0.05, 0.05, 0.05, 0.25]


def test_poor_evidence_does_not_begin_a_climb():
    """
    Unknown is no recovery.
    """
    assert climbed((0.0, POOR), (1.0, POOR), (2.0, GOOD)) == [0.0, 0.0, 0.05]


def test_a_fall_takes_everything_and_the_next_climb_begins_below():
    """
    From any step.
    """
    for step in range(len(STEPS) + 1):
        fallen = Climb(step=step, since_s=1.0).after(DOWN, 500.0, step_s=60.0)
        assert fallen.share == 0.0
        assert fallen.after(GOOD, 501.0, step_s=60.0).share == 0.05

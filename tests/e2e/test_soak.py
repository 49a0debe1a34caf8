"""hitless soak: what it judges, and that Ctrl-C ends it in order; `make test` runs it whole."""

from __future__ import annotations

import pytest

from hitless.errors import ConfigError
from hitless.lab.soak import Plan, Sample, compared, judge_counts


PLAN = Plan(seconds=180, move_every_s=20)


def samples(tasks=lambda at_s: 12, threads=lambda at_s: 2, fds=lambda at_s: 11, memory=None):
    """Return what the viewer held before each move, and 10 s after it, when it holds more."""
    memory = memory or (lambda at_s: 100 * 2**20)
    return [
        Sample(
            at_s=float(at_s),
            process="viewer",
            tasks=tasks(at_s),
            threads=threads(at_s),
            descriptors=fds(at_s) + (0 if at_s % 20 == 0 else 50),
            memory_bytes=memory(at_s),
            is_settled=at_s % 20 == 0,
        )
        for at_s in range(10, 190, 10)
    ]


def failed(taken, plan=PLAN):
    """Return the names of the checks that did not pass."""
    return [check.name for check in judge_counts(taken, plan, ["viewer"]) if not check.passed]


def test_what_stays_as_it_was_passes():
    """
    What is held for a while after each move is no leak.
    """
    assert [] == failed(samples())


@pytest.mark.parametrize(
    ("figure", "grown"),
    [
        ("tasks", {"tasks": lambda at_s: 12 + at_s // 20}),
        ("threads", {"threads": lambda at_s: 2 + at_s // 60}),
        ("descriptors", {"fds": lambda at_s: 11 + at_s // 20}),
        ("memory", {"memory": lambda at_s: (100 + at_s // 5) * 2**20}),
    ],
)
def test_one_more_with_each_move_is_a_leak(figure, grown):
    """
    It is named, and nothing else is.
    """
    assert [figure] == failed(samples(**grown))


def test_growth_while_it_warms_up_is_no_leak():
    """
    Caches fill in the first quarter.
    """
    assert [] == failed(samples(memory=lambda at_s: (50 + min(at_s, 45)) * 2**20))


def test_a_run_without_samples_does_not_pass():
    """
    Nothing to compare is no proof of anything.
    """
    assert ["tasks", "threads", "descriptors", "memory"] == failed([])


def test_whole_rotations_are_compared():
    """
    What a stand-in holds depends on whether it carries the stream.
    """
    early, late = compared(samples(), PLAN)

    assert [60, 80, 100] == [sample.at_s for sample in early]
    assert [140, 160, 180] == [sample.at_s for sample in late]


@pytest.mark.parametrize(
    "plan",
    [
        {"seconds": 159, "move_every_s": 20},
        {"seconds": 59, "loss": True},
        {"seconds": float("nan")},
        {"seconds": 1800, "move_every_s": 16},
        {"seconds": 1800, "move_every_s": float("nan")},
    ],
)
def test_a_run_too_short_to_compare_is_refused(plan):
    """
    Before anything is started.
    """
    with pytest.raises(ConfigError, match="is not possible"):
        Plan(**plan)


def test_ctrl_c_ends_a_soak_and_everything_it_started(home):
    """
    Exit status 130 within 5 s, and no process is left.
    """
    with home.running("soak", "--loss", "--seconds", "60") as soak:
        soak.until_said("on air with agora")
        assert len(soak.family) >= 7
        soak.interrupt()

        assert 130 == soak.ended_within(5)
        assert [] == soak.all_gone_within(0.0)
        assert "Traceback" not in soak.said()

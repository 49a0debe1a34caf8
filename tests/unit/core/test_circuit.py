"""hitless.core.circuit"""

import itertools

from hitless.core.circuit import TRANSITIONS, Breaker, Circuit, Signal


BANS = {"ban_s": 10.0, "ban_s_max": 300.0}


def after(circuit, signal):
    """Return what a circuit becomes."""
    return Breaker(circuit=circuit).after(signal, 0.0, **BANS).circuit


def test_every_circuit_answers_every_signal():
    """
    The table leaves nothing to chance.
    """
    assert set(itertools.product(Circuit, Signal)) == set(TRANSITIONS)


def test_success_restores_trust_from_anywhere():
    """
    Media that came is evidence, whatever was thought before.
    """
    assert {after(circuit, Signal.SUCCESS) for circuit in Circuit} == {Circuit.CLOSED}


def test_failure_ends_trust_from_anywhere():
    """
    There is no second chance within a trial.
    """
    assert {after(circuit, Signal.FAILURE) for circuit in Circuit} == {Circuit.OPEN}


def test_time_alone_changes_nothing_but_a_ban_into_a_trial():
    """
    Waiting is no evidence.
    """
    assert {circuit: after(circuit, Signal.COOLED) for circuit in Circuit} == {
        Circuit.CLOSED: Circuit.CLOSED,
        Circuit.OPEN: Circuit.HALF_OPEN,
        Circuit.HALF_OPEN: Circuit.HALF_OPEN,
    }


def test_bans_double_and_then_stop_growing():
    """
    A provider that keeps failing its trials waits 10, 20, 40 ... 300 seconds.
    """
    breaker, now, lengths = Breaker(), 0.0, []
    for _ in range(7):
        breaker = breaker.after(Signal.COOLED, now, **BANS).after(Signal.FAILURE, now, **BANS)
        lengths.append(breaker.banned_until_s - now)
        now = breaker.banned_until_s

    assert lengths == [10, 20, 40, 80, 160, 300, 300]


def test_one_good_trial_forgets_every_earlier_ban():
    """
    The next ban is a first one again.
    """
    banned = Breaker(circuit=Circuit.HALF_OPEN, bans=5).after(Signal.SUCCESS, 0.0, **BANS)

    assert banned == Breaker()


def test_failures_during_a_ban_do_not_lengthen_it():
    """
    A banned provider that is tried for want of a better one is not punished for that.
    """
    banned = Breaker().after(Signal.FAILURE, 0.0, **BANS)

    assert banned.after(Signal.FAILURE, 5.0, **BANS) == banned


def test_only_an_open_circuit_refuses_new_streams():
    """
    On trial means that somebody must try.
    """
    assert [c for c in Circuit if not Breaker(circuit=c).admits] == [Circuit.OPEN]

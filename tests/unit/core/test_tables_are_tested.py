"""Change any one entry of a table: some test must notice."""

import functools

import pytest
from simulation import invariants
from simulation.world import World
from unit.core import (
    test_circuit,
    test_publishing,
    test_publishing_dark,
    test_publishing_orders,
    test_viewing,
    test_viewing_on_air,
)

from hitless.core import circuit
from hitless.core.circuit import TRANSITIONS, Circuit
from hitless.core.state import MOVES, Phase


CIRCUITS = [
    pytest.param(pair, other, id=f"{pair[0]}+{pair[1]}={other}")
    for pair, target in TRANSITIONS.items()
    for other in Circuit
    if other is not target
]

PHASES = [pytest.param(a, b, id=f"{a}->{b}") for a in Phase for b in Phase if a is not b]


def all_of(module):
    """Return the tests of a module; none of them takes arguments."""
    return [test for name, test in vars(module).items() if name.startswith("test_")]


def transcripts():
    """Return every transcript."""
    modules = (
        test_publishing,
        test_publishing_orders,
        test_publishing_dark,
        test_viewing,
        test_viewing_on_air,
    )
    return [test for module in modules for test in all_of(module)]


def is_noticed(tests):
    """Whether any of the tests fails."""
    for test in tests:
        try:
            test()
        except (AssertionError, KeyError):
            return True
    return False


@pytest.mark.parametrize(("pair", "other"), CIRCUITS)
def test_no_entry_of_the_circuit_may_change_unnoticed(pair, other, monkeypatch):
    """
    Each of the nine transitions, to each of the two other circuits.
    """
    monkeypatch.setitem(circuit.TRANSITIONS, pair, other)

    assert is_noticed(all_of(test_circuit))


@pytest.mark.parametrize("pair", TRANSITIONS, ids=lambda pair: f"{pair[0]}+{pair[1]}")
def test_no_entry_of_the_circuit_may_be_missing(pair, monkeypatch):
    """
    The table is complete.
    """
    monkeypatch.delitem(circuit.TRANSITIONS, pair)

    assert is_noticed(all_of(test_circuit))


@functools.cache
def moves_seen():
    """Return every change of phase in the transcripts and in some worlds."""
    seen = set()
    moved = invariants.Checker._moved

    def watched(self, *args):
        moved(self, *args)
        seen.update(self.moves)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(invariants.Checker, "_moved", watched)
        for test in transcripts():
            test()
        for seed in range(60):
            World(seed).run()
    return frozenset(seen)


@pytest.mark.parametrize(("a", "b"), PHASES)
def test_a_phase_follows_another_if_and_only_if_the_table_says_so(a, b):
    """
    What the table allows happens somewhere, and what happens is allowed: no entry can be added
    to `MOVES` or taken from it unnoticed.
    """
    assert ((a, b) in moves_seen()) is (b in MOVES[a])


@pytest.mark.parametrize(
    ("a", "b"), [case for case in PHASES if case.values[1] in MOVES[case.values[0]]]
)
def test_a_move_taken_from_the_table_breaks_a_transcript_or_a_world(a, b, monkeypatch):
    """
    The checker of every step really goes by the table.
    """
    monkeypatch.setitem(invariants.MOVES, a, MOVES[a] - {b})
    assert is_noticed((*transcripts(), *(World(seed).run for seed in range(60))))

"""
The way out and the way back of one region of one provider: banned, on trial, given new starts
in growing steps, trusted. A step is left only while nothing fails; a relapse bans for longer,
because the circuit is not closed, and so not forgotten, before the last step was held.
"""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from .circuit import Breaker, Circuit, Signal
from .evidence import Cell, Rules, Seen, Sign, Verdict, Word


def cooled(rules: Rules, cell: Cell, now: float) -> Cell:
    """
    Return the cell at `now` [s]: a ban that has run out becomes a trial.

    What was counted before does not count again, and rows of failures are one short of counting:
    the next result decides.
    """
    if cell.breaker.circuit is not Circuit.OPEN or now < cell.breaker.banned_until_s:
        return cell
    from_s = cell.breaker.banned_until_s
    rows = {
        level: replace(row, failures=min(row.failures, rules.max_failures - 1), since_s=from_s)
        for level, row in cell.rows.items()
    }
    breaker = _after(rules, cell.breaker, Signal.COOLED, now)
    return replace(cell, rows=rows, breaker=breaker, since_s=from_s, step=0, step_s=from_s)


def guarded(rules: Rules, cell: Cell, seen: Seen, now: float) -> Cell:
    """Return the cell with its circuit and its verdict after what is seen of it at `now` [s]."""
    was, level = cell.verdict, seen.level
    if seen.word is Word.DOWN or seen.keeps_out:
        breaker = _after(rules, cell.breaker, Signal.FAILURE, now)
        cell = replace(cell, breaker=breaker, step=0, condemned=seen.blamed)
        word, because = seen.word, seen.because
    else:
        cell = _stepped(rules, cell, seen, now)
        word, because = _held(rules, cell, seen)
        if because == was.because != seen.because:
            level = was.level
    verdict = Verdict(
        word=word,
        level=level,
        since_s=was.since_s if was.word is word else now,
        because=because,
        reporters=seen.reporters,
        unproven=seen.unproven,
        share=_share(rules, cell, seen),
    )
    return replace(cell, verdict=verdict)


def _after(rules: Rules, breaker: Breaker, signal: Signal, now: float) -> Breaker:
    return breaker.after(signal, now, ban_s=rules.ban_s, ban_s_max=rules.ban_s_max)


def _stepped(rules: Rules, cell: Cell, seen: Seen, now: float) -> Cell:
    """Return the cell one step further on its way back, if it may go."""
    if cell.breaker.circuit is not Circuit.HALF_OPEN:
        return cell
    if cell.step == 0:
        return replace(cell, step=1, step_s=now) if seen.has_passed else cell
    if now - cell.step_s < rules.step_s or not seen.is_calm or not seen.is_good:
        return cell
    if cell.step < len(rules.steps):
        return replace(cell, step=cell.step + 1, step_s=now)
    return replace(cell, breaker=_after(rules, cell.breaker, Signal.SUCCESS, now), step=0)


def _held(rules: Rules, cell: Cell, seen: Seen) -> tuple[Word, str]:
    """Return the word of a cell that nothing speaks against now, and why."""
    was = cell.verdict
    if cell.breaker.circuit is Circuit.CLOSED:
        return seen.word, seen.because
    if cell.step:
        percent = round(100 * rules.steps[cell.step - 1])
        return Word.DEGRADED, f"coming back: {percent} % of new starts"
    if (
        cell.breaker.circuit is Circuit.HALF_OPEN
        and not seen.is_probed
        and seen.media is not Sign.GOOD
    ):
        return Word.UNKNOWN, "its ban is over and nobody probes it: a few starts will tell"
    if was.word is Word.DOWN and seen.media is not Sign.GOOD:
        return Word.DOWN, was.because
    return Word.DEGRADED, was.because


def _share(rules: Rules, cell: Cell, seen: Seen) -> float:
    """Return which share of new starts it is given [0..1]."""
    match cell.breaker.circuit:
        case Circuit.CLOSED:
            return 1.0
        case Circuit.OPEN:
            return 0.0
        case Circuit.HALF_OPEN:
            if cell.step:
                return rules.steps[cell.step - 1]
            return 0.0 if seen.is_probed else rules.steps[0]  # somebody must try it
        case _:
            assert_never(cell.breaker.circuit)

"""How often a provider is probed, and when first: often while suspect, and never all at once."""

from __future__ import annotations

import hashlib

from .case import Case
from .circuit import Circuit
from .evidence import Rules, Word
from .observation import Level
from .verdict import Standing


def interval_s(
    rules: Rules, standing: Standing, provider: str, level: Level = Level.CONTROL
) -> float:
    """Return how long after the beginning of a provider's last probe the next one is due [s]."""
    usual_s, suspect_s = rules.control_interval_s, rules.suspect_interval_s
    if level is not Level.CONTROL:
        usual_s, suspect_s = rules.canary_interval_s, rules.canary_suspect_interval_s
    case = standing.case(provider)
    if case.disabled_because is not None:
        return usual_s
    is_wanted = level is Level.CONTROL and _is_witness_wanted(standing, provider)
    return min(usual_s, suspect_s) if _is_suspect(case) or is_wanted else usual_s


def offset_s(name: str, interval_s: float) -> float:
    """Return when a first probe is due [s], spread over the interval by a hash of the name."""
    digest = hashlib.blake2b(name.encode(errors="replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2.0**64 * interval_s


def _is_suspect(case: Case) -> bool:
    """Whether anything speaks against it, or it is on its way back."""
    return case.verdict.word in (Word.DOWN, Word.DEGRADED) or any(
        cell.breaker.circuit is not Circuit.CLOSED
        or any(row.failures for row in cell.rows.values())
        for cell in case.cells.values()
    )


def _is_witness_wanted(standing: Standing, provider: str) -> bool:
    """Whether somebody else is silent, and this one did not answer since: is it them, or us?"""
    silent_s = [
        other.unanswered_s
        for name, other in standing.cases.items()
        if name != provider and other.unanswered_s is not None
    ]
    answered_s = standing.case(provider).answered_s
    return bool(silent_s) and (answered_s is None or answered_s <= max(silent_s))

"""
When a publisher that lost its media may ask the next provider: its own moment among many.

A provider that fails takes the media of all its streams at once, and each publisher finds out by
itself, within the same tenth of a second. The list says how many streams a provider carries and
how many starts each accepts in a second; from these and its stream's id a publisher knows its
moment (`pacing.alone_s`), and needs nobody to tell it. As many as the next one accepts in a second
wait for nothing. What the control plane says meanwhile goes before.
"""

from __future__ import annotations

from dataclasses import replace

from . import pacing, rendezvous
from .state import Purpose, Session
from .turn import Turn


def wait_s(turn: Turn, s: Session, target: str | None) -> float:
    """Return how long a stream without media waits before it asks `target` [s]; 0: not."""
    lost = s.provider or (s.suspects[-1].provider if s.suspects else None)
    if lost is None or target is None:
        return 0.0
    affected, accepted_per_s = turn.carried(lost), turn.starts_per_s(target)
    if not pacing.is_crowd(affected, accepted_per_s):
        return 0.0
    return pacing.alone_s(rendezvous.key(s.stream), affected, accepted_per_s)


def waits(s: Session) -> bool:
    """Whether a move waits for its moment."""
    op = s.operation
    if op is None or op.purpose is not Purpose.FAILOVER or op.tried or s.rounds:
        return False
    return op.leg is None and op.retry_s is not None


def hastened(turn: Turn, s: Session) -> Session:
    """Return a session that waits no longer: somebody who knows more said where it goes."""
    if s.operation is None or not waits(s):
        return s
    return replace(s, operation=replace(s.operation, retry_s=turn.now))

"""Whom a publisher's start or move may ask next."""

from __future__ import annotations

from . import attempts
from .state import Operation, Phase, Purpose, Session
from .turn import Turn


def following(turn: Turn, s: Session, op: Operation) -> str | None:
    """Return whom `op` asks next; None: it has nobody left, or used its attempts."""
    p = turn.policy
    order = _candidates(turn, s, op)
    last = op.tried[-1] if op.tried else None
    again = last is not None and last.failure is not None and last.failure.asks_again
    if again and last is not None and last.provider in turn.active():
        # A short Retry-After keeps it out of the order, but is waited for.
        if turn.trusts(last.provider) and last.provider not in order:
            order = (*order, last.provider)
    match op.purpose:
        case Purpose.START | Purpose.MIGRATION:
            same, most = p.same_provider_retries, 1 + p.max_retries
        case _:
            same = p.same_provider_retries_on_air
            most = (1 + same) * max(1, len(order) + len(op.tried))
    return attempts.choose(order, op.tried, same_provider_retries=same, max_attempts=most)


def _candidates(turn: Turn, s: Session, op: Operation) -> tuple[str, ...]:
    """Return whom `op` may ask now, best first."""
    taken = {leg.provider for leg in s.legs}
    free = tuple(name for name in turn.eligible() if name not in taken)
    if op.target is not None:
        free = tuple(name for name in free if name == op.target)
    here = s.leg(s.on_air)
    if here is not None and here.carries:  # nothing is lost by staying: no doubtful provider
        return tuple(name for name in free if turn.trusts(name))
    suspects = {suspect.provider for suspect in s.suspects}
    failed = suspects | {attempt.provider for attempt in op.tried if attempt.failure is not None}
    shared = {turn.fault_domain(name) for name in failed}
    told = s.follower.provider if s.follower else None

    def doubts(name: str) -> tuple[bool, bool, bool, bool]:
        return (
            name in suspects,
            not turn.trusts(name),
            name != told,
            turn.fault_domain(name) in shared,  # what broke one may have broken the other
        )

    free = tuple(sorted(free, key=doubts))
    if free and s.phase is not Phase.OFF_AIR:
        return free
    # At last a new leg on the provider that is silent: its old one may be dead.
    busy = {leg.provider for leg in s.legs if leg.silent_s is None}
    return (*free, *(name for name in turn.eligible() if name in taken - busy))
